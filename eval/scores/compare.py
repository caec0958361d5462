"""Compare two folders with results, or the modes of one: what differs, and whether by more than chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from core_model.errors import RunError
from eval.asking.results import RESULTS, Result, label, read_results
from eval.metrics.classification import accuracy, balanced_accuracy, class_codes
from eval.metrics.paired import compare_paired, holm
from eval.tables import figures_table

if TYPE_CHECKING:
    from rich.table import Table


def changes(before: Path, after: Path) -> dict[str, Any]:
    """Compare two folders with results, task by task and mode by mode where both have them.

    Questions that only one of them was asked are counted and not compared. Raises `RunError` where a folder
    has no results or the two share no question, or disagree on a right answer.
    """
    old, new = _read(before), _read(after)
    common = [key for key in old if key in new]
    if not common:
        raise RunError("the two folders share no question and mode", where=after)
    conflicts = [key for key in common if old[key].truth != new[key].truth]
    if conflicts:
        raise RunError(
            f"the two folders have different right answers to {' '.join(conflicts[0])}", where=after
        )
    rows = []
    for task, mode in dict.fromkeys((key[0], key[2]) for key in common):
        keys = [key for key in common if (key[0], key[2]) == (task, mode) and old[key].metric != "text"]
        if keys:
            rows.append(_row(task, mode, [old[k] for k in keys], [new[k] for k in keys]))
    for name in ("p_mcnemar", "p_bootstrap"):
        for row, p in zip(rows, holm([row[name] for row in rows]), strict=True):
            row[f"{name}_holm"] = p
    return {
        "before": str(before),
        "after": str(after),
        "only_before": len(old.keys() - new.keys()),
        "only_after": len(new.keys() - old.keys()),
        "rows": rows,
    }


def changes_table(comparison: dict[str, Any]) -> Table:
    """The changes for a terminal."""
    table = figures_table(["task", "mode"], ["n", "before %", "after %", "difference", "95 %", "p"])
    table.add_column("verdict")
    for row in comparison["rows"]:
        table.add_row(
            row["task"],
            row["mode"],
            str(row["n"]),
            f"{100 * row['value_before']:.1f}",
            f"{100 * row['value_after']:.1f}",
            f"{100 * row['difference']:+.1f}",
            f"{100 * row['low']:+.1f} to {100 * row['high']:+.1f}",
            f"{row['p_mcnemar_holm']:.3f}",
            change_verdict(row),
        )
    return table


def change_verdict(row: dict[str, Any]) -> str:
    """In words, at 5 % after Holm's correction: by the exact McNemar test."""
    if row["p_mcnemar_holm"] >= 0.05:
        return "no difference shown"
    return "better" if row["difference"] > 0 else "worse"


def _row(task: str, mode: str, old: Sequence[Result], new: Sequence[Result]) -> dict[str, Any]:
    hits = [np.array([label(r) == r.truth for r in side]) for side in (old, new)]
    result = compare_paired(old[0].metric, class_codes([r.truth for r in old]), hits[0], hits[1])
    value = _value(old[0].metric, old)
    triples = list(zip(old, hits[0], hits[1], strict=True))
    return {
        "task": task,
        "mode": mode,
        **vars(result),
        "value_before": value,
        "value_after": value + result.difference,
        "lost": [r.id for r, was, is_now in triples if was and not is_now],
        "gained": [r.id for r, was, is_now in triples if is_now and not was],
        "otherwise": sum(label(a) != label(b) for a, b in zip(old, new, strict=True)),
    }


def _value(metric: str, results: Sequence[Result]) -> float:
    score = accuracy if metric == "accuracy" else balanced_accuracy
    return score([r.truth for r in results], [label(r) for r in results])


def _read(folder: Path) -> dict[tuple[str, str, str], Result]:
    results = {result.key: result for result in read_results(folder / RESULTS)}
    if not results:
        raise RunError("the folder holds no results", where=folder, fix="Give a folder that giant eval wrote")
    return results


def comparisons(by_mode: Mapping[str, Sequence[Result]], metric: str) -> list[dict[str, Any]]:
    """Every pair of modes of one task: difference with its interval, exact McNemar and bootstrap, Holm's p.

    Only questions that both modes were asked count; a pair without any is left out. Open questions are
    compared by nothing here: they have no right and wrong.
    """
    rows: list[dict[str, Any]] = []
    for first, second in combinations(by_mode, 2):
        a = {(r.benchmark, r.id): r for r in by_mode[first]}
        b = {(r.benchmark, r.id): r for r in by_mode[second]}
        common = [key for key in a if key in b]
        if not common:
            continue
        truth = [a[key].truth for key in common]
        hits = [np.array([label(side[key]) == side[key].truth for key in common]) for side in (a, b)]
        result = compare_paired(metric, class_codes(truth), hits[0], hits[1])
        rows.append({"first": first, "second": second, **vars(result)})
    for name in ("p_mcnemar", "p_bootstrap"):
        for entry, p in zip(rows, holm([entry[name] for entry in rows]), strict=True):
            entry[f"{name}_holm"] = p
    return rows
