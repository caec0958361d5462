"""A slide as features of its tiles, with who computed them, or as the pooled tokens of a slide encoder.

How much a slide resembles the training data is told by its tiles' features against centroids of training
tiles; `words.py` tells how familiar a question is, by its words.

Letters: N tiles, D channels of a tile feature, n slide tokens (in `Familiarity`: tiles at once), C channels
of a slide token, K centroids.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from core_model.slides.box import Box, tile_box

if TYPE_CHECKING:
    from torch import Tensor


class EncoderIdentity(Protocol):
    """The facts of a tile encoder that the feature store records."""

    @property
    def name(self) -> str:
        """By which a user chooses it."""

    @property
    def fingerprint(self) -> str:
        """Of its weights and of what it does with a tile."""

    @property
    def dim(self) -> int:
        """Channels of a feature."""

    @property
    def tile_px(self) -> int:
        """Side of a tile as it sees it."""

    @property
    def mpp(self) -> float:
        """µm per px at which it sees tiles."""

    @property
    def tile_um(self) -> float:
        """Side of a tile in µm."""


class SlideIdentity(Protocol):
    """The facts of a slide that the feature store records."""

    @property
    def id(self) -> str:
        """Of the content, never of the path."""

    @property
    def name(self) -> str:
        """The file's stem."""

    @property
    def alias(self) -> object | None:
        """Not None where the name stands in place of the file's own, which must not be told."""

    @property
    def mpp(self) -> float:
        """µm per level-0 px."""

    @property
    def width(self) -> int:
        """Level-0 px."""

    @property
    def height(self) -> int:
        """Level-0 px."""


@dataclass(frozen=True)
class TileFeatures:
    """Features of N tiles of one slide."""

    features: np.ndarray
    """(N, D) float32."""
    coords: np.ndarray
    """(N, 2) int64: x, y of each tile's corner in level-0 px."""
    size: int
    """Side of a tile in level-0 px."""
    tile_um: float
    """Side of a tile in µm."""
    slide_mpp: float
    """µm per level-0 px."""
    encoder: str
    """Name of the tile encoder."""
    failed: tuple[tuple[Box, str], ...] = ()
    """Tiles that could not be read, with the reason. They have no features."""
    extent: tuple[int, int] | None = None
    """Width and height of the slide in level-0 px. The last tiles of a row and column may reach beyond, where
    glass was put in their place. None where it is not known."""
    overlap: float = 0.0
    """By how many level-0 px neighbours overlap; of other tools' tiles, where it can be more than 0."""

    height: int | None = None
    """Height of a tile in level-0 px where the slide's px are not square; else None, and `size` is both."""

    def __len__(self) -> int:
        return len(self.coords)

    @property
    def sides(self) -> tuple[int, int]:
        """Width and height of a tile in level-0 px."""
        return self.size, self.height or self.size

    @property
    def squared(self) -> tuple[np.ndarray, float]:
        """Corners (N, 2) in px of a slide like this one whose px are square, and the side of these, µm."""
        if self.height is None:
            return self.coords, self.slide_mpp
        return self.coords * (1.0, self.size / self.height), self.tile_um / self.size

    def box(self, i: int) -> Box:
        """Box of tile `i`: its part on the slide."""
        return tile_box(self.coords[i], self.size, self.extent, self.height)

    @property
    def ends(self) -> np.ndarray:
        """(N, 2): x, y of each tile's far corner, or of its part on the slide."""
        far = self.coords + self.sides
        return far if self.extent is None else np.minimum(far, self.extent)

    @property
    def centers(self) -> np.ndarray:
        """(N, 2): x, y of the middle of each tile's part on the slide."""
        return (self.coords + self.ends) / 2

    def inside_mask(self, box: Box, min_overlap: float = 0.5) -> np.ndarray:
        """(N,) bool: tiles of which at least `min_overlap`, of their part on the slide, lies in `box`."""
        corners, far = self.coords, self.ends  # (N, 2), (N, 2)
        common = np.minimum(far, (box.right, box.bottom)) - np.maximum(corners, (box.x, box.y))
        area = np.maximum(common, 0).prod(axis=1)
        return (area > 0) & (area >= min_overlap * (far - corners).prod(axis=1))

    def inside(self, box: Box, min_overlap: float = 0.5) -> TileFeatures:
        """The tiles of which at least `min_overlap` lies in `box`, and the failed ones likewise."""
        keep = self.inside_mask(box, min_overlap)
        failures = tuple(item for item in self.failed if item[0].overlap(box) >= max(min_overlap, 1e-9))
        return replace(self, features=self.features[keep], coords=self.coords[keep], failed=failures)


@dataclass(frozen=True)
class SlideTokens:
    """A slide as the language model reads it: pooled tokens from a file, and nothing else of the slide."""

    tokens: Tensor
    """(n, C) float32."""
    name: str
    """The file's stem."""
    id: str
    """sha256 of the file."""

    def __len__(self) -> int:
        return len(self.tokens)


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
