"""Bootstrap over questions, fast: a replicate is how often each question was drawn.

Letters: N questions, R replicates, C classes. Draws depend on the seed and N alone, so two ways of answering
the same questions are resampled alike.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

REPLICATES = 1000


@lru_cache(maxsize=8)
def draws(n: int, seed: int = 0) -> np.ndarray:
    """(R, N) float32: how often each of N questions is drawn in each replicate."""
    rows = np.random.default_rng(seed).integers(0, n, size=(REPLICATES, n))  # (R, N)
    flat = rows + np.arange(REPLICATES)[:, None] * n
    return np.bincount(flat.ravel(), minlength=REPLICATES * n).reshape(REPLICATES, n).astype(np.float32)


def scores(metric: str, codes: np.ndarray, hits: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(R,) the metric of `hits` (N,), with questions weighted by each row of `weights` (R, N).

    `codes` (N,) int are the right classes. "accuracy": the weighted mean. "balanced_accuracy": the mean over
    the classes drawn of the share of their questions answered rightly.
    """
    if metric == "accuracy":
        return np.asarray(weights @ hits / weights.sum(axis=1))
    classes = np.eye(int(codes.max()) + 1, dtype=np.float32)[codes]  # (N, C)
    total = weights @ classes  # (R, C)
    right = weights @ (classes * hits[:, None].astype(np.float32))  # (R, C)
    in_sample = total > 0
    shares = np.divide(right, total, out=np.zeros_like(right), where=in_sample)
    return np.asarray(shares.sum(axis=1) / in_sample.sum(axis=1))
