"""Jobs on a Ray cluster, with the events of `workers.in_processes`.

Ray gives a job to another node when its own is lost. Slides, models and the folder of the reports must lie
under the same paths on every node, and API keys in the environment of the nodes.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from agent.batch.workers import Ended, Event, Lost, Started
from core_model.errors import GiantError, UsageError

J = TypeVar("J")
R = TypeVar("R")

RETRIES = 3
"""Times that a job is begun again after its node or process was lost."""
PATIENCE = 5.0
"""Seconds for a cluster's address to answer."""


def on_ray(
    function: Callable[[J], R],
    jobs: Sequence[J],
    address: str,
    at_once: int | None = None,
    gpus: bool = False,
) -> Generator[Event[R], None, None]:
    """Up to `at_once` jobs at once, by default one for each CPU of the cluster; results as they come.

    With `gpus` each job has a GPU to itself where the cluster has any, and by default as many are worked on
    as it has. `address` is `HOST:PORT` of the cluster, or `auto` for the one of this machine. Raises
    `GiantError` where there is none, or ray is not installed. Leaving the iterator ends the connection and
    the jobs.
    """
    ray = _import_ray()
    with _connected(ray, address):
        kind = "GPU" if gpus and ray.cluster_resources().get("GPU", 0) >= 1 else "CPU"
        needs = {"num_cpus": 1, "num_gpus": int(kind == "GPU")}
        task = ray.remote(**needs, max_retries=RETRIES)(_call)
        handle = ray.put(function)
        todo, waiting = deque(enumerate(jobs)), dict[Any, int]()
        while todo or waiting:
            most = at_once or max(1, int(ray.cluster_resources().get(kind, 1)))
            while todo and len(waiting) < most:
                number, job = todo.popleft()
                waiting[task.remote(handle, job)] = number
                yield Started(number)
            for reference in ray.wait(list(waiting), num_returns=1)[0]:
                yield _result(ray, reference, waiting.pop(reference))


def _call(function: Callable[[Any], Any], job: Any) -> Any:
    return function(job)


def _result(ray: Any, reference: Any, number: int) -> Ended[Any] | Lost:
    try:
        return Ended(number, ray.get(reference))
    except ray.exceptions.RayTaskError as error:
        raise error.cause or error from None  # what the function raised, without Ray's wrapping
    except ray.exceptions.RayError as error:
        return Lost(number, f"the worker ended on every node that had it ({type(error).__name__})")


def _import_ray() -> Any:
    """Ray, told to keep quiet: it phones nobody and prints nothing of its cluster."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_task_oom_retries", str(RETRIES))  # else without end
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")  # its news of lost nodes would go to stdout
    try:
        import ray
    except ImportError as error:
        raise GiantError("ray is not installed", fix="pip install 'giant-pathology[ray]'") from error
    return ray


@contextmanager
def _connected(ray: Any, address: str) -> Iterator[None]:
    """Connected to the cluster; one that the caller is connected to already is used and kept."""
    if ray.is_initialized():
        yield
        return
    _check(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", configure_logging=False)
    except (ConnectionError, RuntimeError, ValueError, SystemExit) as error:  # it exits after a time-out
        ray.shutdown()
        raise _nobody(address) from error
    try:
        yield
    finally:
        ray.shutdown()


def _check(address: str) -> None:
    """Ray tries a dead address for two minutes and then ends the process, so it is tried here first."""
    if address == "auto":
        return
    host, colon, port = address.rpartition(":")
    if not (host and colon and port.isdecimal()) or "/" in host:
        raise UsageError(f"'{address}' is no address of a Ray cluster", fix="Give HOST:PORT, or auto")
    try:
        socket.create_connection((host, int(port)), PATIENCE).close()
    except OSError as error:
        raise _nobody(address) from error


def _nobody(address: str) -> GiantError:
    return GiantError(
        "no Ray cluster answers at this address",
        where=address,
        fix="Start one: ray start --head, or leave out --ray",
    )
