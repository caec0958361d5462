"""Pyramids in TIFF files, read by the file's own tiles: each is decoded once while it is kept.

Tiles that threads ask for at the same time are decoded by one of them. JPEG levels can also be decoded at a
half, a quarter or an eighth of their size, which costs less than decoding them whole and averaging.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from core_model.errors import SlideError
from core_model.slides.file_tiles import FileTiles, PlacedFile, TileMissing, file_tiles
from core_model.slides.sources import DecodeError, PixelSource
from core_model.slides.tiff import CONVERT, MOST_PAGES, Page, scale_properties

CACHE_BYTES = 96 << 20
"""Decoded tiles kept: two rows of tiles of 512 px, 32,768 px wide."""

Key = tuple[int, int, int]
"""Level, factor and number of a tile."""


class TileCache:
    """Decoded tiles, the latest used up to `most` bytes. Two threads never decode the same tile at once."""

    def __init__(self, most: int = CACHE_BYTES) -> None:
        self._most, self._held = most, 0
        self._tiles: OrderedDict[Key, Future[np.ndarray]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Key, decode: Callable[[], np.ndarray]) -> np.ndarray:
        """The tile of that key, decoded now where it is not here. Raises what `decode` raises, each time."""
        with self._lock:
            found = self._tiles.get(key)
            if found is not None:
                self._tiles.move_to_end(key)
            else:
                mine = self._tiles[key] = Future()
        if found is not None:
            return found.result()
        try:
            pixels = decode()
        except BaseException as error:
            with self._lock:
                self._tiles.pop(key, None)
            mine.set_exception(error)
            raise
        with self._lock:
            self._held += pixels.nbytes
            mine.set_result(pixels)
            self._evict()
        return pixels

    def clear(self) -> None:
        """Forget all that is decoded."""
        with self._lock:
            self._tiles = OrderedDict((key, tile) for key, tile in self._tiles.items() if not tile.done())
            self._held = 0

    def _evict(self) -> None:
        """Drop the tiles that were used longest ago; those being decoded are put behind the others."""
        for _ in range(len(self._tiles)):
            if self._held <= self._most:
                return
            key, tile = self._tiles.popitem(last=False)
            if tile.done():
                self._held -= tile.result().nbytes
            else:
                self._tiles[key] = tile


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
        width, height = tiles.size[0] // factor, tiles.size[1] // factor
        if x < 0 or y < 0 or x + w > width or y + h > height:
            raise DecodeError(f"the rectangle leaves its level of {width} x {height} px")
        return Image.fromarray(self._assembled(level, factor, tiles, (x, y, w, h))), (0.0, 0.0)

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
        x, y, w, h = box
        tile_w, tile_h = -(-tiles.tile[0] // factor), -(-tiles.tile[1] // factor)
        canvas: np.ndarray | None = None
        for row in range(y // tile_h, (y + h - 1) // tile_h + 1):
            for column in range(x // tile_w, (x + w - 1) // tile_w + 1):
                pixels = self._tile(level, factor, tiles, row * tiles.across + column)
                left, top = column * tile_w, row * tile_h
                x0, y0 = max(x, left), max(y, top)
                x1, y1 = min(x + w, left + tile_w), min(y + h, top + tile_h)
                part = pixels[y0 - top : y1 - top, x0 - left : x1 - left]
                if part.shape[:2] == (h, w):
                    return part
                if canvas is None:
                    canvas = np.empty((h, w, 3), dtype=np.uint8)
                canvas[y0 - y : y1 - y, x0 - x : x1 - x] = part
        assert canvas is not None
        return canvas

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
    """The slide that `behind` has opened, its levels decoded here where they can be; else `behind`."""
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        every: list[Any] = list(islice(tiff.pages, MOST_PAGES))
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
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        scan = tiff.pages[page.number]
        reduced = [tiff.pages[other.number] for other in pages if other.reduced and not other.associated]
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
