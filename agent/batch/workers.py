"""One function over many jobs, in this process or in fresh ones; a worker that dies takes no other job along.

    driver ── job ──> worker        a pipe each, so that a death touches one worker alone
           <─ result ─┘

A job whose worker died is tried once more, alone: where memory was short, it now has all of it. Only then
is it given up. What the function raises ends everything and is raised in the driver.
"""

from __future__ import annotations

import os
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process
from typing import Any, Generic, Protocol, TypeVar

J = TypeVar("J")
R = TypeVar("R")
C = TypeVar("C", covariant=True)

PATIENCE = 5.0
"""Seconds that a worker has to end by itself."""
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Started:
    """A worker has taken up job number `job`."""

    job: int


@dataclass(frozen=True)
class Ended(Generic[R]):
    """The function has returned."""

    job: int
    value: R


@dataclass(frozen=True)
class Lost:
    """A job was given up: every worker that had it died."""

    job: int
    why: str


Event = Started | Ended[R] | Lost


class LazyJobs(Protocol[C]):
    """Jobs of which each is made when a worker is free for it."""

    def __len__(self) -> int:
        """How many there are."""

    def __getitem__(self, number: int, /) -> C:
        """Job `number`; asked for again where its worker died."""


def in_this_process(
    function: Callable[[J], R], jobs: Sequence[J] | LazyJobs[J]
) -> Generator[Event[R], None, None]:
    """One job after another."""
    for number in range(len(jobs)):
        yield Started(number)
        yield Ended(number, function(jobs[number]))


def in_processes(
    function: Callable[[J], R],
    jobs: Sequence[J] | LazyJobs[J],
    count: int,
    environments: Sequence[Mapping[str, str]] = (),
) -> Generator[Event[R], None, None]:
    """Up to `count` jobs at once, each worker a fresh process; results as they come.

    Function, jobs and results must be picklable, the function by name. Leaving the iterator ends the workers.
    Worker i has the variables of `environments[i]`, counted from the first again where there are more
    workers; one that takes the place of a dead worker has the same.
    """
    retries: list[Lost] = []
    for event in _round(function, jobs, range(len(jobs)), count, environments):
        if isinstance(event, Lost):
            retries.append(event)
        else:
            yield event
    for event in retries:
        yield from _round(function, jobs, [event.job], 1, environments)


def _round(
    function: Callable[[J], R],
    jobs: Sequence[J] | LazyJobs[J],
    numbers: Sequence[int],
    count: int,
    environments: Sequence[Mapping[str, str]],
) -> Generator[Event[R], None, None]:
    """Every job of these numbers once."""
    todo, count = deque(numbers), min(count, len(numbers))
    places = [environments[i % len(environments)] if environments else {} for i in range(count)]
    # Not a fork: one of a process that runs threads (torch, rich) may hang.
    workers = [_Worker(function, count, place) for place in places]
    try:
        for worker in workers:
            yield from _give(worker, jobs, todo)
        while busy := {worker.pipe: worker for worker in workers if worker.job is not None}:
            for pipe in connection.wait(list(busy)):
                worker = busy[pipe]  # type: ignore[index]
                event = worker.take()
                yield event
                if isinstance(event, Lost) and todo:
                    workers.remove(worker)
                    worker.end()
                    workers.append(worker := _Worker(function, count, worker.environment))
                yield from _give(worker, jobs, todo)
    finally:
        for worker in workers:
            worker.end()


def _give(worker: _Worker, jobs: Sequence[Any] | LazyJobs[Any], todo: deque[int]) -> Iterator[Started]:
    """The next job to a free worker; without one left it ends, so that the others have its memory."""
    if todo:
        number = todo.popleft()
        worker.give(number, jobs[number])
        yield Started(number)
    else:
        worker.pipe.close()


class _Worker:
    """One process, seen from the driver."""

    def __init__(self, function: Callable[[Any], Any], count: int, environment: Mapping[str, str]) -> None:
        context = get_context("spawn")
        self.environment = environment
        self.pipe, far_end = context.Pipe()
        self.job: int | None = None
        """Number of the job it has."""
        threads = str(max(1, (os.cpu_count() or 1) // count))
        variables = {name: os.environ.get(name, threads) for name in THREADS} | dict(environment)
        self._process = context.Process(target=_serve, args=(far_end, function, variables), daemon=True)
        self._process.start()
        far_end.close()

    def give(self, number: int, job: Any) -> None:
        """Send a job."""
        self.job = number
        with suppress(OSError):  # it is dead: `take` finds that out, and how
            self.pipe.send(job)

    def take(self) -> Ended[Any] | Lost:
        """The result of the worker's job, read from its pipe. Raises what the function raised."""
        assert self.job is not None
        number, self.job = self.job, None
        try:
            went_well, value = self.pipe.recv()
        except (EOFError, OSError):
            self._process.join(PATIENCE)
            return Lost(number, how_ended(self._process.exitcode))
        if not went_well:
            raise value
        return Ended(number, value)

    def end(self) -> None:
        """Wait for a free worker to end, and stop one that has a job."""
        if self.job is not None:
            self._process.terminate()
        self.pipe.close()
        self._process.join(PATIENCE)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def how_ended(code: int | None) -> str:
    """Why a worker is no more, in words."""
    if code is not None and code < 0:
        hint = ", perhaps for lack of memory" if code == -signal.SIGKILL else ""
        return f"the worker ended by signal {signal.Signals(-code).name}{hint}"
    return f"the worker ended before its time (exit code {code})"


def _serve(pipe: connection.Connection, function: Callable[[Any], Any], variables: Mapping[str, str]) -> None:
    """The life of a worker: jobs until the driver has no more, or is no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver hears it too, and ends us
    threading.Thread(target=_end_with_driver, daemon=True).start()
    os.environ.update(variables)  # before torch is imported, which reads them then
    while True:
        try:
            job = pipe.recv()
        except EOFError:
            return
        try:
            result = (True, function(job))
        except Exception as error:
            result = (False, _portable(error))
        pipe.send(result)


def _end_with_driver() -> None:
    """A driver that was killed leaves no worker behind that writes on into its folders."""
    driver = parent_process()
    assert driver is not None
    driver.join()
    os._exit(1)


def _portable(error: Exception) -> Exception:
    """The exception with its traceback as a note, or a copy in words where it cannot be sent."""
    import pickle

    text = "".join(traceback.format_exception(error))
    error.add_note(text)
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(text)
    return error
