"""Folders that one process holds at a time."""

from __future__ import annotations

import errno
import fcntl
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from core_model.errors import CheckpointError, RunError
from core_model.files import LOCK, STAND_IN, held

SPAWN = multiprocessing.get_context("spawn")


def hold(folder: Path, ready: Event) -> None:
    with held(folder, wait=False):
        ready.set()
        signal.pause()


@contextmanager
def holder(folder: Path) -> Iterator[multiprocessing.process.BaseProcess]:
    """Another process that holds the folder until it is killed."""
    ready = SPAWN.Event()
    process = SPAWN.Process(target=hold, args=(folder, ready))
    process.start()
    try:
        assert ready.wait(60)
        yield process
    finally:
        process.kill()
        process.join()


def test_a_folder_in_use_is_refused_and_free_once_its_holder_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with holder(folder) as process:
        refused = pytest.raises(RunError, match=r"run: another process is working in the folder\. Wait")
        with refused, held(folder, wait=False):
            raise AssertionError("two processes hold it")
        with held(folder, wait=False, name=".other.lock"):
            pass  # another name is another lock
        os.kill(process.pid or 0, signal.SIGKILL)
        with held(folder, wait=True):
            assert (folder / LOCK).is_file()


def test_whoever_waits_comes_next(tmp_path: Path) -> None:
    order = []
    inside = threading.Event()

    def wait() -> None:
        inside.set()
        with held(tmp_path, wait=True):
            order.append("second")

    waiter = threading.Thread(target=wait)
    with held(tmp_path, wait=False):
        waiter.start()
        assert inside.wait(60)
        order.append("first")
    waiter.join(60)
    assert order == ["first", "second"]


@pytest.mark.parametrize("remove", [False, True])
def test_the_lock_file_stays_unless_it_is_to_go(tmp_path: Path, remove: bool) -> None:
    with held(tmp_path / "run", wait=False, remove=remove):
        assert (tmp_path / "run" / LOCK).is_file()
    assert (tmp_path / "run" / LOCK).is_file() is not remove
    with held(tmp_path / "run", wait=False, remove=remove):
        pass  # free again either way


def test_an_error_inside_frees_the_folder_and_passes_unchanged(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), held(tmp_path, wait=False):
        raise ZeroDivisionError
    with held(tmp_path, wait=False):
        pass


def test_a_lock_may_be_freed_by_another_thread(tmp_path: Path) -> None:
    """A generator that holds one may be closed by whichever thread drops it."""
    lock = held(tmp_path, wait=False)
    lock.__enter__()
    closer = threading.Thread(target=lock.__exit__, args=(None, None, None))
    closer.start()
    closer.join(60)
    with held(tmp_path, wait=False):
        pass


def test_where_nothing_can_be_written_the_caller_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    lock = held(tmp_path / "file" / "below", wait=True, error_class=CheckpointError, fix="Clear it")
    with pytest.raises(CheckpointError, match=r"the folder cannot be written \(.*\)\. Clear it"), lock:
        raise AssertionError("held a folder below a file")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """A disk that answers a lock as network disks without locks do."""

    def refuse(fd: int, operation: int) -> None:
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", refuse)


LOCKLESS = pytest.mark.parametrize(
    "no_locks", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP], indirect=True, ids=errno.errorcode.get
)


@LOCKLESS
@pytest.mark.usefixtures("no_locks")
def test_a_disk_without_locks_is_worked_on_and_still_by_one_at_a_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "run"
    with caplog.at_level(logging.WARNING), held(folder, wait=False, remove=True):
        assert "cannot lock files" in caplog.text
        refused = pytest.raises(RunError, match=r"another process is working.* delete .*\.lock\.held")
        with refused, held(folder, wait=False):
            raise AssertionError("two hold it")
        with held(folder, wait=False, name=".other.lock"):
            pass
    assert not list(folder.iterdir()), "nothing is left of the lock"
    with held(folder, wait=False):
        pass


@pytest.mark.parametrize("no_locks", [errno.ENOLCK], indirect=True)
@pytest.mark.usefixtures("no_locks")
def test_what_a_killed_process_left_on_a_disk_without_locks_does_not_count(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:  # takes the lock and dies in it
        lock = held(tmp_path, wait=False)
        lock.__enter__()
        os._exit(0)
    os.waitpid(child, 0)
    assert (tmp_path / (LOCK + STAND_IN)).is_file()
    with held(tmp_path, wait=False):
        pass
