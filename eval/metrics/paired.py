"""Are two ways of answering the same questions really different? Exact McNemar, paired bootstrap, Holm.

Letters: N questions, R replicates. `a` and `b` are (N,) bool: whether each was answered rightly, one way and
the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eval.metrics.resampling import REPLICATES, draws, scores


@dataclass(frozen=True)
class Paired:
    """Two ways compared on the questions that both were asked."""

    n: int
    only_a: int
    """Questions that only the first got right."""
    only_b: int
    difference: float
    """Metric of the second minus that of the first."""
    low: float
    high: float
    """Ends of the 95 % interval of the difference."""
    p_mcnemar: float
    p_bootstrap: float


def mcnemar(only_a: int, only_b: int) -> float:
    """Two-sided exact p-value: under equal accuracy the discordant questions fall either way by a fair coin.

    McNemar 1947, Psychometrika 12:153, with the binomial in place of chi-square. 1 where none is discordant.
    """
    from scipy.stats import binomtest

    discordant = only_a + only_b
    return float(binomtest(only_a, discordant, 0.5).pvalue) if discordant else 1.0


def compare_paired(metric: str, codes: np.ndarray, a: np.ndarray, b: np.ndarray, seed: int = 0) -> Paired:
    """Compare two ways of answering by "accuracy" or "balanced_accuracy"; `codes` (N,) are the right classes.

    The bootstrap resamples questions, the same ones for both ways. Its p-value is twice the smaller share of
    replicates on one side of no difference, never below 2 / (R + 1). Raises `ValueError` for no questions.
    """
    if len(a) != len(b) or len(a) == 0:
        raise ValueError(f"{len(a)} and {len(b)} answers cannot be compared")
    a, b = np.asarray(a, dtype=bool), np.asarray(b, dtype=bool)
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())

    def difference(weights: np.ndarray) -> np.ndarray:
        return scores(metric, codes, b, weights) - scores(metric, codes, a, weights)

    value = float(difference(np.ones((1, len(a))))[0])
    deltas = difference(draws(len(a), seed))  # (R,)
    low, high = np.percentile(deltas, [2.5, 97.5])
    beyond = min(int((deltas <= 1e-9).sum()), int((deltas >= -1e-9).sum()))
    p = min(1.0, 2 * (beyond + 1) / (REPLICATES + 1))
    return Paired(len(a), only_a, only_b, value, float(low), float(high), mcnemar(only_a, only_b), p)


def holm(ps: Sequence[float]) -> list[float]:
    """p-values corrected for their number, in the order given (Holm 1979, Scand. J. Statist. 6:65)."""
    order = sorted(range(len(ps)), key=lambda i: ps[i])
    p_holm, largest = [0.0] * len(ps), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(ps) - rank) * ps[i]))
        p_holm[i] = largest
    return p_holm
