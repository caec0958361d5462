"""Accuracy, balanced accuracy and kappa, their spread, and what no look at the slide would reach.

Letters: N questions, R replicates, C classes. `truth` is a list of labels, `said` one of labels or None,
which is wrong: an abstention or a failure is no right answer.
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


_OTHER = "\0"
"""Stands for an answer that is no class of the right answers, or none at all: it is wrong in every class."""


def right(truth: Sequence[str], answers: Sequence[str | None]) -> np.ndarray:
    """(N,) float: 1 where the answer is right, else 0."""
    return np.array([t == s for t, s in zip(truth, answers, strict=True)], dtype=np.float64)


def accuracy(truth: Sequence[str], answers: Sequence[str | None]) -> float:
    """Share of questions answered rightly."""
    return float(right(truth, answers).mean())


def balanced_accuracy(truth: Sequence[str], answers: Sequence[str | None]) -> float:
    """Mean over the classes that occur in `truth` of the share of their questions answered rightly."""
    from sklearn.metrics import recall_score

    classes = sorted(set(truth))
    labels = [answer if answer in classes else _OTHER for answer in answers]
    return float(recall_score(truth, labels, labels=classes, average="macro"))


def quadratic_kappa(
    truth: Sequence[str], answers: Sequence[str | None], labels: Sequence[str]
) -> float | None:
    """Agreement on an ordered scale, beyond chance, distances squared (Cohen 1968, Psychol. Bull. 70:213).

    `labels` are the scale in order. Questions without an answer have no place on it and are left out; None
    where fewer than two are left or nothing varies.
    """
    from sklearn.metrics import cohen_kappa_score

    pairs = [(t, a) for t, a in zip(truth, answers, strict=True) if a in labels and t in labels]
    if len(pairs) < 2 or len({label for pair in pairs for label in pair}) < 2:
        return None
    right_labels, given_labels = zip(*pairs, strict=True)
    return float(cohen_kappa_score(right_labels, given_labels, labels=labels, weights="quadratic"))


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
    if metric != "accuracy":  # one class wholly right, all others wholly wrong, whichever it is
        return f"'{min(truth)}'", 1 / len(set(truth))
    candidates = [(accuracy(truth, [label] * len(truth)), f"'{label}'") for label in sorted(set(truth))]
    places = [str(p) for p in positions if p is not None]
    if len(places) == len(truth):
        candidates += [(accuracy(places, [p] * len(places)), f"option {p}") for p in sorted(set(places))]
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
