"""Regions of training slides: rectangular windows of tiles, from one tile up to the whole slide.

A window lies on the tile grid. Its size is drawn log-uniformly, so that small fields, which an agent
asks about, and large ones, which need adding up, are equally common.

Letters: N tiles of a slide.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from core_model.slides.box import Box

if TYPE_CHECKING:
    from core_model.features.tiles import TileFeatures

Indices = npt.NDArray[np.int64]

EXACT_LENGTH = 16
"""Sequences up to this many tiles keep every tile."""
LENGTH_STEP = 1.06
"""Ratio of neighbouring lengths above EXACT_LENGTH."""
MAX_ASPECT = 2.5
"""Longest side of a window over its shortest, before it meets the border of the tissue."""


class Region(NamedTuple):
    """Tiles of one slide that are shown together."""

    slide: str
    """Name of the slide."""
    tiles: Indices
    """Which of the slide's tiles, in their order."""
    box: Box | None
    """The window in level-0 px; None for the whole slide."""


def even_length(count: int) -> int:
    """The largest length of a coarse ladder that is at most `count`.

    The slide encoder takes no padding mask (as in its reference, padded keys would take attention), so
    a batch holds sequences of one length only. Above EXACT_LENGTH, leaving out at most 6 % of the tiles
    makes equal lengths common; below, every tile counts and all are kept.
    """
    if count <= EXACT_LENGTH:
        return count
    length = EXACT_LENGTH
    while (longer := max(length + 1, int(length * LENGTH_STEP))) <= count:
        length = longer
    return length


def thin(tiles: Indices, length: int, rng: np.random.Generator) -> Indices:
    """`length` of the tiles, chosen at random, still in their order."""
    if length >= len(tiles):
        return tiles
    return np.sort(rng.choice(tiles, size=length, replace=False))


def whole_slide(slide: str, features: TileFeatures) -> Region:
    """Every tile of a slide."""
    return Region(slide, np.arange(len(features), dtype=np.int64), None)


def sample_window(
    slide: str, features: TileFeatures, extent: tuple[int, int], rng: np.random.Generator
) -> Region:
    """A random window of tiles around a random tile; `extent` is the slide's (width, height) in px."""
    tile = np.array(features.sides)
    grid = features.coords // tile  # (N, 2) columns and rows of the tile grid
    span = grid.max(axis=0) - grid.min(axis=0) + 1  # (2,)
    area = math.exp(rng.uniform(0.0, math.log(float(span.prod()) + 1.0)))
    aspect = MAX_ASPECT ** rng.uniform(-1.0, 1.0)
    columns = int(np.clip(round(math.sqrt(area * aspect)), 1, span[0]))
    rows = int(np.clip(round(area / columns), 1, span[1]))
    sides = np.array([columns, rows])
    first = grid[rng.integers(len(grid))] - rng.integers(sides)  # (2,) so that the chosen tile lies inside
    inside = ((grid >= first) & (grid < first + sides)).all(axis=1)  # (N,)
    low = np.maximum(first, 0) * tile
    high = np.minimum((first + sides) * tile, extent)
    box = Box(int(low[0]), int(low[1]), int(high[0] - low[0]), int(high[1] - low[1]))
    return Region(slide, np.flatnonzero(inside).astype(np.int64), box)


def sample_regions(
    features: Mapping[str, TileFeatures],
    extents: Mapping[str, tuple[int, int]],
    count: int,
    whole_share: float,
    rng: np.random.Generator,
) -> list[Region]:
    """`count` regions, every slide equally often; a share of them are whole slides.

    Only slides with an extent (those whose truth is known) give windows; the others are shown whole.
    """
    names = sorted(features)
    regions = []
    for i in range(count):
        if i % len(names) == 0:
            order = rng.permutation(len(names))
        name = names[order[i % len(names)]]
        if name not in extents or rng.random() < whole_share:
            regions.append(whole_slide(name, features[name]))
        else:
            regions.append(sample_window(name, features[name], extents[name], rng))
    return regions


def batches_by_length(
    lengths: Sequence[int], batch: int, group_size: int, rng: np.random.Generator
) -> list[list[list[int]]]:
    """Random batches of `batch` positions, each made of groups of up to `together` of equal length.

    A group goes through the slide encoder in one call. Whole groups rather than single regions are
    dealt to the batches: the calls are few, and every batch still mixes lengths. The remainder that
    fills no batch is left out.
    """
    of_length: dict[int, list[int]] = {}
    for i in rng.permutation(len(lengths)):
        of_length.setdefault(int(lengths[i]), []).append(int(i))
    groups = [
        positions[start : start + group_size]
        for positions in of_length.values()
        for start in range(0, len(positions), group_size)
    ]
    batches: list[list[list[int]]] = [[]]
    room = batch
    for k in rng.permutation(len(groups)):
        rest = groups[k]
        while rest:
            if not room:
                batches.append([])
                room = batch
            part, rest = rest[:room], rest[room:]
            batches[-1].append(part)
            room -= len(part)
    return batches if not room else batches[:-1]
