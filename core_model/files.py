"""Files and folders: whole or not at all, held by one process, under names that can be used again.

Files appear under another name and are renamed. A lock is one that the system frees when its process dies.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import os
import re
import shutil
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout
from pydantic import BaseModel

from core_model.errors import GiantError, RunError, UsageError, file_bytes, printable

MOST_BYTES = 160
"""Longest name in UTF-8: file systems take 255, and we put digests, suffixes and temporary marks to it."""


LOCK = ".lock"

STAND_IN = ".held"
"""Ending of the file that stands in for a lock where the disk knows none: whoever makes it holds the lock."""

_CANNOT_LOCK = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL)
"""What a file system answers that knows no locks."""

READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)
"""What a place answers where this user may not write."""


log = logging.getLogger(__name__)

_DISK = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the disk is read-only",
    errno.EFBIG: "the file would be larger than the system allows",
    errno.EIO: "the disk is full or failing",
}

_NUMBER = re.compile(r"(?:os error|[Ee]rrno =?) ?(\d+)")

_TEXTS = {
    "database or disk is full": errno.ENOSPC,
    "attempt to write a readonly database": errno.EROFS,
    "disk I/O error": errno.EIO,
    "PytorchStreamWriter failed": errno.EIO,
    "inline_container.cc": errno.EIO,
}
"""What SQLite and torch make of the system's error: neither passes its number on."""

LONGEST = 150
"""Bytes of a name that its temporary name repeats: a name may have 255 in all."""


def safe_name(name: str) -> str:
    """A name that can be printed, and to which suffixes can be put, unique for each `name`.

    One that had to be changed or cut carries a digest of what it was.
    """
    text = printable(name)
    if text == name and len(text.encode()) <= MOST_BYTES:
        return name
    mark = "-" + hashlib.sha256(file_bytes(name)).hexdigest()[:8]
    return text.encode()[: MOST_BYTES - len(mark)].decode(errors="ignore") + mark


@contextmanager
def held(
    folder: Path,
    wait: bool,
    *,
    name: str = LOCK,
    remove: bool = False,
    error_class: type[GiantError] = RunError,
    fix: str = "Choose another --out",
) -> Iterator[None]:
    """Hold a folder, made where it is missing, for this process alone.

    The system frees the lock when the process dies, however it dies. A folder that another process holds is
    waited for with `wait`, and is an error otherwise. `name` is the lock file in the folder: two names are
    two locks. It stays there, since another process may be waiting for it, unless `remove` says that whoever
    comes next makes a new one. On a disk that knows no locks a file made by one process stands in; one that
    a dead process of this machine left does not count.

    Raises `error_class` where the folder is in use, or cannot be written (`fix` says what to do then).
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = _acquired(folder / name, wait)
    except Timeout as error:
        advice = f". If none is left on any machine, delete {error.lock_file}" if _stands_in(error) else ""
        raise error_class(
            "another process is working in the folder",
            where=folder,
            fix=f"Wait until it has finished{advice}",
        ) from error
    except OSError as error:
        raise error_class(
            f"the folder cannot be written ({error.strerror or error})", where=folder, fix=fix
        ) from error
    try:
        yield
        if remove:
            (folder / name).unlink(missing_ok=True)
    finally:
        lock.release()


def _acquired(path: Path, wait: bool) -> BaseFileLock:
    # Not per thread: a generator that holds a lock may be closed by another thread.
    lock = FileLock(path, thread_local=False, fallback_to_soft=False)
    try:
        _acquire(lock, wait)
    except Timeout:
        raise
    except OSError as error:
        if error.errno not in _CANNOT_LOCK:
            raise
        with suppress(OSError):
            path.unlink()
        log.warning(
            "%s: its disk cannot lock files (%s); a file stands in for the lock", path.parent, error.strerror
        )
        stand_in = SoftFileLock(path.with_name(path.name + STAND_IN), thread_local=False)
        _acquire(stand_in, wait)
        return stand_in
    return lock


def _stands_in(error: Timeout) -> bool:
    return str(error.lock_file).endswith(STAND_IN)


def _acquire(lock: BaseFileLock, wait: bool) -> None:
    """Take the lock; say so where that means waiting."""
    try:
        lock.acquire(blocking=False)
    except Timeout:
        if not wait:
            raise
        log.info("waiting for another process that holds %s", lock.lock_file)
        lock.acquire()


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path` to write to, and rename it to `path` when that went well.

    The folder is made where it is missing; content and name are on the disk on return. Where anything
    fails, `path` is as before and the temporary file is gone. Raises `OSError`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{_short(path.name)}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        part.touch()
        mode = part.stat().st_mode
        yield part
        part.chmod(mode)  # some libraries make files that nobody else may read, whatever the umask
        flush(part)
        part.replace(path)
        flush(path.parent)
    finally:
        with contextlib.suppress(OSError):  # what went wrong before says more
            part.unlink(missing_ok=True)


def leftovers(path: Path) -> list[Path]:
    """Temporary files of `replacing` beside `path`: of killed writers, where nobody else is writing it."""
    name = re.compile(rf"\.{re.escape(_short(path.name))}\.\d+-\d+\.part")
    try:
        return [item for item in path.parent.iterdir() if name.fullmatch(item.name)]
    except FileNotFoundError:
        return []


@contextlib.contextmanager
def writing(
    noun: str, where: Path, error_class: type[GiantError] = RunError, fix: str | None = None
) -> Iterator[None]:
    """Say in one line, as `error_class`, that `noun` cannot be written, however a library puts it."""
    try:
        yield
    except GiantError:
        raise
    except Exception as error:
        trouble = disk_trouble(error)
        if isinstance(error, OSError):
            trouble = error.strerror or str(error)
        if trouble is None:
            raise
        raise error_class(f"{noun} cannot be written ({trouble})", where=where, fix=fix) from error


def disk_trouble(error: BaseException) -> str | None:
    """In one line, what is wrong with the disk where that is why something failed; None where it is not.

    Also where a library turned the system's error into one of its own.
    """
    cause: BaseException | None = error
    while cause is not None:
        if (number := _number(cause)) in _DISK:
            name = cause.filename if isinstance(cause, OSError) else None
            return f"{name}: {_DISK[number]}" if name else _DISK[number]
        cause = cause.__cause__ or cause.__context__
    return None


def _number(error: BaseException) -> int:
    """The system's number of an error, 0 where it has none."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    if found := _NUMBER.search(str(error)):
        return int(found.group(1))
    return next((number for text, number in _TEXTS.items() if text in str(error)), 0)


def _short(name: str) -> str:
    return os.fsdecode(os.fsencode(name)[:LONGEST])


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Write a file so that it is either the old one or the new one. Raises `OSError`."""
    with replacing(path) as part:
        part.write_bytes(content)


def tensor_bytes(tensors: Mapping[str, Any], metadata: Mapping[str, str]) -> bytes:
    """A safetensors file of NumPy arrays, the same bytes for the same content.

    The library itself writes the metadata in an order that changes from call to call.
    """
    from safetensors.numpy import save

    content = save(dict(tensors), metadata=dict(metadata))
    length = int.from_bytes(content[:8], "little")
    head = json.dumps(json.loads(content[8 : 8 + length]), sort_keys=True, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    return len(head).to_bytes(8, "little") + head + content[8 + length :]


@contextlib.contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Give an empty folder beside `folder` to fill, and put it in its place when that went well.

    Where anything fails, what was there is as before and the new folder is gone. Raises `OSError`.
    """
    part = folder.with_name(f".{_short(folder.name)}.{uuid.uuid4().hex[:8]}.part")
    try:
        part.mkdir(parents=True)
        yield part
        _open_to_others(part)
        _swap(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _open_to_others(folder: Path) -> None:
    """Give the files of a new folder the mode that the user wants; those that others share keep theirs."""
    probe = folder / ".mode"
    probe.touch()
    mode = probe.stat().st_mode
    probe.unlink()
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.stat().st_nlink == 1:
            path.chmod(mode)


def _swap(part: Path, folder: Path) -> None:
    """Put `part` where `folder` is; what was there is gone only once the new one stands."""
    if not folder.exists():
        part.replace(folder)
        return
    old = folder.with_name(f".{_short(folder.name)}.{uuid.uuid4().hex[:8]}.old")
    folder.replace(old)
    part.replace(folder)
    shutil.rmtree(old)


def flush(path: Path) -> None:
    """Have the system write a file's content, or a folder's entries, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_value(path: Path, value: Any) -> None:
    """Write any JSON value, whole or not at all. Raises `OSError`."""
    write_bytes(path, (json.dumps(value, indent=1) + "\n").encode())


def write_json(path: Path, record: BaseModel) -> None:
    """Write a record as JSON, whole or not at all. Raises `RunError`."""
    write_text(path, record.model_dump_json(indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file so that it is either the old one or the new one, never half of it. Raises `RunError`."""
    temporary = path.with_name(f".{_short(path.name)}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise RunError(
            f"the file cannot be written ({error.strerror})", where=path, fix="Choose another --out"
        ) from error


def place_of(path: str | Path, source: str) -> Path:
    """A path that an option or a variable (`source`) gives, absolute, with `~` as the home folder.

    Raises `UsageError` where there is no such home.
    """
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError as error:
        fix = f"Give the folder in {source} without '~'"
        raise UsageError(
            "it begins with the home folder of a user who has none", where=path, fix=fix
        ) from error
