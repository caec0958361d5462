"""Results as figures: for each task and mode a metric with its spread, beside what guessing would reach."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.asking.results import Result
from eval.metrics.classification import best_constant
from eval.scores.compare import comparisons
from eval.scores.figures import figures, modes_of, parts
from eval.tables import figures_table

if TYPE_CHECKING:
    from rich.table import Table

ALL = "all"
"""Name of the row over all questions, by plain accuracy."""


def summarise(results: Sequence[Result], conditions: dict[str, Any]) -> dict[str, Any]:
    """`{"about": …, "tasks": {task: {mode: figures}}, "pairs": …, "parts": …}`; of several tasks also `all`.

    `pairs` compares the modes of each task; `parts` has the figures by organ, rarity and category.
    """
    groups: dict[str, dict[str, list[Result]]] = {}
    for result in results:
        groups.setdefault(result.benchmark, {}).setdefault(result.mode, []).append(result)
    choice_results = [r for r in results if r.metric != "text"]
    if len({r.benchmark for r in choice_results}) > 1:
        groups[ALL] = {
            mode: [r for r in choice_results if r.mode == mode] for mode in modes_of(choice_results)
        }
    tasks = {
        task: {mode: figures(_metric(task, members), members) for mode, members in modes.items()}
        for task, modes in groups.items()
    }
    if ALL in tasks:
        _constant_of_all(tasks, groups)
    pairs = {
        task: comparisons(modes, _metric(task, next(iter(modes.values()))))
        for task, modes in groups.items()
        if len(modes) > 1 and next(iter(modes.values()))[0].metric != "text"
    }
    return {"version": 1, "about": conditions, "tasks": tasks, "pairs": pairs, "parts": parts(choice_results)}


def _constant_of_all(tasks: dict[str, Any], groups: Mapping[str, Mapping[str, Sequence[Result]]]) -> None:
    """Set the best constant answer of all tasks together: one for each task, as in mode constant."""
    for mode, members in groups[ALL].items():
        by_task = [modes[mode] for task, modes in groups.items() if task != ALL and mode in modes]
        right = 0.0
        for group in (part for part in by_task if part[0].metric != "text"):
            truth, places = [r.truth for r in group], [r.position for r in group]
            right += len(group) * best_constant("accuracy", truth, places)[1]
        tasks[ALL][mode] |= {
            "best_constant": right / len(members),
            "best_constant_answer": "one for each task",
        }


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


def _metric(task: str, members: Sequence[Result]) -> str:
    return "accuracy" if task == ALL else members[0].metric


def write_summary(path: Path, summary: dict[str, Any]) -> None:
    """Write `summary.json`."""
    from core_model.files import write_text

    write_text(path, json.dumps(summary, indent=2, ensure_ascii=False) + "\n")


def summary_table(summary: dict[str, Any]) -> Table:
    """The summary for a terminal; shares in per cent."""
    titles = ("n", "% ± sd", "95 %", "const", "random", "abst", "unread", "fail", "s", "USD")
    table = figures_table(["task", "mode"], titles, wrap=False)
    for task, modes in summary["tasks"].items():
        for mode, f in modes.items():
            note = " (balanced)" if f["metric"] == "balanced_accuracy" else ""
            figures = ("words", "", "", "")
            if f["value"] is not None:
                figures = (
                    f"{100 * f['value']:.1f} ± {100 * f['sd']:.1f}",
                    f"{100 * f['low']:.0f}–{100 * f['high']:.0f}",
                    f"{100 * f['best_constant']:.1f}",
                    f"{100 * f['random']:.1f}",
                )
            counts = (str(f[name]) for name in ("abstained", "unread", "failed"))
            money = "-" if f["usd"] is None else f"{f['usd']:.4f}"
            table.add_row(f"{task}{note}", mode, str(f["n"]), *figures, *counts, f"{f['seconds']:.1f}", money)
    return table


def remarks(summary: Mapping[str, Any]) -> list[str]:
    """Remarks that belong to the figures, a line each: for terminal, page and Markdown."""
    lines = []
    if (summary.get("leakage") or {}).get("text"):
        lines.append(summary["leakage"]["text"])
    if missing := summary.get("missing"):
        count = sum(item["questions"] for item in missing)
        slides, questions = _counted(len(missing), "slide"), _counted(count, "question")
        lines.append(f"Not found: {slides} with {questions}, failed in every mode that looks.")
    if unusable := summary.get("unusable"):
        lines.append(f"Of the benchmark {_counted(len(unusable), 'row')} cannot be used.")
    if open_count := summary.get("left"):
        lines.append(f"Not brought to its end: {_counted(open_count, 'result')} missing.")
    if any("constant" in modes for modes in summary["tasks"].values()):
        lines.append(
            "Mode constant was chosen with the right answers known: it is a yardstick, not a method."
        )
    return [*lines, "Abstentions, failures and replies without an answer count as wrong."]
