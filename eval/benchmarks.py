"""Benchmarks by name. Each is one small file that turns its own format into `Question`s."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from core_model.errors import UsageError
from eval.cohort import load_cohort
from eval.multipathqa import load_multipathqa
from eval.questions import Question

BENCHMARKS: dict[str, Callable[[Path], list[Question]]] = {
    "cohort": load_cohort,
    "multipathqa": load_multipathqa,
}


def load_benchmark(name: str, data: str | Path) -> list[Question]:
    """The questions of benchmark `name` in `data`: a cohort folder, or MultiPathQA's CSV file.

    Raises `UsageError` for a name that is not known and `CohortError` for data that cannot be used.
    """
    if name not in BENCHMARKS:
        raise UsageError(f"there is no benchmark '{name}'", fix=f"There are {', '.join(BENCHMARKS)}")
    return BENCHMARKS[name](Path(data))
