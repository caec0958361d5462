"""Folders and files that one process holds at a time, by a lock file that the system frees."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from core_model.errors import GiantError, RunError

LOCK = ".lock"
STAND_IN = ".held"
"""Ending of the file that stands in for a lock where the disk knows none: whoever makes it holds the lock."""
_CANNOT_LOCK = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL)
"""What a file system answers that knows no locks."""
READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)
"""What a place answers where this user may not write."""

log = logging.getLogger(__name__)


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
