"""How much a slide resembles the training data: its tiles' features against centroids of training tiles.

`words.py` tells how familiar a question is, by its words.
Letters: N tiles, D channels of a tile feature, K centroids, n tiles at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Familiarity:
    """Where the training tiles lie in feature space, and how far from there other tiles are."""

    mean: np.ndarray
    """(D,) mean of the training tiles' features."""
    scale: np.ndarray
    """(D,) their standard deviation."""
    centroids: np.ndarray
    """(K, D) in standardised features."""

    def distances(self, features: np.ndarray) -> np.ndarray:
        """(N, D) → (N,) root mean square difference per channel to the nearest centroid."""
        points = (np.asarray(features, dtype=np.float32) - self.mean) / self.scale
        return np.sqrt(_nearest(points, self.centroids)[1] / points.shape[1])

    def distance(self, features: np.ndarray) -> float:
        """Median distance of a slide's tiles (N, D): one odd tile does not make a slide unfamiliar."""
        return float(np.median(self.distances(features)))


def fit_familiarity(features: np.ndarray, k: int = 256, seed: int = 0, rounds: int = 15) -> Familiarity:
    """K-means (Lloyd) over tile features (N, D); fewer centroids where there are fewer tiles.

    A centroid that loses all its tiles stays where it was.
    """
    rng = np.random.default_rng(seed)
    features = np.asarray(features, dtype=np.float32)
    mean, scale = features.mean(axis=0), features.std(axis=0) + 1e-6  # (D,), (D,)
    points = (features - mean) / scale
    centroids = points[rng.choice(len(points), size=min(k, len(points)), replace=False)].copy()
    for _ in range(rounds):
        owner, _ = _nearest(points, centroids)
        counts = np.bincount(owner, minlength=len(centroids))
        sums = np.zeros_like(centroids)
        np.add.at(sums, owner, points)
        has_tiles = counts > 0
        centroids[has_tiles] = sums[has_tiles] / counts[has_tiles, None]
    return Familiarity(mean, scale, centroids)


def _nearest(points: np.ndarray, centroids: np.ndarray, at_once: int = 4096) -> tuple[np.ndarray, np.ndarray]:
    """Index of the nearest centroid (N,) and the squared distance to it (N,)."""
    owner, distances = np.empty(len(points), np.int64), np.empty(len(points), np.float32)
    norms = (centroids**2).sum(axis=1)  # (K,)
    for start in range(0, len(points), at_once):
        part = points[start : start + at_once]
        table = (part**2).sum(axis=1)[:, None] - 2 * part @ centroids.T + norms  # (n, K)
        best = table.argmin(axis=1)
        owner[start : start + at_once] = best
        distances[start : start + at_once] = np.maximum(table[np.arange(len(part)), best], 0)
    return owner, distances
