"""What the machine lends: no more than the system, the container and the caller allow."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from core_model import machine


@pytest.mark.parametrize(
    ("told", "cores"),
    [(None, 6), ("4", 4), ("1", 1), ("99", 6), ("0", 6), ("many", 6), ("", 6)],
)
def test_processors_are_those_it_may_run_on(
    monkeypatch: pytest.MonkeyPatch, told: str | None, cores: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(6)), raising=False)
    monkeypatch.delenv(machine.THREADS, raising=False)
    if told is not None:
        monkeypatch.setenv(machine.THREADS, told)
    assert machine.usable_cores() == cores


@pytest.mark.parametrize(
    ("limit", "used", "free"),
    [("max", "100", 3 << 30), (str(2 << 30), str(1 << 30), 1 << 30), (str(8 << 30), "0", 3 << 30),
     (None, None, 3 << 30), (str(1 << 30), str(2 << 30), 0)],
)  # fmt: skip
def test_memory_is_what_system_and_container_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str | None, used: str | None, free: int
) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 9999999 kB\nMemAvailable:    3145728 kB\n")
    for name, value in (("memory.max", limit), ("memory.current", used)):
        if value is not None:
            (tmp_path / name).write_text(value + "\n")
    monkeypatch.setattr(machine, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    assert machine.free_memory() == free


@pytest.mark.parametrize(
    ("told", "count", "names"),
    [(None, 3, ["0", "1", "2"]), ("2, 0", 2, ["2", "0"]), ("", 0, []), (None, 0, []),
     ("GPU-8932f937,-1,3", 1, ["GPU-8932f937"])],
)  # fmt: skip
def test_gpus_are_those_that_the_process_may_see(
    monkeypatch: pytest.MonkeyPatch, told: str | None, count: int, names: list[str]
) -> None:
    monkeypatch.delenv(machine.GPUS, raising=False)
    if told is not None:
        monkeypatch.setenv(machine.GPUS, told)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    assert machine.gpu_names() == names
