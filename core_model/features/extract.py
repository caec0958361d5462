"""From a slide to tile features: find tissue, lay the grid, read and encode, keep the result.

    store ── whole? ──> features
      │ no
    tissue ──> grid ──> steps ──> read ahead by threads ──> encoder ──> kept step by step ──> H5 in the store

A tile that does not decode is listed with its reason and never reaches the encoder. What a tile lacks beyond
the slide's right and lower edge is glass: white. The result is in the order of the grid, and the same to the
bit however much is read or encoded at once, and whether or not the work was killed on the way.

Letters: N tiles of the grid, D channels of a tile feature.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from PIL import Image

from core_model.errors import NoTissue, SlideError
from core_model.features.grid import MIN_TISSUE, TileGrid, tile_grid
from core_model.features.reading import STEP, Pace, Piece, choose_pace, read_steps, steps_of
from core_model.features.store import FeatureStore
from core_model.features.tiles import EncoderIdentity, TileFeatures
from core_model.features.unfinished import Step, Unfinished
from core_model.slides.box import Box
from core_model.slides.slide import Slide
from core_model.slides.tissue import TissueMask, find_tissue


class Encoder(EncoderIdentity, Protocol):
    """A tile encoder. One that has `step`, `prepare` and `encode_prepared` too is fed while it computes."""

    def encode(self, images: list[Image.Image]) -> np.ndarray:
        """(n, D) float32 of n images."""


class Progress(Protocol):
    """Told how far the work is: called with 0 first, then after each step."""

    def __call__(self, done: int, total: int) -> None:
        """`done` of `total` tiles are read and encoded, or failed."""


def extract(
    slide: Slide,
    encoder: Encoder,
    store: FeatureStore | None = None,
    progress: Progress | None = None,
    pace: Pace | None = None,
    tissue: TissueMask | None = None,
) -> TileFeatures:
    """Features of the slide's tissue: from the store where they are, else computed and stored.

    In a store, work that was killed is gone on with. `pace` None: what this machine allows. `tissue` saves
    finding it again. Raises `NoTissue`, `SlideError` where no tile can be read, and `FeatureStoreError` where
    the store cannot be written.
    """
    if store is None:
        return encode_slide(slide, encoder, progress, pace, tissue)
    features = store.load(slide, encoder)
    if features is None:
        with store.lock(slide, encoder.name) as writable:
            features = store.load(slide, encoder)  # another process may have written it meanwhile
            if features is None:
                kept = store if writable else None
                features = encode_slide(slide, encoder, progress, pace, tissue, kept)
                if writable:
                    store.save(slide, encoder, features)
    store.tidy(slide, encoder.name)
    return features


def encode_slide(
    slide: Slide,
    encoder: Encoder,
    progress: Progress | None = None,
    pace: Pace | None = None,
    tissue: TissueMask | None = None,
    store: FeatureStore | None = None,
) -> TileFeatures:
    """Compute the features, whatever a store may hold; in `store` only unfinished work is kept."""
    grid = tile_grid(slide, tissue or find_tissue(slide), encoder.tile_um, MIN_TISSUE)
    return encode_grid(slide, encoder, grid, progress, pace, store)


def encode_grid(
    slide: Slide,
    encoder: Encoder,
    grid: TileGrid,
    progress: Progress | None = None,
    pace: Pace | None = None,
    store: FeatureStore | None = None,
) -> TileFeatures:
    """The features of these tiles of the slide, in the order of the grid."""
    report = progress or (lambda done, total: None)
    feed = _Feed(encoder)
    pace = pace or choose_pace(encoder.tile_px, feed.step)
    steps = steps_of(grid, feed.step)
    unfinished = store.unfinished(slide, encoder, grid, feed.how) if store is not None else None
    rows = np.zeros((len(grid), encoder.dim), dtype=np.float32)  # (N, D)
    encoded, failed = np.zeros(len(grid), dtype=bool), dict[int, str]()  # (N,)
    report(0, len(grid))
    for count, step in _all_steps(slide, grid, steps, feed, pace, unfinished):
        rows[step.tiles], encoded[step.tiles] = step.features, True
        failed |= step.failed
        report(count, len(grid))
    failures = tuple((grid.box(i), failed[i]) for i in sorted(failed))
    _require_some(slide, bool(encoded.any()), failures)
    return TileFeatures(
        features=rows if encoded.all() else rows[encoded],
        coords=grid.coords[encoded],
        size=grid.size,
        tile_um=grid.tile_um,
        slide_mpp=slide.mpp,
        encoder=encoder.name,
        failed=failures,
        extent=grid.extent,
        height=grid.height,
    )


def _all_steps(
    slide: Slide,
    grid: TileGrid,
    steps: Sequence[np.ndarray],
    feed: _Feed,
    pace: Pace,
    unfinished: Unfinished | None,
) -> Iterator[tuple[int, Step]]:
    """Every step, first those that an earlier run has kept, and how many tiles are done with it."""
    done = unfinished.load(steps, feed.encoder.dim) if unfinished is not None else {}
    count = 0
    for number, step in sorted(done.items()):
        count += len(steps[number])
        yield count, step
    todo = [number for number in range(len(steps)) if number not in done]
    for number, step in zip(todo, _new_steps(slide, grid, [steps[i] for i in todo], feed, pace), strict=True):
        if unfinished is not None:
            unfinished.append(number, step)
        count += len(steps[number])
        yield count, step


def _new_steps(
    slide: Slide, grid: TileGrid, steps: Sequence[np.ndarray], feed: _Feed, pace: Pace
) -> Iterator[Step]:
    """The steps, read ahead and encoded a batch at once."""
    at_once = max(1, pace.batch // feed.step)
    batch: list[list[Piece]] = []
    read = read_steps(slide, grid, feed.encoder.mpp, steps, feed.prepare, pace)
    for count, pieces in enumerate(read, 1):
        batch.append(pieces)
        if len(batch) == at_once or count == len(steps):
            yield from feed.encoded(batch)
            batch = []


class _Feed:
    """An encoder as the pipeline calls it: prepared in reading threads where it can be, step by step."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self.step: int = getattr(encoder, "step", STEP)
        self.how = f"steps of {self.step} {getattr(encoder, 'arithmetic', '')}"
        self.prepare: Callable[[list[Image.Image]], Any] = getattr(encoder, "prepare", _unprepared)
        self._encode: Callable[[list[list[Any]]], list[np.ndarray]] = getattr(
            encoder, "encode_prepared", self._encode_images
        )

    def encoded(self, batch: Sequence[list[Piece]]) -> Iterator[Step]:
        """What became of the tiles of each step. Raises `ValueError` for an encoder that breaks its word."""
        parts = [[piece.prepared for piece in pieces if piece.tiles] for pieces in batch]
        outputs = iter(self._encode([part for part in parts if part]))
        for pieces in batch:
            tiles = np.array([i for piece in pieces for i in piece.tiles], dtype=np.int64)  # (n,)
            rows = np.asarray(next(outputs) if len(tiles) else np.zeros((0, self.encoder.dim)), np.float32)
            if rows.shape != (len(tiles), self.encoder.dim):
                raise ValueError(f"encoder {self.encoder.name} returned {rows.shape} for {len(tiles)} images")
            yield Step(tiles, rows, tuple(item for piece in pieces for item in piece.failed))

    def _encode_images(self, steps: list[list[list[Image.Image]]]) -> list[np.ndarray]:
        return [self.encoder.encode([image for part in step for image in part]) for step in steps]


def _unprepared(images: list[Image.Image]) -> list[Image.Image]:
    return images


def _require_some(slide: Slide, some: bool, failures: Sequence[tuple[Box, str]]) -> None:
    if some:
        return
    if failures:
        raise SlideError(
            f"none of its {len(failures)} tiles can be read",
            where=slide.where,
            fix="Copy the file again from its source",
        )
    raise NoTissue("no tissue found in the readable part of the slide", where=slide.name)
