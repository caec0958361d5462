"""Results as figures: for each task and mode a metric with its spread, beside what guessing would reach."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.comparisons import comparisons
from eval.figures import figures, modes_of, parts
from eval.results import Result

if TYPE_CHECKING:
    from rich.table import Table

ALL = "all"
"""Name of the row over all questions, by plain accuracy."""


def summarise(results: Sequence[Result], about: dict[str, Any]) -> dict[str, Any]:
    """`{"about": …, "tasks": {task: {mode: figures}}, "pairs": …, "parts": …}`; of several tasks also `all`.

    `pairs` compares the modes of each task; `parts` has the figures by organ, rarity and category.
    """
    groups: dict[str, dict[str, list[Result]]] = {}
    for result in results:
        groups.setdefault(result.benchmark, {}).setdefault(result.mode, []).append(result)
    closed = [r for r in results if r.metric != "text"]
    if len({r.benchmark for r in closed}) > 1:
        groups[ALL] = {mode: [r for r in closed if r.mode == mode] for mode in modes_of(closed)}
    tasks = {
        task: {mode: figures(_metric(task, members), members) for mode, members in modes.items()}
        for task, modes in groups.items()
    }
    pairs = {
        task: comparisons(modes, _metric(task, next(iter(modes.values()))))
        for task, modes in groups.items()
        if len(modes) > 1 and next(iter(modes.values()))[0].metric != "text"
    }
    return {"version": 1, "about": about, "tasks": tasks, "pairs": pairs, "parts": parts(closed)}


def _metric(task: str, members: Sequence[Result]) -> str:
    return "accuracy" if task == ALL else members[0].metric


def write_summary(path: Path, summary: dict[str, Any]) -> None:
    """Write `summary.json`."""
    from agent.trace import write_text

    write_text(path, json.dumps(summary, indent=2, ensure_ascii=False) + "\n")


def as_table(summary: dict[str, Any]) -> Table:
    """The summary for a terminal; shares in per cent."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("task", overflow="fold")
    table.add_column("mode")
    for title in ("n", "% ± sd", "95 %", "const", "random", "abst", "fail", "s"):
        table.add_column(title, justify="right", no_wrap=True)
    for task, modes in summary["tasks"].items():
        for mode, f in modes.items():
            balanced = " (balanced)" if f["metric"] == "balanced_accuracy" else ""
            table.add_row(
                *(f"{task}{balanced}", mode, str(f["n"])),
                f"{100 * f['value']:.1f} ± {100 * f['sd']:.1f}",
                f"{100 * f['low']:.0f}–{100 * f['high']:.0f}",
                *(f"{100 * f['best_constant']:.1f}", f"{100 * f['random']:.1f}"),
                *(str(f["abstained"]), str(f["failed"]), f"{f['seconds']:.1f}"),
            )
    return table
