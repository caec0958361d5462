"""The log of a stage: a line per step in log.jsonl, and the same curves for TensorBoard if it is installed.

A line is on disk as soon as its step is done, so that a killed run can be read too. A run that resumes from
step s begins behind the line of step s: no step is told twice.
"""

from __future__ import annotations

import importlib.util
import json
import math
import resource
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from core_model.errors import RunError
from core_model.files import write_text, writing

LOG, CURVES = "log.jsonl", "tensorboard"
COUNTS = "counts"
"""Key of a batch under which it says what its whole step holds, e.g. {"samples": 64}."""
FIGURES = ("loss", "grad_norm", "learning_rate")
"""What a line takes from the Trainer's figures."""
DIGITS = 6
"""Significant digits of a figure: a rate of one sample in ten minutes is still a rate."""


class StageProgress(Protocol):
    """Called with how far a step of the recipe has come."""

    def __call__(self, name: str, count: int, total: int) -> None:
        """`done` of `total` units of the step called `name` are finished."""


def quiet(name: str, count: int, total: int) -> None:
    """A StageProgress that shows nothing."""


class StepLog:
    """Writes the lines of one stage; only the main process has one."""

    def __init__(
        self,
        folder: Path,
        first: int,
        progress: StageProgress,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """`first`: steps that an earlier run has done and whose lines stay. `clock` gives seconds."""
        self.path, self.progress, self.name = folder / LOG, progress, folder.name
        rows = [row for row in _rows(self.path) if row["step"] <= first] if first else []
        write_text(self.path, "".join(f"{json.dumps(row)}\n" for row in rows))
        self.curves = _curves(folder / CURVES, first)
        self.clock, self.since = clock, clock()

    def write(self, step: int, steps: int, logs: Mapping[str, float], counts: Mapping[str, int]) -> None:
        """Append one line; `counts` says what the step's batch held, e.g. {"samples": 64}."""
        end = self.clock()
        seconds, self.since = end - self.since, end
        row = {"step": step, "seconds": round(seconds, 3)}
        row |= {key: _rounded(logs[key]) for key in FIGURES if key in logs}
        row |= {f"{key}_per_s": _rounded(count / seconds) for key, count in counts.items()}
        row["memory_gb"] = round(peak_memory() / 1e9, 3)
        with writing("the log", self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        if self.curves is not None:
            for key, value in row.items():
                if key != "step":
                    self.curves.add_scalar(key, value, step)
        self.progress(self.name, step, steps)

    def close(self) -> None:
        """Close the curves: nothing more will be written."""
        if self.curves is not None:
            self.curves.close()


def _rounded(value: float) -> float:
    """A figure with DIGITS significant digits."""
    return float(f"{float(value):.{DIGITS}g}")


def refuse_divergence(loss: float, step: int, folder: Path) -> None:
    """Raise RunError where training has diverged: the loss is no longer a number."""
    if not math.isfinite(loss):
        raise RunError(
            f"the loss of {folder.name} became {loss} at step {step}",
            where=folder / LOG,
            fix=f"lower --set {folder.name}.schedule.learning_rate",
        )


def peak_memory() -> float:
    """Bytes that this process has needed at most: of its GPU where there is one, else of memory."""
    if torch.cuda.is_available():
        return float(torch.cuda.max_memory_allocated())
    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)


def read_log(folder: Path) -> list[dict[str, float]]:
    """The lines of a stage's log."""
    return [json.loads(line) for line in (folder / LOG).read_text(encoding="utf-8").splitlines()]


def _rows(path: Path) -> list[dict[str, float]]:
    """The whole lines of a log that may end within one."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            rows.append(json.loads(line))
        except ValueError:
            break  # the run was killed while it wrote this
    return rows


def _curves(folder: Path, first: int) -> Any:
    """TensorBoard's writer, or None where it is not installed; steps after `first` are taken back."""
    if not first:
        shutil.rmtree(folder, ignore_errors=True)
    if importlib.util.find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=first + 1)
