"""Reading a rectangle of a level at a coarser resolution, block by block, with exact geometry.

A pixel of the result averages the area it covers. Whole factors are averaged exactly while reading, so
that memory stays bounded however large the rectangle; what fraction remains (between 1 and 2) is resampled
once, from floating-point bounds, so the image as a whole does not shift; single edges may move by a quarter
of a pixel.

Letters: h rows and w columns of the result, fx and fy level px that one pixel of it spans.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage

from core_model.slides.sources import DecodeError, PixelSource

BLOCK = 2048
"""Side of a block in level px: 16 MB as RGBA."""

LEAST_CELL = 128
"""Least side, in level px, of the parts in which a damaged block is read."""

MAX_FAILURES = 500
"""Failed reads, each with a reopening, after which the rest of every damaged block counts as unknown."""

UNKNOWN_RGB = (128, 128, 128)
"""Placeholder under the `unknown` mask; nothing may read it as colour."""


@dataclass(frozen=True)
class Window:
    """A rectangle to read: floating-point bounds in level px, and the size of the image wanted.

    A level is cropped to whole pixels, so bounds may pass its edge by less than one of them; there its
    last pixel stands for what it lacks.
    """

    level: int
    x0: float
    y0: float
    x1: float
    y1: float
    out_w: int
    out_h: int


@dataclass(frozen=True)
class Piece:
    """A rectangle in level px."""

    x: int
    y: int
    w: int
    h: int


def _as_stored(source: PixelSource, window: Window) -> Image.Image | None:
    """The image of a window that is whole pixels of its level, read at once; None of any other."""
    x, y, w, h = round(window.x0), round(window.y0), window.out_w, window.out_h
    apart = abs(window.x0 - x) + abs(window.y0 - y) + abs(window.x1 - x - w) + abs(window.y1 - y - h)
    if apart > 1e-4 or w > BLOCK or h > BLOCK:
        return None
    (level_w, level_h), _ = level_size(source, window.level)
    if x + w > level_w or y + h > level_h:
        return None
    image, offset = source.read_level(window.level, x, y, w, h)
    return image if offset == (0.0, 0.0) else None


def level_size(source: PixelSource, level: int) -> tuple[tuple[int, int], int]:
    """Width and height of a level, and the factor by which the reader makes it; 1 where the file holds it."""
    stored = source.level_dimensions
    if level < len(stored):
        return stored[level], 1
    of, factor = source.made_levels[level - len(stored)]
    return (stored[of][0] // factor, stored[of][1] // factor), factor


def read_window(source: PixelSource, window: Window) -> Image.Image:
    """RGB image of `window`, (out_w, out_h). Raises `DecodeError` where any part does not decode."""
    if (plain := _as_stored(source, window)) is not None:
        return plain
    return _Reader(source, window).read(lenient=False)[0]


def block_window(
    downsamples: Sequence[float], size: tuple[int, int], wanted: float, most: int
) -> tuple[Window, float]:
    """A window of a slide of `size` px that needs no resampling, and how many level-0 px its pixels span.

    A pixel of it is a pixel of a level, or a block of them: it spans about `wanted` level-0 px, from two
    thirds of that to one and a half times, unless more than `most` pixels would be needed. The last column
    and row may reach beyond the slide.
    """
    near = [i for i, d in enumerate(downsamples) if i == 0 or d <= wanted * math.sqrt(2)]
    level = max(near, key=downsamples.__getitem__)
    block = max(1, round(wanted / downsamples[level]))
    while True:
        span = downsamples[level] * block
        w, h = (math.ceil(side / span - 1e-6) for side in size)
        if w * h <= most:
            break
        block *= math.ceil(math.sqrt(w * h / most))
    return Window(level, 0.0, 0.0, float(w * block), float(h * block), w, h), span


def survey_window(
    source: PixelSource, window: Window, told: Callable[[int, int], None] | None = None
) -> tuple[Image.Image, np.ndarray]:
    """RGB image of `window`, and a bool mask (out_h, out_w) of what does not decode.

    A pixel is marked when any of the area it covers is unknown. `told` hears of blocks done and in all.
    """
    return _Reader(source, window).read(lenient=True, told=told)


class _Reader:
    """One rectangle being read: the window in whole level px, the whole factor, the canvas."""

    def __init__(self, source: PixelSource, window: Window) -> None:
        self.source, self.window = source, window
        (level_w, level_h), self.made = level_size(source, window.level)
        self.fx = _whole_factor((window.x1 - window.x0) / window.out_w)
        self.fy = _whole_factor((window.y1 - window.y0) / window.out_h)
        x = min(math.floor(window.x0 + 1e-6), level_w - 1)
        y = min(math.floor(window.y0 + 1e-6), level_h - 1)
        w = _up(math.ceil(window.x1 - 1e-6) - x, self.fx)
        h = _up(math.ceil(window.y1 - 1e-6) - y, self.fy)
        self.piece = Piece(x, y, max(1, min(w, level_w - x)), max(1, min(h, level_h - y)))
        size = (_up(self.piece.w, self.fx) // self.fx, _up(self.piece.h, self.fy) // self.fy)
        self.canvas = Image.new("RGB", size, UNKNOWN_RGB)
        self.unknown = np.zeros((size[1], size[0]), dtype=bool)
        self.offset = (0.0, 0.0)
        self.failures = 0

    def read(
        self, lenient: bool, told: Callable[[int, int], None] | None = None
    ) -> tuple[Image.Image, np.ndarray]:
        blocks = list(_split(self.piece, _up(BLOCK, self.fx), _up(BLOCK, self.fy)))
        for number, block in enumerate(blocks):
            if told is not None:
                told(number, len(blocks))
            try:
                offset = self._paste(block)
            except DecodeError:
                if not lenient:
                    raise
                self._salvage(block)
            else:
                # Within one block the origin is known to a fraction of a pixel. Over several it is
                # taken as whole, which is right to half a level-0 pixel.
                self.offset = offset if len(blocks) == 1 else (0.0, 0.0)
        if told is not None:
            told(len(blocks), len(blocks))
        return self._finish()

    def _paste(self, piece: Piece) -> tuple[float, float]:
        image, offset = self.source.read_level(self.window.level, piece.x, piece.y, piece.w, piece.h)
        if (self.fx, self.fy) != (1, 1):
            image = image.reduce((self.fx, self.fy))
        if image.size == self.canvas.size:
            self.canvas = image
        else:
            self.canvas.paste(image, self._cell(piece))
        return offset

    def _cell(self, piece: Piece) -> tuple[int, int]:
        return (piece.x - self.piece.x) // self.fx, (piece.y - self.piece.y) // self.fy

    def _salvage(self, block: Piece) -> None:
        """Read a block that failed by the file's own tiles, and mark those that do not decode as unknown."""
        pixels = np.zeros((_up(block.h, self.fy), _up(block.w, self.fx), 3), dtype=np.uint8)
        bad = np.zeros(pixels.shape[:2], dtype=bool)
        for cell in self._cells(block):
            rows = slice(cell.y - block.y, cell.y - block.y + cell.h)
            columns = slice(cell.x - block.x, cell.x - block.x + cell.w)
            try:
                if self.failures >= MAX_FAILURES:
                    raise DecodeError("too many parts of it failed before")
                image, _ = self.source.read_level(self.window.level, cell.x, cell.y, cell.w, cell.h)
                pixels[rows, columns] = np.asarray(image)
            except DecodeError:
                self.failures += 1
                bad[rows, columns] = True
        column, row = self._cell(block)
        image = Image.fromarray(pixels[: block.h, : block.w])
        self.canvas.paste(image.reduce((self.fx, self.fy)), (column, row))
        h, w = bad.shape[0] // self.fy, bad.shape[1] // self.fx
        any_bad = bad.reshape(h, self.fy, w, self.fx).any(axis=(1, 3))  # (h, w)
        self.unknown[row : row + h, column : column + w] = any_bad

    def _cells(self, block: Piece) -> Iterator[Piece]:
        """The tiles of the file in a block, those of a very fine grid in groups."""
        tile, least = self.source.tile_size(self.window.level), LEAST_CELL // self.made
        side_w, side_h = (_up(max(least, side), side) for side in tile)
        for cell_y in range(block.y // side_h * side_h, block.y + block.h, side_h):
            for cell_x in range(block.x // side_w * side_w, block.x + block.w, side_w):
                x, y = max(cell_x, block.x), max(cell_y, block.y)
                right, bottom = (
                    min(cell_x + side_w, block.x + block.w),
                    min(cell_y + side_h, block.y + block.h),
                )
                yield Piece(x, y, right - x, bottom - y)

    def _finish(self) -> tuple[Image.Image, np.ndarray]:
        """The fraction that whole factors left, from exact bounds in canvas px."""
        window, piece = self.window, self.piece
        size = (window.out_w, window.out_h)
        x0 = (window.x0 - piece.x - self.offset[0]) / self.fx
        y0 = (window.y0 - piece.y - self.offset[1]) / self.fy
        x1 = x0 + (window.x1 - window.x0) / self.fx
        y1 = y0 + (window.y1 - window.y0) / self.fy
        bounds = (max(0.0, x0), max(0.0, y0), x1, y1)
        apart = max(abs(a - b) for a, b in zip(bounds, (0, 0, *size), strict=True))
        if size == self.canvas.size and apart < 1e-4:
            return self.canvas, self.unknown
        canvas, unknown = self._reaching(math.ceil(x1 - 1e-6), math.ceil(y1 - 1e-6))
        bounds = (bounds[0], bounds[1], min(x1, canvas.width), min(y1, canvas.height))
        scale = min((bounds[2] - bounds[0]) / size[0], (bounds[3] - bounds[1]) / size[1])
        image = canvas.resize(size, _filter(scale), box=bounds)
        if not unknown.any():
            return image, np.zeros((size[1], size[0]), dtype=bool)
        reach = ndimage.binary_dilation(unknown, np.ones((3, 3)))  # as far as the filters reach
        spread = Image.fromarray(reach.astype(np.float32))
        return image, np.asarray(spread.resize(size, Image.Resampling.BILINEAR, box=bounds)) > 1e-3

    def _reaching(self, right: int, bottom: int) -> tuple[Image.Image, np.ndarray]:
        """Canvas and mask with their last column and row repeated out to `right` and `bottom`."""
        wide, high = max(0, right - self.canvas.width), max(0, bottom - self.canvas.height)
        if wide == 0 and high == 0:
            return self.canvas, self.unknown
        pixels = np.pad(np.asarray(self.canvas), ((0, high), (0, wide), (0, 0)), mode="edge")
        return Image.fromarray(pixels), np.pad(self.unknown, ((0, high), (0, wide)), mode="edge")


def _filter(scale: float) -> Image.Resampling:
    """Hamming is as sharp as a mean over the area, but near 1:1 it would snap to the nearest pixel."""
    return Image.Resampling.HAMMING if scale > 1.25 else Image.Resampling.BICUBIC


def _whole_factor(scale: float) -> int:
    return max(1, min(BLOCK, math.floor(scale + 1e-6)))


def _up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def _split(piece: Piece, w: int, h: int) -> Iterator[Piece]:
    for y in range(0, piece.h, h):
        for x in range(0, piece.w, w):
            yield Piece(piece.x + x, piece.y + y, min(w, piece.w - x), min(h, piece.h - y))
