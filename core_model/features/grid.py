"""The grid of tiles over the tissue of a slide.

Letters: N tiles.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np

from core_model.errors import MppError, NoTissue
from core_model.slides.box import Box, tile_box
from core_model.slides.slide import Slide
from core_model.slides.tissue import TissueMask

MIN_TISSUE = 0.25
"""Least share of a tile that is tissue."""


@dataclass(frozen=True)
class TileGrid:
    """Tiles in reading order: row by row, left to right."""

    coords: np.ndarray
    """(N, 2) int64: x, y of each tile's corner in level-0 px."""
    size: int
    """Side of a tile in level-0 px."""
    tile_um: float
    """Side of a tile in µm, as asked for."""
    unsure: np.ndarray
    """(N,) bool: tiles that may or may not show enough tissue, because the overview is unknown there."""
    extent: tuple[int, int]
    """Width and height of the slide in level-0 px; the last tiles of a row and column may reach beyond."""

    def __len__(self) -> int:
        return len(self.coords)

    @property
    def digest(self) -> str:
        """SHA-256 of everything that says where which tile is."""
        facts = (self.size, self.tile_um, self.extent)
        sha = hashlib.sha256(repr(facts).encode())
        for array in (self.coords, self.unsure):
            sha.update(np.ascontiguousarray(array).data)
        return sha.hexdigest()

    def whole(self) -> TileGrid:
        """Without the tiles that reach beyond the slide."""
        inside = self.coords + self.size <= self.extent  # (N, 2)
        return self.only(np.all(inside, axis=1))

    def only(self, rows: np.ndarray) -> TileGrid:
        """These tiles: their rows, or (N,) bool."""
        return replace(self, coords=self.coords[rows], unsure=self.unsure[rows])

    def box(self, i: int) -> Box:
        """Box of tile `i`: its part on the slide."""
        return tile_box(self.coords[i], self.size, self.extent)


def tile_grid(slide: Slide, tissue: TissueMask, tile_um: float, min_tissue: float = 0.25) -> TileGrid:
    """Tiles of `tile_um` µm on a grid from (0, 0) over the whole slide, at least `min_tissue` of each tissue.

    The last tiles of a row and column may reach beyond the slide: their share is that of their part on it. A
    tile that would reach the share if its unknown part were tissue is kept as `unsure`. Raises `NoTissue`
    where no tile is left.
    """
    if not slide.square:
        raise MppError(
            f"its pixels are {slide.mpp_x:.4g} x {slide.mpp_y:.4g} µm, and only square ones can be embedded",
            where=slide.name,
            fix="Ask a chat model, which needs no embedding, or resample the slide to square pixels",
        )
    size = max(1, round(tile_um / slide.mpp))
    y, x = np.mgrid[0 : -(-slide.height // size), 0 : -(-slide.width // size)]
    coords = np.stack([x.ravel(), y.ravel()], axis=1).astype(np.int64) * size  # (N, 2)
    on_slide = np.minimum(size, (slide.width, slide.height) - coords).prod(axis=1) / size**2  # (N,)
    tissue_shares = tissue.grid_shares(size).ravel() / on_slide
    unknown_shares = tissue.unknown_grid_shares(size).ravel() / on_slide
    enough = tissue_shares >= min_tissue
    perhaps = ~enough & (unknown_shares > 0) & (tissue_shares + unknown_shares >= min_tissue)
    keep = enough | perhaps
    if not keep.any():
        raise NoTissue(
            f"no tile of {tile_um:g} µm has at least {min_tissue:.0%} tissue",
            where=slide.name,
            fix="Look at its overview; it may be nearly blank",
        )
    return TileGrid(coords[keep], size, tile_um, perhaps[keep], (slide.width, slide.height))
