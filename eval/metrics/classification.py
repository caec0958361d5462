"""Accuracy, balanced accuracy, their spread, and what no look at the slide would reach.

N questions; `truth` is a list of labels, `said` one of labels or None, which is wrong: an abstention or a
failure is no right answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eval.metrics.resampling import draws, scores


@dataclass(frozen=True)
class Spread:
    """A metric with its bootstrap."""

    value: float
    sd: float
    """Standard deviation over replicates."""
    low: float
    high: float
    """Ends of the 95 % interval."""


def right(truth: Sequence[str], answers: Sequence[str | None]) -> np.ndarray:
    """(N,) float: 1 where the answer is right, else 0."""
    return np.array([t == s for t, s in zip(truth, answers, strict=True)], dtype=np.float64)


def accuracy(truth: Sequence[str], answers: Sequence[str | None]) -> float:
    """Share of questions answered rightly."""
    return float(right(truth, answers).mean())


def balanced_accuracy(truth: Sequence[str], answers: Sequence[str | None]) -> float:
    """Mean over the classes that occur in `truth` of the share of their questions answered rightly."""
    return _balanced(class_codes(truth), right(truth, answers))


def quadratic_kappa(
    truth: Sequence[str], answers: Sequence[str | None], labels: Sequence[str]
) -> float | None:
    """Agreement on an ordered scale, beyond chance, distances squared (Cohen 1968, Psychol. Bull. 70:213).

    `labels` are the scale in order. Questions without an answer have no place on it and are left out; None
    where fewer than two are left or nothing varies.
    """
    place = {label: i for i, label in enumerate(labels)}
    pairs = [(place[t], place[s]) for t, s in zip(truth, answers, strict=True) if s in place and t in place]
    if len(pairs) < 2:
        return None
    seen = np.zeros((len(labels), len(labels)))  # (L, L)
    for t, s in pairs:
        seen[t, s] += 1
    away = np.subtract.outer(np.arange(len(labels)), np.arange(len(labels))) ** 2  # (L, L)
    chance = np.outer(seen.sum(axis=1), seen.sum(axis=0)) / len(pairs)
    expected = float((away * chance).sum())
    return 1 - float((away * seen).sum()) / expected if expected else None


def spread(metric: str, truth: Sequence[str], answers: Sequence[str | None], seed: int = 0) -> Spread:
    """The metric "accuracy" or "balanced_accuracy" with 1000 bootstrap replicates over questions."""
    codes, hits = class_codes(truth), right(truth, answers)  # (N,), (N,)
    value = float(scores(metric, codes, hits, np.ones((1, len(hits))))[0])
    values = scores(metric, codes, hits, draws(len(hits), seed))  # (R,)
    low, high = np.percentile(values, [2.5, 97.5])
    return Spread(value, float(values.std(ddof=1)), float(low), float(high))


def best_constant(metric: str, truth: Sequence[str], positions: Sequence[int | None]) -> tuple[str, float]:
    """The best answer that is always the same, a label or a place among the options, and its metric.

    `positions` are the 1-based places of the right answers, None where there are no options.
    """
    score = accuracy if metric == "accuracy" else balanced_accuracy
    candidates = [(score(truth, [label] * len(truth)), f"'{label}'") for label in sorted(set(truth))]
    places = [str(p) for p in positions if p is not None]
    if metric == "accuracy" and len(places) == len(truth):
        candidates += [(score(places, [p] * len(places)), f"option {p}") for p in sorted(set(places))]
    value, answer = max(candidates, key=lambda item: item[0])
    return answer, value


def random_guess(metric: str, truth: Sequence[str], sizes: Sequence[int | None]) -> float:
    """Expected metric of guessing evenly among the options; without options, among the labels that occur.

    `sizes` are the numbers of options.
    """
    labels = len(set(truth))
    chance = np.array([1 / (size or labels) for size in sizes])  # (N,)
    return float(chance.mean()) if metric == "accuracy" else _balanced(class_codes(truth), chance)


def class_codes(truth: Sequence[str]) -> np.ndarray:
    """(N,) int: labels as numbers."""
    return np.unique(np.array(truth), return_inverse=True)[1]


def _balanced(codes: np.ndarray, hits: np.ndarray) -> float:
    count = np.bincount(codes)  # (C,)
    total = np.bincount(codes, weights=hits)  # (C,)
    return float((total[count > 0] / count[count > 0]).mean())
