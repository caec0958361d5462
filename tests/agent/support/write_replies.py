"""Writes the corpus of replies as files for `giant bench reading`: write_replies.py OUT [BENCHMARKS]."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path

import replies
from printed_replies import PRINTED
from single_replies import REPLIES

FILES = {
    "multipathqa": ("MultiPathQA.csv", 101),
    "slidebench": ("slidebench_small.csv", 61),
    "wsi-bench": ("wsi-bench", 401),
}
"""File of a benchmark, and of how many replies one is taken."""


def write(path: Path, cases: Iterable[replies.Case]) -> None:
    """A line for each reply."""
    rows = ({"reply": case.reply, "options": list(case.options), "meant": case.meant} for case in cases)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def main(out: Path, benchmarks: Path | None) -> None:
    """Write the made-up option sets' replies, and those of the published ones where they are there."""
    out.mkdir(parents=True, exist_ok=True)
    single = [
        replies.Case(said, options, meant) for options, rows in [*REPLIES, *PRINTED] for said, meant in rows
    ]
    write(out / "made-up.jsonl", [*_both(replies.OPTION_SETS, 29), *single])
    for name, (file, every) in FILES.items() if benchmarks else ():
        from eval.benchmarks.registry import read_benchmark

        assert benchmarks is not None
        questions = read_benchmark(name, benchmarks / file).questions
        sets = sorted({question.options for question in questions if question.options})
        write(out / f"{name}.jsonl", _both(sets, every))


def _both(sets: Iterable[list[str] | tuple[str, ...]], every: int) -> list[replies.Case]:
    option_sets = list(sets)
    return [*replies.readable_cases(option_sets, every), *replies.unreadable_cases(option_sets, every)]


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
