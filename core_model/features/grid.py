"""The grid of tiles over the tissue of a slide.

Letters: N tiles.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np

from core_model.errors import NoTissue
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
    height: int | None = None
    """Height of a tile in level-0 px where the slide's px are not square; else None, and `size` is both."""

    @property
    def sides(self) -> tuple[int, int]:
        """Width and height of a tile in level-0 px."""
        return self.size, self.height or self.size

    def __len__(self) -> int:
        return len(self.coords)

    @property
    def digest(self) -> str:
        """SHA-256 of everything that says where which tile is."""
        facts = (self.size, self.tile_um, self.extent, *([] if self.height is None else [self.height]))
        sha = hashlib.sha256(repr(facts).encode())
        for array in (self.coords, self.unsure):
            sha.update(np.ascontiguousarray(array).data)
        return sha.hexdigest()

    def whole(self) -> TileGrid:
        """Without the tiles that reach beyond the slide."""
        inside = self.coords + self.sides <= self.extent  # (N, 2)
        return self.only(np.all(inside, axis=1))

    def only(self, rows: np.ndarray) -> TileGrid:
        """These tiles: their rows, or (N,) bool."""
        return replace(self, coords=self.coords[rows], unsure=self.unsure[rows])

    def box(self, i: int) -> Box:
        """Box of tile `i`: its part on the slide."""
        return tile_box(self.coords[i], self.size, self.extent, self.height)


def tile_grid(slide: Slide, tissue: TissueMask, tile_um: float, min_tissue: float = 0.25) -> TileGrid:
    """Tiles of `tile_um` µm on a grid from (0, 0) over the whole slide, at least `min_tissue` of each tissue.

    The last tiles of a row and column may reach beyond the slide: their share is that of their part on it. A
    tile that would reach the share if its unknown part were tissue is kept as `unsure`. Raises `NoTissue`
    where no tile is left.
    """
    w, h = (max(1, round(tile_um / mpp)) for mpp in (slide.mpp_x, slide.mpp_y))
    y, x = np.mgrid[0 : -(-slide.height // h), 0 : -(-slide.width // w)]
    coords = np.stack([x.ravel(), y.ravel()], axis=1).astype(np.int64) * (w, h)  # (N, 2)
    on_slide = np.minimum((w, h), (slide.width, slide.height) - coords).prod(axis=1) / (w * h)  # (N,)
    tissue_shares = tissue.grid_shares(w, h).ravel() / on_slide
    unknown_shares = tissue.unknown_grid_shares(w, h).ravel() / on_slide
    enough = tissue_shares >= min_tissue
    perhaps = ~enough & (unknown_shares > 0) & (tissue_shares + unknown_shares >= min_tissue)
    keep = enough | perhaps
    if not keep.any():
        raise NoTissue(
            f"no tile of {tile_um:g} µm has at least {min_tissue:.0%} tissue",
            where=slide.name,
            fix="Look at its overview; it may be nearly blank",
        )
    extent, height = (slide.width, slide.height), None if slide.square else h
    return TileGrid(coords[keep], w, tile_um, perhaps[keep], extent, height)
