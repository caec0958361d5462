"""The child as its parent sees it: a process with lanes, each with a socket and memory that both can see."""

from __future__ import annotations

import contextlib
import mmap
import os
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from core_model.errors import SlideError
from core_model.slides.isolation.wire import (
    MEMORY_EXIT,
    MOST_PIXELS,
    BrokenWire,
    Late,
    Limits,
    Start,
    receive,
    send,
)

CHILD = ("-P", "-m", "core_model.slides.isolation.child")
"""Arguments of the interpreter; -P, because the folder we are in may hold modules of strangers."""

LANES = max(4, min(16, (os.cpu_count() or 1) + 2))
"""Requests at once."""

KEPT = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "VIRTUAL_ENV", "TZ")
"""Variables of the environment that a child gets: no keys of servers, no settings of ours."""

NO_MEMORY = (b"failed to allocate", b"bad_alloc", b"Cannot allocate memory", b"out of memory", b"MemoryError")
"""What libraries write as they end for want of memory."""


class ChildDied(Exception):
    """A child ended, or was stopped, while it served; the text says why in words that follow "the reader"."""

    def __init__(self, why: str, alone: bool) -> None:
        super().__init__(why)
        self.alone = alone
        """Whether it served no other request meanwhile, so that this one was the cause."""


class _Lane:
    """A socket and memory that are shared with the child."""

    def __init__(self) -> None:
        self.sock, self.theirs = socket.socketpair()
        self.shared = _shared_file(MOST_PIXELS * 3)
        self.memory = mmap.mmap(self.shared, MOST_PIXELS * 3)

    def started(self) -> None:
        """Close what is the child's."""
        self.theirs.close()
        os.close(self.shared)

    def close(self) -> None:
        """Close the socket; the memory goes with whoever reads in it still."""
        self.sock.close()


class _Request:
    """A request under way, and whether another was."""

    def __init__(self, alone: bool) -> None:
        self.alone = alone


class Child:
    """A process that reads slides within limits. Several threads may ask at once."""

    def __init__(self, limits: Limits) -> None:
        self.limits, self.owner = limits, os.getpid()
        self._lanes = [_Lane() for _ in range(LANES)]
        self._free: queue.LifoQueue[_Lane] = queue.LifoQueue()
        self._busy: set[_Request] = set()
        self._lock = threading.Lock()
        self._why: str | None = None
        try:
            self._process = self._start()
        except OSError as error:
            raise SlideError(f"no process can be started to read it ({error.strerror})") from error
        finally:
            for lane in self._lanes:
                lane.started()
                self._free.put(lane)

    def _start(self) -> subprocess.Popen[bytes]:
        numbers = [[lane.theirs.fileno(), lane.shared] for lane in self._lanes]
        start = Start(self.limits.memory, self.limits.seconds, numbers)
        return subprocess.Popen(
            [sys.executable, *CHILD, start.text()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=[number for pair in numbers for number in pair],
            env=_environment(),
        )

    @property
    def is_dead(self) -> bool:
        """Whether it ended, or belongs to a process of which this one is a copy."""
        return self._why is not None or self.owner != os.getpid()

    @contextlib.contextmanager
    def _counted(self) -> Iterator[_Request]:
        with self._lock:
            if self._why is not None:  # of another request, which is over
                raise ChildDied(self._why, alone=False)
            request = _Request(alone=not self._busy)
            for other in self._busy:
                other.alone = False
            self._busy.add(request)
        try:
            yield request
        finally:
            with self._lock:
                self._busy.discard(request)

    @contextlib.contextmanager
    def ask(self, **request: Any) -> Iterator[tuple[bytes, mmap.mmap]]:
        """The body of the answer, and the memory in which pixels lie until the end of the block.

        Raises `ChildDied`.
        """
        lane = self._free.get()
        try:
            with self._counted() as state:
                body = self._asked(lane, state, request)
            yield body, lane.memory
        finally:
            self._free.put(lane)

    def _asked(self, lane: _Lane, state: _Request, request: dict[str, Any]) -> bytes:
        try:
            send(lane.sock, request)
            return receive(lane.sock, self.limits.seconds)
        except BrokenWire as error:
            raise ChildDied(self.stop(is_late=isinstance(error, Late)), state.alone) from error

    def peak(self) -> int:
        """Most bytes of memory that it had at once; 0 where the system does not say."""
        try:
            lines = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        except OSError:
            return 0
        return max((int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:")), default=0)

    def stop(self, is_late: bool = False) -> str:
        """End the process, if it has not ended; returns why it did."""
        with self._lock:
            if self._why is None:
                if is_late:
                    self._process.kill()
                self._why = self._ended(is_late)
            return self._why

    def _ended(self, is_late: bool) -> str:
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:  # it closed its sockets and goes on
            self._process.kill()
            self._process.wait()
        assert self._process.stderr is not None
        os.set_blocking(self._process.stderr.fileno(), False)
        said = self._process.stderr.read(1 << 16) or b""
        self._process.stderr.close()
        return _why(self._process.returncode, said, is_late, self.limits)

    def close(self) -> None:
        """End the process and free what was shared with it."""
        if self.owner == os.getpid():
            self._process.kill()
            self.stop()
        for lane in self._lanes:
            lane.close()


def _why(status: int, said: bytes, is_late: bool, limits: Limits) -> str:
    words = limits.words()
    if is_late:
        return f"needed more than {words['seconds']}"
    if status == MEMORY_EXIT or any(sign in said for sign in NO_MEMORY):
        return f"needed more than {words['memory']} of memory"
    if status == -signal.SIGXCPU:
        return f"needed more than {words['seconds']} of computing"
    if status < 0:
        return f"ended with signal {-status}"
    return f"ended with status {status}"


def _environment() -> dict[str, str]:
    root = str(Path(__file__).resolve().parents[3])
    paths = [root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    more = {"PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1", "MALLOC_ARENA_MAX": "2"}
    return kept | threads | more


def _shared_file(size: int) -> int:
    """An open file without a name, `size` bytes, of which only what is written takes memory."""
    try:
        if sys.platform == "linux":
            import fcntl

            number = os.memfd_create("pixels", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            os.ftruncate(number, size)
            # A child that made it shorter would end us as we read.
            fcntl.fcntl(number, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
            return number
        with tempfile.TemporaryFile() as file:
            file.truncate(size)
            return os.dup(file.fileno())
    except OSError as error:
        reason = error.strerror or error
        raise SlideError(f"no memory to share with the reader ({reason})") from error
