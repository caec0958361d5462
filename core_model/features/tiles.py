"""A slide as features of its tiles, with who computed them, or as the pooled tokens of a slide encoder.

Letters: N tiles, D channels of a tile feature, n slide tokens, C channels of a slide token.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from core_model.slides.box import Box

if TYPE_CHECKING:
    from torch import Tensor


class EncoderIdentity(Protocol):
    """The facts of a tile encoder that the feature store records."""

    name: str
    fingerprint: str
    dim: int
    tile_px: int
    mpp: float

    @property
    def tile_um(self) -> float:
        """Side of a tile in µm."""


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

    def __len__(self) -> int:
        return len(self.coords)

    def box(self, i: int) -> Box:
        """Box of tile `i`."""
        x, y = self.coords[i]
        return Box(int(x), int(y), self.size, self.size)

    def inside_mask(self, box: Box, min_overlap: float = 0.5) -> np.ndarray:
        """(N,) bool: tiles of which at least `min_overlap` lies in `box`."""
        x, y = self.coords[:, 0], self.coords[:, 1]
        w = np.minimum(x + self.size, box.right) - np.maximum(x, box.x)
        h = np.minimum(y + self.size, box.bottom) - np.maximum(y, box.y)
        common = np.maximum(w, 0) * np.maximum(h, 0)
        return (common > 0) & (common >= min_overlap * self.size**2)

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
