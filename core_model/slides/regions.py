"""Connected regions of a mask and its growing and shrinking, in time that follows the mask's edges.

A region is found from its runs, the stretches of a row that are set: a mask of millions of pixels has few
of them, and nothing but runs is ever labelled.

Letters: H rows and W columns of a mask, R its runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


@dataclass(frozen=True)
class Regions:
    """Connected regions of a bool mask (H, W), numbered by their first pixel in reading order."""

    shape: tuple[int, int]
    row: np.ndarray
    """(R,) row of each run."""
    start: np.ndarray
    """(R,) its first column."""
    stop: np.ndarray
    """(R,) the column after its last."""
    label: np.ndarray
    """(R,) number of the region it belongs to, from 0."""
    count: int

    @cached_property
    def areas(self) -> np.ndarray:
        """(count,) int64: pixels of each region."""
        return np.bincount(self.label, self.stop - self.start, self.count).astype(np.int64)

    def boxes(self) -> np.ndarray:
        """(count, 4) int64: first row, first column, and the row and column after the last of each."""
        ends = np.zeros((self.count, 4), dtype=np.int64)
        ends[:, 0], ends[:, 1] = self.shape
        for column, values in ((0, self.row), (1, self.start)):
            np.minimum.at(ends[:, column], self.label, values)
        for column, values in ((2, self.row + 1), (3, self.stop)):
            np.maximum.at(ends[:, column], self.label, values)
        return ends

    def count_in(self, mask: np.ndarray) -> np.ndarray:
        """(count,) int64: pixels of each region that are set in another mask (H, W)."""
        sums = np.concatenate([[0], np.cumsum(mask, dtype=np.int64)])
        first = self.row * self.shape[1]
        inside = sums[first + self.stop] - sums[first + self.start]  # (R,)
        return np.bincount(self.label, inside, self.count).astype(np.int64)

    def numbers(self, chosen: np.ndarray) -> np.ndarray:
        """(H, W) int32: at each pixel of the regions `chosen`, bool (count,), its region's number from 1."""
        numbers = np.zeros(self.shape, dtype=np.int32)
        places, label = self.pixels(chosen)
        numbers.reshape(-1)[places] = label + 1
        return numbers

    def draw(self, mask: np.ndarray, chosen: np.ndarray, value: bool) -> None:
        """Set the pixels of the regions `chosen`, bool (count,), in `mask` to `value`."""
        mask.reshape(-1)[self.pixels(chosen)[0]] = value

    def pixels(self, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Places, counted in reading order, and region numbers of the pixels of the regions `chosen`."""
        runs = np.flatnonzero(chosen[self.label])
        lengths = (self.stop - self.start)[runs]
        first = self.row[runs] * self.shape[1] + self.start[runs]
        places = np.repeat(first - np.cumsum(lengths) + lengths, lengths) + np.arange(lengths.sum())
        return places, np.repeat(self.label[runs], lengths)


def regions_of(mask: np.ndarray, corners: bool) -> Regions:
    """Connected regions of a bool mask (H, W); with `corners`, pixels that share only a corner touch."""
    height, width = mask.shape
    line = np.zeros((height, width + 1), dtype=bool)  # a column of False ends every row
    line[:, :-1] = mask
    flat = line.reshape(-1)
    change = np.flatnonzero(flat[1:] != flat[:-1]) + 1  # the last pixel is False
    if flat.size and flat[0]:
        change = np.concatenate([[0], change])
    start, stop = change[::2], change[1::2]
    first, last = _touching(start, stop, width + 1, int(corners))
    lower = np.maximum(last - first, 0)  # (R,) runs of the next row that each touches
    above = np.repeat(np.arange(len(start)), lower)
    below = np.repeat(first - np.cumsum(lower) + lower, lower) + np.arange(lower.sum())
    links = coo_array((np.ones(len(above), dtype=np.int8), (above, below)), shape=(len(start),) * 2)
    count, label = connected_components(links, directed=False) if len(start) else (0, np.zeros(0, np.int32))
    row = start // (width + 1)
    begin = row * (width + 1)
    return Regions((height, width), row, start - begin, stop - begin, label, count)


def _touching(start: np.ndarray, stop: np.ndarray, row: int, reach: int) -> tuple[np.ndarray, np.ndarray]:
    """The first run of the next row, `row` places on, that each run touches, and the one after the last."""
    first = np.searchsorted(stop, start + row - reach, side="right")
    last = np.searchsorted(start, stop + row + reach, side="left")
    return first, last


def fill_holes(mask: np.ndarray, most_px: int) -> np.ndarray:
    """`mask` with the regions of what it lacks that have at most `most_px` pixels."""
    gaps, filled = regions_of(~mask, corners=False), mask.copy()
    gaps.draw(filled, gaps.areas <= most_px, True)
    return filled


def without_specks(mask: np.ndarray, least_px: int) -> np.ndarray:
    """`mask` without its regions that have fewer than `least_px` pixels."""
    pieces, rest = regions_of(mask, corners=True), mask.copy()
    pieces.draw(rest, pieces.areas < least_px, False)
    return rest


def close_gaps(mask: np.ndarray, barrier: np.ndarray, reach: int, least_px: int) -> np.ndarray:
    """`mask` with gaps narrower than about twice `reach` pixels, but for those that part two pieces of it.

    A piece is a region of at least `least_px` pixels; what is smaller is parted from nothing. A gap that
    touches `barrier`, bool (H, W), stays too.
    """
    gaps = closed(mask, reach) & ~mask & ~barrier
    regions, pieces = regions_of(gaps, corners=False), regions_of(mask, corners=True)
    number = pieces.numbers(pieces.areas >= least_px)
    number[barrier] = -1
    number = np.pad(number, 1)
    places, label = regions.pixels(np.ones(regions.count, dtype=bool))
    width, row = number.shape[1], places // mask.shape[1]
    places = places + 2 * row + width + 1  # in the padded raster
    lowest = np.full(regions.count, np.iinfo(np.int32).max, dtype=np.int32)
    highest = np.zeros(regions.count, dtype=np.int32)
    for step in (-width - 1, -width, -width + 1, -1, 1, width - 1, width, width + 1):
        beside = number.reshape(-1)[places + step]
        touched = beside != 0
        np.minimum.at(lowest, label[touched], beside[touched])
        np.maximum.at(highest, label[touched], beside[touched])
    joined = mask.copy()
    regions.draw(joined, highest <= lowest, True)
    return joined


def dilated(mask: np.ndarray) -> np.ndarray:
    """`mask` with its neighbours above, below, left and right."""
    grown = mask.copy()
    grown[1:] |= mask[:-1]
    grown[:-1] |= mask[1:]
    grown[:, 1:] |= mask[:, :-1]
    grown[:, :-1] |= mask[:, 1:]
    return grown


def eroded(mask: np.ndarray) -> np.ndarray:
    """`mask` without the pixels that have a neighbour outside it; beyond the raster is outside."""
    core = mask.copy()
    core[1:] &= mask[:-1]
    core[:-1] &= mask[1:]
    core[:, 1:] &= mask[:, :-1]
    core[:, :-1] &= mask[:, 1:]
    core[[0, -1]] = False
    core[:, [0, -1]] = False
    return core


def closed(mask: np.ndarray, times: int = 1) -> np.ndarray:
    """`mask` grown and shrunk again by `times` pixels: narrow gaps are gone."""
    grown = np.pad(mask, times)
    for _ in range(times):
        grown = dilated(grown)
    for _ in range(times):
        grown = eroded(grown)
    return grown[times:-times, times:-times]


def opened(mask: np.ndarray) -> np.ndarray:
    """The pixels of `mask` that lie in a square of two by two of it."""
    squares = mask[:-1, :-1] & mask[1:, :-1] & mask[:-1, 1:] & mask[1:, 1:]
    wide = np.zeros_like(mask)
    wide[:-1, :-1] = squares
    wide[1:, :-1] |= squares
    wide[:-1, 1:] |= squares
    wide[1:, 1:] |= squares
    return wide
