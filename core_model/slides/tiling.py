"""A grid of square tiles over tissue, of one physical size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from core_model.errors import NoTissue
from core_model.slides.box import Box
from core_model.slides.slide import Slide
from core_model.slides.tissue import TissueMask


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

    def __len__(self) -> int:
        return len(self.coords)

    def box(self, i: int) -> Box:
        """Box of tile `i`."""
        x, y = self.coords[i]
        return Box(int(x), int(y), self.size, self.size)


def tile_grid(slide: Slide, tissue: TissueMask, tile_um: float, min_tissue: float = 0.25) -> TileGrid:
    """Tiles of `tile_um` µm wholly on the slide, on a grid from (0, 0), at least `min_tissue` of each tissue.

    A tile that would reach that share if its unknown part were tissue is kept as `unsure`. Raises
    `NoTissue` where no tile is left, or none fits on the slide.
    """
    size = max(1, round(tile_um / slide.mpp))
    columns, rows = slide.width // size, slide.height // size
    if columns == 0 or rows == 0:
        raise NoTissue(
            f"the slide measures {slide.width * slide.mpp:.0f} x {slide.height * slide.mpp:.0f} µm,"
            f" smaller than one tile of {tile_um:g} µm",
            where=slide.name,
            fix="Check --mpp if the slide should be larger",
        )
    y, x = np.mgrid[0:rows, 0:columns]
    coords = np.stack([x.ravel(), y.ravel()], axis=1).astype(np.int64) * size  # (N, 2)
    known = tissue.shares(coords, size, size)
    unknown = tissue.unknown_shares(coords, size, size)
    enough = known >= min_tissue
    perhaps = ~enough & (unknown > 0) & (known + unknown >= min_tissue)
    keep = enough | perhaps
    if not keep.any():
        raise NoTissue(
            f"no tile of {tile_um:g} µm has at least {min_tissue:.0%} tissue",
            where=slide.name,
            fix="Look at its overview; it may be nearly blank",
        )
    return TileGrid(coords[keep], size, tile_um, perhaps[keep])
