"""One function over many jobs in fresh processes: all results, whatever happens to a worker."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import batch_jobs as jobs
import psutil
import pytest

from agent.batch.workers import Ended, Lost, Started, how_ended, in_processes, in_this_process
from core_model.errors import CheckpointError


def run(folder: Path, fates: list[str], count: int) -> list[Any]:
    work = partial(jobs.doubled, folder)
    return list(in_processes(work, list(enumerate(fates)), count))


def values(events: list[Any]) -> dict[int, int]:
    return {event.job: event.value[0] for event in events if isinstance(event, Ended)}


def tried(folder: Path, number: int) -> int:
    return len(list(folder.glob(f"{number}-*")))


def children() -> list[psutil.Process]:
    """Workers that are left; multiprocessing's resource tracker stays."""
    found = psutil.Process().children(recursive=True)
    return [p for p in found if p.status() != psutil.STATUS_ZOMBIE and "spawn_main" in " ".join(p.cmdline())]


def test_every_job_is_done_in_a_fresh_process(tmp_path: Path) -> None:
    events = run(tmp_path, [""] * 5, 2)
    assert values(events) == {0: 0, 1: 2, 2: 4, 3: 6, 4: 8}
    pids = {event.value[1] for event in events if isinstance(event, Ended)}
    assert os.getpid() not in pids
    assert len(pids) <= 2
    assert [event.job for event in events if isinstance(event, Started)] == [0, 1, 2, 3, 4]
    assert not children()


def test_a_worker_that_dies_takes_no_other_job_along(tmp_path: Path) -> None:
    events = run(tmp_path, ["", "dies once", "dies", "leaves", ""], 2)
    assert values(events) == {0: 0, 1: 2, 4: 8}
    assert [tried(tmp_path, number) for number in range(5)] == [1, 2, 2, 2, 1]
    lost = {event.job: event.why for event in events if isinstance(event, Lost)}
    assert lost == {2: how_ended(-9), 3: how_ended(3)}
    assert lost[2] == "the worker ended by signal SIGKILL, perhaps for lack of memory"
    assert lost[3] == "the worker ended before its time (exit code 3)"


def test_what_the_function_raises_ends_everything(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="model: holds no llava") as caught:
        run(tmp_path, ["", "refuses", "", ""], 1)
    assert "in doubled" in caught.value.__notes__[0]
    assert tried(tmp_path, 2) == 0
    with pytest.raises(ZeroDivisionError):
        run(tmp_path, ["breaks"], 1)
    assert not children()


def test_leaving_early_leaves_no_worker(tmp_path: Path) -> None:
    events = in_processes(partial(jobs.doubled, tmp_path), [(n, "") for n in range(4)], 2)
    next(events)
    events.close()
    assert not children()


def test_processors_are_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    told = [e.value for e in in_processes(jobs.threads, [0, 1], 2) if isinstance(e, Ended)]
    assert told == ["4", "4"]


def test_in_this_process_one_after_another(tmp_path: Path) -> None:
    events = list(in_this_process(partial(jobs.doubled, tmp_path), [(0, ""), (1, "")]))
    assert [type(event) for event in events] == [Started, Ended, Started, Ended]
    assert values(events) == {0: 0, 1: 2}


def test_no_jobs_need_no_workers() -> None:
    assert list(in_processes(jobs.threads, [], 4)) == []
