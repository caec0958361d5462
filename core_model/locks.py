"""Folders and files that one process holds at a time, by a lock file that the system frees."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from core_model.errors import GiantError, RunError

LOCK = ".lock"
_CANNOT_LOCK = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
"""What a file system answers that knows no locks."""

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
    comes next makes a new one. Raises `error_class` where the folder is in use, or cannot be written (`fix`
    says what to do then).
    """
    # Not per thread: a generator that holds a lock may be closed by another thread. No file that merely
    # exists in place of a lock: nobody would free that after a crash.
    lock = FileLock(folder / name, thread_local=False, fallback_to_soft=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _acquire(lock, wait)
    except Timeout as error:
        raise error_class(
            "another process is working in the folder", where=folder, fix="Wait until it has finished"
        ) from error
    except OSError as error:
        problem = "its file system cannot lock files" if error.errno in _CANNOT_LOCK else "cannot be written"
        raise error_class(f"the folder {problem} ({error.strerror})", where=folder, fix=fix) from error
    try:
        yield
        if remove:
            (folder / name).unlink(missing_ok=True)
    finally:
        lock.release()


def _acquire(lock: FileLock, wait: bool) -> None:
    """Take the lock; say so where that means waiting."""
    try:
        lock.acquire(blocking=False)
    except Timeout:
        if not wait:
            raise
        log.info("waiting for another process that holds %s", lock.lock_file)
        lock.acquire()
