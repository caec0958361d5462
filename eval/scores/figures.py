"""The figures of results: a metric with its spread, what guessing would reach, and what it all cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eval.asking.results import Result, label
from eval.metrics.classification import (
    accuracy,
    balanced_accuracy,
    best_constant,
    quadratic_kappa,
    random_guess,
    spread,
)

PARTS = ("organ", "rarity", "category")
SPENT = ("seconds", "steps", "regions", "pixels", "calls", "tokens_in", "tokens_out")
"""Means per question that stand beside every accuracy."""


def parts(results: Sequence[Result]) -> dict[str, dict[str, dict[str, dict[str, Any]]]]:
    """Accuracy of each mode by organ, rarity and category: {kind: {name: {mode: figures}}}."""
    tables: dict[str, dict[str, dict[str, dict[str, Any]]]] = {}
    for kind in PARTS:
        for name in sorted({str(getattr(r, kind)) for r in results if getattr(r, kind) is not None}):
            for mode in modes_of(results):
                members = [r for r in results if str(getattr(r, kind)) == name and r.mode == mode]
                if members:
                    over = spread("accuracy", [r.truth for r in members], [label(r) for r in members])
                    row = {"n": len(members), **vars(over)}
                    tables.setdefault(kind, {}).setdefault(name, {})[mode] = row
    return tables


def figures(metric: str, results: Sequence[Result]) -> dict[str, Any]:
    """Every figure of one task in one mode. Abstentions, failures and unread replies are wrong."""
    n = len(results)
    counts = {
        "abstained": sum(r.abstained for r in results),
        "unread": sum(r.unread for r in results),
        "failed": sum(r.error is not None for r in results),
        **{name: sum(getattr(r, name) for r in results) / n for name in SPENT},
        "usd": _money(results),
    }
    if metric == "text":
        return {"n": n, "metric": metric, "value": None, **counts}
    truth, labels = [r.truth for r in results], [label(r) for r in results]
    over = spread(metric, truth, labels)
    constant, constant_value = best_constant(metric, truth, [r.position for r in results])
    pairs = [(t, s) for t, s in zip(truth, labels, strict=True) if s is not None]
    scale = results[0].labels
    return {
        "n": n,
        "metric": metric,
        **vars(over),
        "best_constant": constant_value,
        "best_constant_answer": constant,
        "random": random_guess(metric, truth, [r.options for r in results]),
        "accuracy": accuracy(truth, labels),
        "balanced_accuracy": balanced_accuracy(truth, labels),
        "kappa_quadratic": quadratic_kappa(truth, labels, scale) if scale else None,
        "accuracy_answered": accuracy(*zip(*pairs, strict=True)) if pairs else None,
        **counts,
    }


def modes_of(results: Sequence[Result]) -> list[str]:
    """The modes of results, in the order in which they first come."""
    return list(dict.fromkeys(result.mode for result in results))


def _money(results: Sequence[Result]) -> float | None:
    """USD a question; None where any price is unknown or nothing was paid for."""
    costs = [r.usd for r in results if r.calls]
    return sum(p for p in costs if p is not None) / len(results) if costs and None not in costs else None
