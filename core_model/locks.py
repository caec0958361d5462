"""A folder that one process holds at a time."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core_model.errors import RunError

LOCK = ".lock"


@contextmanager
def held(folder: Path, wait: bool) -> Iterator[None]:
    """Hold a folder, made where it is missing; the system lets go of it when this process dies.

    A folder that another process holds is waited for, or refused with `RunError`.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK).open("a")
    except OSError as error:
        raise RunError(
            f"cannot be written ({error.strerror})", where=folder, fix="Choose another --out"
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError as error:
            raise RunError("another process is working in it", where=folder, fix="Wait for it") from error
        yield
