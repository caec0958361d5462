"""From a slide to tile features: find tissue, lay the grid, read and encode, keep the result.

The grid lies over the tissue (`tile_grid`). Threads read ahead while the encoder computes. A tile that does
not decode is listed with its reason and never reaches the encoder. What a tile lacks beyond the slide's
right and lower edge is glass: white.

Letters: N tiles, D channels of a tile feature.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import numpy as np
from PIL import Image

from core_model.errors import NoTissue, RegionUnreadable, SlideError
from core_model.features.grid import MIN_TISSUE, TileGrid, tile_grid
from core_model.features.store import FeatureStore
from core_model.features.tiles import EncoderIdentity, TileFeatures
from core_model.slides.box import Box
from core_model.slides.slide import Slide
from core_model.slides.tissue import TissueMask, find_tissue, tissue_mask

GLASS = (255, 255, 255)
"""Colour of what a tile lacks beyond the slide's edge."""

READERS = 4
"""Reading threads; OpenSlide decodes outside Python's lock."""


class Encoder(EncoderIdentity, Protocol):
    """A tile encoder."""

    def encode(self, images: list[Image.Image]) -> np.ndarray:
        """(N, D) float32 of N images."""


class Progress(Protocol):
    """Told how far the work is: called with 0 first, then after each batch."""

    def __call__(self, done: int, total: int) -> None:
        """`done` of `total` tiles are read and encoded, or failed."""


def extract(
    slide: Slide,
    encoder: Encoder,
    store: FeatureStore | None = None,
    progress: Progress | None = None,
    batch_size: int = 32,
    tissue: TissueMask | None = None,
) -> TileFeatures:
    """Features of the slide's tissue: from the store where they are, else computed and stored.

    `tissue` saves finding it again. Raises `NoTissue`, and `SlideError` where no tile can be read.
    """
    if store is None:
        return encode_slide(slide, encoder, progress, batch_size, tissue)
    features = store.load(slide, encoder)
    if features is not None:
        return features
    with store.lock(slide, encoder.name) as writable:
        features = store.load(slide, encoder)  # another process may have written it meanwhile
        if features is None:
            features = encode_slide(slide, encoder, progress, batch_size, tissue)
            if writable:
                store.save(slide, encoder, features)
    return features


def encode_slide(
    slide: Slide,
    encoder: Encoder,
    progress: Progress | None = None,
    batch_size: int = 32,
    tissue: TissueMask | None = None,
) -> TileFeatures:
    """Compute the features, whatever a store may hold."""
    grid = tile_grid(slide, tissue or find_tissue(slide), encoder.tile_um, MIN_TISSUE)
    report = progress or (lambda tile, total: None)
    report(0, len(grid))
    rows: list[np.ndarray] = []
    encoded_tiles: list[int] = []
    failures: list[tuple[Box, str]] = []
    batch: list[tuple[int, Image.Image]] = []
    for i, result in enumerate(_read_ahead(slide, grid, encoder.mpp, ahead=3 * batch_size)):
        if isinstance(result, RegionUnreadable):
            failures.append((grid.box(i), result.what))
        elif result is not None:
            batch.append((i, result))
        if len(batch) == batch_size or (batch and i == len(grid) - 1):
            encoded_tiles += [index for index, _ in batch]
            rows.append(_encode(encoder, [image for _, image in batch]))
            batch = []
            report(i + 1, len(grid))
    report(len(grid), len(grid))
    _require_some(slide, encoded_tiles, failures)
    return TileFeatures(
        features=np.concatenate(rows),  # (N, D)
        coords=grid.coords[encoded_tiles],
        size=grid.size,
        tile_um=grid.tile_um,
        slide_mpp=slide.mpp,
        encoder=encoder.name,
        failed=tuple(failures),
        extent=grid.extent,
    )


def _read_ahead(
    slide: Slide, grid: TileGrid, mpp: float, ahead: int
) -> Iterator[Image.Image | RegionUnreadable | None]:
    """Tiles in order, read by threads at most `ahead` in front: an image, why not, or None for no tissue."""
    with ThreadPoolExecutor(READERS, thread_name_prefix="tiles") as pool:
        waiting: deque[Future[Image.Image | RegionUnreadable | None]] = deque()
        try:
            for i in range(len(grid)):
                waiting.append(pool.submit(_read_tile, slide, grid, i, mpp))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _read_tile(slide: Slide, grid: TileGrid, i: int, mpp: float) -> Image.Image | RegionUnreadable | None:
    """Tile `i`. Where the overview could not tell whether it has tissue, its own pixels decide."""
    box = grid.box(i)
    try:
        image = slide.read(box, mpp)
        if grid.unsure[i] and tissue_mask(np.asarray(slide.read(box, 8.0))).mean() < MIN_TISSUE:
            return None
    except RegionUnreadable as error:
        return error
    if (box.w, box.h) == (grid.size, grid.size):
        return image
    side = max(1, round(grid.size * slide.mpp / slide.effective_mpp(mpp)))
    tile = Image.new("RGB", (side, side), GLASS)
    tile.paste(image, (0, 0))
    return tile


def _encode(encoder: Encoder, images: list[Image.Image]) -> np.ndarray:
    rows = np.asarray(encoder.encode(images), dtype=np.float32)
    if rows.shape != (len(images), encoder.dim):
        raise ValueError(f"encoder {encoder.name} returned {rows.shape} for {len(images)} images")
    return rows


def _require_some(slide: Slide, encoded_tiles: list[int], failures: list[tuple[Box, str]]) -> None:
    if encoded_tiles:
        return
    if failures:
        raise SlideError(
            f"none of its {len(failures)} tiles can be read",
            where=slide.path,
            fix="Copy the file again from its source",
        )
    raise NoTissue("no tissue found in the readable part of the slide", where=slide.name)
