"""Results as figures: for each task and mode a metric with its spread, beside what guessing would reach."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.metrics.classification import accuracy, best_constant, random_guess, spread
from eval.results import Result

if TYPE_CHECKING:
    from rich.table import Table

ALL = "all"
"""Name of the row over all questions, by plain accuracy."""


def summarise(results: Sequence[Result], about: dict[str, Any]) -> dict[str, Any]:
    """`{"about": …, "tasks": {task: {mode: figures}}}`; with several tasks also a row over all."""
    groups: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        groups.setdefault((result.benchmark, result.mode), []).append(result)
    modes = list(dict.fromkeys(result.mode for result in results))
    if len({task for task, _ in groups}) > 1:
        groups |= {(ALL, mode): [r for r in results if r.mode == mode] for mode in modes}
    tasks: dict[str, dict[str, Any]] = {}
    for (task, mode), members in groups.items():
        metric = "accuracy" if task == ALL else members[0].metric
        tasks.setdefault(task, {})[mode] = figures(metric, members)
    return {"version": 1, "about": about, "tasks": tasks}


def figures(metric: str, results: Sequence[Result]) -> dict[str, Any]:
    """Every figure of one task in one mode. Abstentions and failures count as wrong."""
    truth = [r.truth for r in results]
    said = [_label(r) for r in results]
    over = spread(metric, truth, said)
    constant, constant_value = best_constant(metric, truth, [r.position for r in results])
    answered = [(t, s) for t, s in zip(truth, said, strict=True) if s is not None]
    n = len(results)
    return {
        "n": n,
        "metric": metric,
        "value": over.value,
        "sd": over.sd,
        "low": over.low,
        "high": over.high,
        "best_constant": constant_value,
        "best_constant_answer": constant,
        "random": random_guess(metric, truth, [r.options for r in results]),
        "abstained": sum(r.abstained for r in results),
        "failed": sum(r.error is not None for r in results),
        "accuracy_answered": accuracy(*zip(*answered, strict=True)) if answered else None,
        "seconds": sum(r.seconds for r in results) / n,
        "steps": sum(r.steps for r in results) / n,
        "regions": sum(r.regions for r in results) / n,
    }


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


def _label(result: Result) -> str | None:
    """What was said as a label; an open answer counts where it is the label but for case and full stop."""
    if result.said is None or result.options is not None:
        return result.said
    said = result.said.strip().rstrip(".")
    return result.truth if said.casefold() == result.truth.casefold() else said
