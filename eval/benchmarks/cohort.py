"""A cohort folder as a benchmark: its `questions.csv` has MultiPathQA's columns."""

from __future__ import annotations

from pathlib import Path

from core_model.errors import CohortError
from eval.benchmarks.multipathqa import load_multipathqa
from eval.benchmarks.questions import Benchmark


def load_cohort(folder: Path) -> Benchmark:
    """The questions of a cohort. Raises `CohortError` where the folder is none."""
    table = folder / "questions.csv"
    if not table.is_file():
        raise CohortError(
            "the folder is not a cohort: it has no questions.csv",
            where=folder,
            fix="Give the folder that giant phantom wrote",
        )
    return load_multipathqa(table)
