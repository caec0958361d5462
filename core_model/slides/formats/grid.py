"""A pyramid of tiles that something else decodes: here they are kept, and put together to rectangles."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import numpy as np
from PIL import Image

from core_model.errors import SlideError
from core_model.slides.kept_tiles import TileCache, assembled
from core_model.slides.sources import DecodeError, ExtraMissing

Fetch = Callable[[int, int, int], np.ndarray]
"""(level, column, row) → uint8 (h, w, 3) of a tile, at least as much of it as lies on the level.

Raises `DecodeError` where any of it is damaged or missing.
"""


@dataclass(frozen=True)
class Grid:
    """A level, in tiles from its upper left corner on."""

    size: tuple[int, int]
    """Width and height of the level, px."""
    tile: tuple[int, int]
    """Width and height of a tile, px."""

    @property
    def across(self) -> int:
        """Tiles in a row."""
        return -(-self.size[0] // self.tile[0])

    def on_level(self, column: int, row: int) -> tuple[int, int, int, int]:
        """x, y, width and height of the part of a tile that lies on the level."""
        x, y = column * self.tile[0], row * self.tile[1]
        return x, y, min(self.tile[0], self.size[0] - x), min(self.tile[1], self.size[1] - y)


class GridSource:
    """A `PixelSource` over tiles that `fetch` gives."""

    def __init__(
        self,
        where: Path,
        grids: Sequence[Grid],
        fetch: Fetch,
        *,
        vendor: str,
        reader: str,
        properties: Mapping[str, str],
        free: Callable[[], object] = lambda: None,
    ) -> None:
        """`free` closes what `fetch` reads from. Raises `SlideError` where the levels show no one picture."""
        check_levels([grid.size for grid in grids], where)
        self._where, self._grids, self._fetch, self._free = where, tuple(grids), fetch, free
        self.vendor, self.reader, self.properties = vendor, reader, properties
        self.level_dimensions: tuple[tuple[int, int], ...] = tuple(grid.size for grid in grids)
        self.made_levels: tuple[tuple[int, int], ...] = ()
        self._cache = TileCache()
        self._closed = False

    def tile_size(self, level: int) -> tuple[int, int]:
        """Width and height of the tiles of a level."""
        return self._grids[level].tile

    def read_level(
        self, level: int, x: int, y: int, w: int, h: int
    ) -> tuple[Image.Image, tuple[float, float]]:
        """RGB of a rectangle, without offset. Raises `DecodeError`."""
        if self._closed:
            raise SlideError("the slide is closed", where=self._where)
        grid = self._grids[level]
        pixels = assembled((x, y, w, h), grid.size, grid.tile, lambda c, r: self._tile(level, c, r))
        return Image.fromarray(pixels), (0.0, 0.0)

    def close(self) -> None:
        """Free the file and the tiles."""
        self._closed = True
        self._cache.clear()
        self._free()

    def _tile(self, level: int, column: int, row: int) -> np.ndarray:
        grid = self._grids[level]
        key = (level, 1, row * grid.across + column)
        return self._cache.get(key, lambda: self._checked(level, column, row))

    def _checked(self, level: int, column: int, row: int) -> np.ndarray:
        """A tile, which must have the size and the type that its place asks for."""
        pixels = self._fetch(level, column, row)
        _, _, w, h = self._grids[level].on_level(column, row)
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
            raise DecodeError(f"a tile of it holds {pixels.dtype} {pixels.shape}, and no 8-bit RGB")
        if pixels.shape[0] < h or pixels.shape[1] < w:
            raise DecodeError(f"a tile of it holds {pixels.shape[1]} x {pixels.shape[0]} px of {w} x {h}")
        return pixels


MOST_LEVELS = 40
"""Levels of a pyramid; halving 10⁶ px down to one takes 20."""


def check_levels(sizes: Sequence[tuple[int, int]], where: Path) -> None:
    """Raise `SlideError` where the levels are no smaller and smaller pictures of the first."""
    if not sizes or len(sizes) > MOST_LEVELS or any(min(size) < 1 for size in sizes):
        raise SlideError(f"it holds {len(sizes)} levels, or levels without pixels", where=where)
    width, height = sizes[0]
    for finer, (w, h) in pairwise(sizes):
        # Sides are rounded or cropped at each level, so they follow the same factor to about a pixel.
        apart = abs(width / w - height / h) / max(width / w, height / h)
        if w > finer[0] or h > finer[1] or (w, h) == sizes[0] or apart > 2.0 / min(w, h):
            raise SlideError(
                f"its levels show different pictures: {width} x {height} px and {w} x {h} px", where=where
            )


def extra(module: str, name: str, kind: str, where: object, otherwise: str = "") -> ModuleType:
    """A library that an extra of the package brings. Raises `ExtraMissing`, which says what else to do."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ExtraMissing(
            f"{kind} needs the extra {name!r}, which is not installed here ({error})",
            where=where,
            fix=f"pip install 'giant-pathology[{name}]'" + (f". {otherwise}" if otherwise else ""),
        ) from error
