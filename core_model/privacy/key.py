"""The user's key file: it makes the names under which slides are known to others, and finds the slides again.

A pseudonym is a part of an HMAC-SHA256 of what the slide is (`core_model.slides.identity`), by a secret that
is in the key file alone. So it stays the same when the slide is moved, and tells nothing without the file.

first line      {"giant_key": 1, "secret": …}
other lines     {"id": …, "name": …, "path": …}     appended, one for each slide
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from core_model.errors import RunError, SlideError, UsageError
from core_model.files import flush, held, write_value
from core_model.slides.parts import from_anywhere

MARK = "pseudonyms.json"
"""File of a folder of results that says by which key its names were made; nobody learns the key from it."""

PREFIX = "slide-"
DIGITS, MORE = 16, 8
"""Hexadecimal digits of a pseudonym, and of what is put to that of a copy."""

log = logging.getLogger(__name__)


class Known(NamedTuple):
    """A slide with the pseudonym that it has."""

    id: str
    name: str
    path: str


class KeyFile:
    """A key file that is there, with what it says."""

    def __init__(self, path: Path, secret: bytes, known: Sequence[Known]) -> None:
        self.path, self.known = path, list(known)
        self._secret = secret

    @property
    def mark(self) -> str:
        """What tells this key from others, and does not give it away."""
        return self._digest("mark", "")[:DIGITS]

    def pseudonym(self, identity: str) -> str:
        """The name of the slide with that identity."""
        return PREFIX + self._digest("slide", identity)[:DIGITS]

    def names(self, slides: Sequence[tuple[Path, str]]) -> dict[Path, str]:
        """A name for each slide, given by path and identity, recorded in the file before anyone uses it.

        Of several copies the one that was known first has the slide's pseudonym; to that of others a part of
        a digest of their path is put, by the same secret. Raises `UsageError` where the file cannot be
        written.
        """
        with held(self.path.parent, wait=True, name=f".{self.path.name}.lock", remove=True):
            self.known = read_key(self.path).known
            names = self._chosen(slides)
            recorded = {(known.id, known.path) for known in self.known}
            new = [Known(name, path.name, str(from_anywhere(path))) for path, name in names.items()]
            new = [known for known in new if (known.id, known.path) not in recorded]
            _append(self.path, [known._asdict() for known in new])
        self.known += new
        return names

    def _chosen(self, slides: Sequence[tuple[Path, str]]) -> dict[Path, str]:
        owners = {known.path: known.id for known in self.known}
        names: dict[Path, str] = {}
        # Those that had their own pseudonym before keep it.
        for path, identity in sorted(
            slides, key=lambda item: owners.get(str(from_anywhere(item[0]))) != self.pseudonym(item[1])
        ):
            name = self.pseudonym(identity)
            if name in names.values():
                name = f"{name}-{self._digest('path', str(from_anywhere(path)))[:MORE]}"
            names[path] = name
        return {path: names[path] for path, _ in slides}

    def _digest(self, what: str, text: str) -> str:
        message = f"{what}\0{text}".encode(errors="surrogateescape")
        return hmac.new(self._secret, message, hashlib.sha256).hexdigest()


def open_key(path: Path, outside: Path) -> KeyFile:
    """The key file at `path`, made with mode 600 where there is none.

    Raises `UsageError` where it lies in the folder `outside`, which is for others to see; where it is no key
    file; or where it cannot be made.
    """
    path = path.expanduser().absolute()
    if path.resolve().is_relative_to(outside.resolve()):
        raise UsageError(
            "the key file lies in the output folder, and whoever is given that could undo the pseudonyms",
            where=path,
            fix="Give --key a file elsewhere",
        )
    if not path.exists():
        _make(path)
    if os.name == "posix" and path.stat().st_mode & 0o077:
        log.warning("%s: others can read this key file; `chmod 600` it.", path)
    return read_key(path)


def read_key(path: Path) -> KeyFile:
    """What a key file says. Raises `UsageError` where it is none, or damaged."""
    try:
        lines = [json.loads(line) for line in _whole_lines(path.read_bytes()).splitlines()]
        secret = bytes.fromhex(lines[0]["secret"]) if lines[0]["giant_key"] == 1 else b""
        known = [Known(line["id"], line["name"], line["path"]) for line in lines[1:]]
    except OSError as error:
        raise UsageError(f"the key file cannot be read ({error.strerror})", where=path) from error
    except (ValueError, LookupError, TypeError) as error:
        raise _no_key(path) from error
    if len(secret) < hashlib.sha256().digest_size:
        raise _no_key(path)
    return KeyFile(path, secret, known)


def claim_folder(folder: Path, key: KeyFile | None, used: bool) -> None:
    """Mark a folder of results as one whose names this key makes; with None: see that no key does.

    `used`: whether it holds results. Raises `RunError` where they are under names of another kind.
    """
    mark = _mark_of(folder)
    if key is None:
        if mark is not None:
            raise RunError(
                "the names in this folder are pseudonyms, and these slides would stand there under their own",
                where=folder,
                fix="Add --pseudonymise and the --key it was made with, or choose another --out",
            )
        return
    if mark is None and used:
        raise RunError(
            "the folder holds slides under their own names already",
            where=folder,
            fix="Choose another --out for --pseudonymise",
        )
    if mark not in (None, key.mark):
        raise RunError(
            "the pseudonyms in this folder were made with another key",
            where=folder,
            fix="Give the --key that it was made with, or choose another --out",
        )
    if mark is None:
        try:
            write_value(folder / MARK, {"version": 1, "key": key.mark})
        except OSError as error:
            raise RunError(
                f"the folder cannot be written ({error.strerror})", where=folder, fix="Choose another --out"
            ) from error


def is_pseudonymous(folder: Path) -> bool:
    """Whether the names in a folder of results are pseudonyms. Raises `RunError` for a damaged mark."""
    return _mark_of(folder) is not None


def pseudonyms(key: KeyFile, paths: Sequence[Path], isolate: bool = False) -> dict[Path, str]:
    """A name for each slide, which is opened to see what it is; one that cannot be is known by its path."""
    return key.names([(path, _identity(path, isolate)) for path in paths])


def _identity(path: Path, isolate: bool) -> str:
    from core_model.slides.identity import opened
    from core_model.slides.isolation.source import open_isolated

    try:
        found = open_isolated(path) if isolate else opened(path)
    except SlideError:
        return f"path {from_anywhere(path)}"  # the slide's own turn will tell what is wrong with it
    found.source.close()
    return found.identity


def _mark_of(folder: Path) -> str | None:
    try:
        return str(json.loads((folder / MARK).read_bytes())["key"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise RunError(f"this file cannot be read ({error})", where=folder / MARK) from error


def _make(path: Path) -> None:
    """Write a new key, whole or not at all; one that another process makes meanwhile stands."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(_line({"giant_key": 1, "secret": secrets.token_hex(32)}))
        flush(part)
        with suppress(FileExistsError):
            _appear(part, path)
        flush(path.parent)
    except OSError as error:
        raise UsageError(f"the key file cannot be made ({error.strerror})", where=path) from error
    finally:
        part.unlink(missing_ok=True)


def _appear(part: Path, path: Path) -> None:
    """Rename without replacing. Raises `FileExistsError`."""
    try:
        os.link(part, path)
    except FileExistsError:
        raise
    except OSError:  # a disk without hard links
        if path.exists():
            raise FileExistsError from None
        part.replace(path)


def _whole_lines(content: bytes) -> bytes:
    """The content without a last line that a killed process left without end."""
    return content[: content.rfind(b"\n") + 1]


def _append(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Add lines to the file, all of them or none."""
    if not rows:
        return
    try:
        with path.open("r+b", buffering=0) as file:
            before = len(_whole_lines(file.readall()))
            file.truncate(before)
            file.seek(before)
            content = b"".join(map(_line, rows))
            try:
                written = file.write(content)
                if written != len(content):
                    raise OSError(0, "the disk is full")
                os.fsync(file.fileno())
            except BaseException:
                file.truncate(before)
                raise
    except OSError as error:
        raise UsageError(f"the key file cannot be written ({error.strerror})", where=path) from error


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode() + b"\n"


def _no_key(path: Path) -> UsageError:
    fix = "Give --key another file; one that is not there yet is made"
    return UsageError("this is no key file of giant, or a damaged one", where=path, fix=fix)
