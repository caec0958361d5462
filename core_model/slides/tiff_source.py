"""Pyramids in TIFF files, read by the file's own tiles: each is decoded once while it is kept.

JPEG levels can also be decoded at a
half, a quarter or an eighth of their size, which costs less than decoding them whole and averaging.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from core_model.errors import SlideError
from core_model.slides.file_tiles import FileTiles, PlacedFile, TileMissing, file_tiles
from core_model.slides.kept_tiles import TileCache, assembled
from core_model.slides.sources import PixelSource
from core_model.slides.tiff import CONVERT, Page, directory, scale_properties


class TiffSource:
    """Levels of a TIFF, by its own tiles; levels of a kind that is not decoded here are read by `behind`."""

    def __init__(
        self,
        path: Path,
        levels: Sequence[FileTiles | None],
        properties: Mapping[str, str],
        vendor: str,
        behind: PixelSource | None = None,
    ) -> None:
        """`levels` are those of `behind` where there is one: None for those that it reads."""
        self.properties, self.vendor = properties, vendor
        self._path, self._behind = path, behind
        self._levels = tuple(levels)
        stored = behind.level_dimensions if behind is not None else ()
        self.level_dimensions: tuple[tuple[int, int], ...] = tuple(
            tiles.size if tiles is not None else stored[level] for level, tiles in enumerate(levels)
        )
        self.made_levels = tuple(
            (level, factor) for level, tiles in enumerate(levels) if tiles for factor in tiles.factors
        )
        codecs = list(dict.fromkeys(tiles.codec for tiles in levels if tiles))
        if behind is not None and None in self._levels:
            codecs.append(behind.reader)
        self.reader = " and ".join(codecs)
        self._file = PlacedFile(path)
        self._cache = TileCache()

    def tile_size(self, level: int) -> tuple[int, int]:
        """Width and height of the tiles of a level."""
        level, factor = self._stored(level)
        tiles = self._levels[level]
        if tiles is None:
            assert self._behind is not None
            return self._behind.tile_size(level)
        return -(-tiles.tile[0] // factor), -(-tiles.tile[1] // factor)

    def read_level(
        self, level: int, x: int, y: int, w: int, h: int
    ) -> tuple[Image.Image, tuple[float, float]]:
        """RGB of a rectangle of a level, or of one that is made, without offset. Raises `DecodeError`."""
        level, factor = self._stored(level)
        tiles = self._levels[level]
        if tiles is None:
            assert self._behind is not None
            return self._behind.read_level(level, x, y, w, h)
        pixels = self._assembled(level, factor, tiles, (x, y, w, h))
        return Image.fromarray(pixels), (0.0, 0.0)

    def close(self) -> None:
        """Free the file and the tiles."""
        self._file.close()
        self._cache.clear()
        if self._behind is not None:
            self._behind.close()

    def _assembled(
        self, level: int, factor: int, tiles: FileTiles, box: tuple[int, int, int, int]
    ) -> np.ndarray:
        """Pixels (h, w, 3) of a rectangle x, y, w, h of a level at a factor."""
        size = (tiles.size[0] // factor, tiles.size[1] // factor)
        tile = (-(-tiles.tile[0] // factor), -(-tiles.tile[1] // factor))
        return assembled(box, size, tile, lambda c, r: self._tile(level, factor, tiles, r * tiles.across + c))

    def _tile(self, level: int, factor: int, tiles: FileTiles, number: int) -> np.ndarray:
        def decode() -> np.ndarray:
            try:
                return tiles.read(self._file, number, factor)
            except TileMissing:
                if level == 0 or factor != 1:
                    raise
                return self._from_finer(level, tiles, number)

        return self._cache.get((level, factor, number), decode)

    def _from_finer(self, level: int, tiles: FileTiles, number: int) -> np.ndarray:
        """A tile that the file lacks, averaged from the level before: Aperio files can have such gaps."""
        finer, (h, w) = self._levels[level - 1], tiles.shape(number)
        (width, height), (fine_w, fine_h) = tiles.size, self.level_dimensions[level - 1]
        k = round(fine_w / width)
        if finer is None or abs(fine_w / k - width) >= 1 or abs(fine_h / k - height) >= 1:
            raise TileMissing("a tile of it is missing in the file")
        x, y = number % tiles.across * tiles.tile[0] * k, number // tiles.across * tiles.tile[1] * k
        box = (x, y, min(w * k, fine_w - x), min(h * k, fine_h - y))
        part = self._assembled(level - 1, 1, finer, box)
        lacks = (h * k - part.shape[0], w * k - part.shape[1])
        part = np.pad(part, ((0, lacks[0]), (0, lacks[1]), (0, 0)), mode="edge")
        return np.asarray(Image.fromarray(part).reduce(k))

    def _stored(self, level: int) -> tuple[int, int]:
        """The level of the file, and the factor at which it is decoded, of a level that may be made."""
        stored = len(self.level_dimensions)
        return (level, 1) if level < stored else self.made_levels[level - stored]


def by_own_tiles(path: Path, behind: PixelSource) -> PixelSource:
    """The slide that `behind` has opened, its levels decoded here where they can be; else `behind`.

    Raises `SlideError` where the directory cannot be read.
    """
    with directory(path) as every:
        pages = [page for page in every if page.is_tiled]
        sizes = [(int(page.imagewidth), int(page.imagelength)) for page in pages]
        levels = [
            file_tiles(pages[sizes.index(size)]) if sizes.count(size) == 1 else None
            for size in behind.level_dimensions
        ]
        if len(levels) == 1 and levels[0] is not None:
            levels += [file_tiles(page) for page in _smaller(pages[sizes.index(levels[0].size)])]
    if not any(levels):
        return behind
    return TiffSource(path, levels, behind.properties, behind.vendor, behind)


def open_tiff(path: Path, page: Page, pages: Sequence[Page]) -> TiffSource:
    """A TIFF that OpenSlide does not know, or knows wrongly: its scan is `page` of `pages`.

    Raises `SlideError` where its pixels are of a kind that is not read here.
    """
    with directory(path) as every:
        scan = every[page.number]
        reduced = [every[other.number] for other in pages if other.reduced and not other.associated]
        levels = [file_tiles(level) for level in [scan, *_smaller(scan, reduced)]]
        compression = getattr(scan.compression, "name", scan.compression)
    if levels[0] is None:
        raise SlideError(
            f"its tiles are of a kind that is not read here (compression {compression})",
            where=path,
            fix=CONVERT,
        )
    properties = scale_properties(pages, page)
    return TiffSource(path, [level for level in levels if level], properties, _kind(pages))


def _smaller(scan: Any, reduced: Sequence[Any] = ()) -> list[Any]:
    """The smaller versions of a page: its SubIFDs, and what is flagged so; largest first."""
    width, height = int(scan.imagewidth), int(scan.imagelength)
    chosen: dict[tuple[int, int], Any] = {}
    for page in [*(scan.pages or ()), *reduced]:
        w, h = int(page.imagewidth), int(page.imagelength)
        alike = 0 < w < width and 0 < h < height and abs(h - height * w / width) <= 1 + height / width
        if alike and int(page.samplesperpixel) == int(scan.samplesperpixel):
            chosen.setdefault((w, h), page)
    return [chosen[size] for size in sorted(chosen, reverse=True)]


def _kind(pages: Sequence[Page]) -> str:
    described = pages[0].description
    if "<OME" in described[:2000]:
        return "ome-tiff"
    return "qptiff" if "PerkinElmer-QPI" in described[:2000] else "plain-tiff"
