"""The tiles of a grid, read by threads in file order, a bounded number ahead of the encoder.

    grid ──> bands ──> steps of 32 tiles ──> pieces of 8 ──> threads: read, prepare ──> the encoder

A file holds its pixels in tiles of its own, row by row. Two rows of them, over the width of a slide, may be
more than a cache holds. So the grid is read in bands of columns, and within a band row by row: neighbours
find the file's tiles decoded. Where a tile stands in the result does not depend on when it was read.

A step is what the encoder computes at once. Its tiles follow from the grid alone, whatever was read before
and however much memory there is: so the same slide gives the same bits on the same kind of device.

Letters: N tiles of the grid, n tiles of a step.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from core_model.errors import RegionUnreadable
from core_model.features.grid import MIN_TISSUE, TileGrid
from core_model.machine import free_memory, usable_cores
from core_model.slides.slide import Slide
from core_model.slides.tissue import tissue_mask

BAND_PX = 16_384
"""Width of a band in level-0 px: two rows of its file tiles are 25 MB."""
PIECE = 8
"""Neighbouring tiles that a thread reads in one go."""
GLASS = (255, 255, 255)
"""Colour of what a tile lacks beyond the slide's edge."""
STEP = 32
"""Tiles that an encoder computes at once, where it does not say."""
TILE_COST = 16
"""Bytes that a pixel of a waiting tile takes: as read, and as the network's three float32 values."""
MOST_READERS = 16


@dataclass(frozen=True)
class Pace:
    """How much is done at once. It decides time and memory, and nothing of the result."""

    readers: int
    """Threads that read."""
    batch: int
    """Tiles handed to the encoder at once, in whole steps; three batches wait beside it at most."""


def choose_pace(
    tile_px: int,
    step: int = STEP,
    *,
    batch: int | None = None,
    readers: int | None = None,
    cores: int | None = None,
    memory: int | None = None,
) -> Pace:
    """A reader for each core, and as large a batch as keeps them busy in a sixteenth of the free memory.

    `batch` and `readers` are taken as they are given; `cores` and `memory` (bytes) are those of this process
    where None.
    """
    cores = usable_cores() if cores is None else cores
    memory = free_memory() if memory is None else memory
    wanted = step * max(1, cores // 8)
    fits = memory // 16 // (4 * TILE_COST * tile_px**2)
    return Pace(readers or max(2, min(cores, MOST_READERS)), batch or max(step, min(wanted, fits)))


def steps_of(grid: TileGrid, step: int) -> list[np.ndarray]:
    """The grid in reading order, cut into steps: (n,) int64 rows of the grid each."""
    order = reading_order(grid)
    return [order[start : start + step] for start in range(0, len(order), step)]


def reading_order(grid: TileGrid) -> np.ndarray:
    """(N,) int64: rows of the grid, band after band, each row by row, left to right."""
    band = grid.coords[:, 0] // (max(1, BAND_PX // grid.size) * grid.size)  # (N,)
    return np.lexsort((grid.coords[:, 0], grid.coords[:, 1], band))


@dataclass(frozen=True)
class Piece:
    """A few neighbouring tiles of one step, read."""

    tiles: list[int]
    """Rows of the grid that can be encoded; those without tissue are in neither list."""
    prepared: Any
    """Their images, as the encoder prepares them."""
    failed: list[tuple[int, str]]
    """Rows of the grid that could not be read, with the reason."""


Prepare = Callable[[list[Image.Image]], Any]


def read_steps(
    slide: Slide, grid: TileGrid, mpp: float, steps: Sequence[np.ndarray], prepare: Prepare, pace: Pace
) -> Iterator[list[Piece]]:
    """The pieces of each step, in order. At most four batches of tiles are read and not yet given out."""
    step = max((len(tiles) for tiles in steps), default=1)
    most = max(2, 4 * pace.batch // step)
    with ThreadPoolExecutor(pace.readers, thread_name_prefix="tiles") as pool:
        waiting: deque[list[Future[Piece]]] = deque()
        try:
            for tiles in steps:
                parts = (tiles[start : start + PIECE] for start in range(0, len(tiles), PIECE))
                waiting.append([pool.submit(_read_piece, slide, grid, mpp, part, prepare) for part in parts])
                if len(waiting) >= most:
                    yield [future.result() for future in waiting.popleft()]
            while waiting:
                yield [future.result() for future in waiting.popleft()]
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _read_piece(slide: Slide, grid: TileGrid, mpp: float, rows: np.ndarray, prepare: Prepare) -> Piece:
    images: list[Image.Image] = []
    tiles: list[int] = []
    failed: list[tuple[int, str]] = []
    for i in map(int, rows):
        try:
            image = _read_tile(slide, grid, i, mpp)
        except RegionUnreadable as error:
            failed.append((i, error.what))
            continue
        if image is not None:
            images.append(image)
            tiles.append(i)
    return Piece(tiles, prepare(images) if images else None, failed)


def _read_tile(slide: Slide, grid: TileGrid, i: int, mpp: float) -> Image.Image | None:
    """Tile `i`. Where the overview could not tell whether it has tissue, its own pixels decide: None."""
    box = grid.box(i)
    image = slide.read(box, mpp)
    if grid.unsure[i] and tissue_mask(np.asarray(slide.read(box, 8.0))).mean() < MIN_TISSUE:
        return None
    if (box.w, box.h) == grid.sides:
        return image
    tile = Image.new("RGB", slide.image_size(grid.sides, mpp), GLASS)
    tile.paste(image, (0, 0))
    return tile
