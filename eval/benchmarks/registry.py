"""Benchmarks by name. Each is one small file that turns its own format into `Question`s."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from core_model.errors import CohortError, UsageError
from eval.benchmarks.cohort import load_cohort
from eval.benchmarks.generic import load_generic
from eval.benchmarks.multipathqa import load_multipathqa
from eval.benchmarks.questions import Benchmark, Question
from eval.benchmarks.slidebench import load_slidebench
from eval.benchmarks.wsi_bench import load_wsi_bench
from eval.benchmarks.wsi_vqa import load_wsi_vqa

BENCHMARKS: dict[str, Callable[[Path], Benchmark]] = {
    "cohort": load_cohort,
    "phantom": load_cohort,
    "multipathqa": load_multipathqa,
    "wsi-bench": load_wsi_bench,
    "slidebench": load_slidebench,
    "wsi-vqa": load_wsi_vqa,
    "generic": load_generic,
}


def load_benchmark(name: str, data: str | Path) -> list[Question]:
    """The questions of benchmark `name` in `data`; rows that cannot be used are left out.

    Raises as `read_benchmark`.
    """
    return read_benchmark(name, data).questions


def read_benchmark(name: str, data: str | Path) -> Benchmark:
    """The questions of benchmark `name` in a file or folder, and the rows that are none, with reasons.

    Raises `UsageError` for a name that is not known and `CohortError` for data without a usable question.
    """
    if name not in BENCHMARKS:
        raise UsageError(f"there is no benchmark '{name}'", fix=f"Choose one of {', '.join(BENCHMARKS)}")
    benchmark = BENCHMARKS[name](Path(data))
    if not benchmark.questions:
        first = f"; {benchmark.unusable[0].row}: {benchmark.unusable[0].why}" if benchmark.unusable else ""
        raise CohortError(f"the benchmark holds no question that can be used{first}", where=data)
    return benchmark
