"""Where the tissue is: a mask from colour alone, without pen marks, borders and glass.

The colours are those of one low level of the slide; `stains.py` judges them. The mask lies on whole pixels
of that level or, where the slide is large, on blocks of them, so that time and memory stay bounded.

Letters: H rows and W columns of the mask, N tiles or boxes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import csr_array

from core_model.errors import NoTissue, SlideError
from core_model.slides.box import Box
from core_model.slides.regions import (
    close_gaps,
    closed,
    dilated,
    fill_holes,
    opened,
    regions_of,
    without_specks,
)
from core_model.slides.slide import Slide, Survey
from core_model.slides.stains import (
    Colours,
    classify,
    glass_colour,
    is_dark,
    may_be_rare,
    rare_stain,
    sample,
)

METHOD = "od-3"
"""Name of this detector; stored with features, so that a change of it makes them stale."""

MPP = 8.0
"""µm/px at which tissue is found, about."""

MOST_PX = 1 << 22
"""Pixels of a mask at most: 16 mm a side at 8 µm/px. Larger slides have a coarser mask."""

MOST_RARE_PX = 1 << 24
"""The same where the stain may be a rare one, which only texture at about 8 µm/px tells from ink."""

SPECK_UM2, LEAST_SPECK_PX = 768.0, 3
"""Pieces below this area, or of fewer pixels, are dust."""

HOLE_UM2 = 6400.0
"""Holes up to this size belong to the tissue around them (fat, lumina)."""

FAT_CELL_UM, LEAST_PIECE_UM2 = 32.0, 50_000.0
"""Half of a gap that belongs to the tissue around it, as between walls of fat cells; least piece of tissue
that a gap can part from another."""

INK_REACH_UM, INK_GAP_UM = 64.0, 24.0
"""How far faint ink is followed from certain ink; half of a gap in ink that is ink too."""


def tissue_mask(rgb: np.ndarray, mpp: float = MPP) -> np.ndarray:
    """Bool (H, W): which pixels of an overview, uint8 (H, W, 3) at `mpp` (5 to 25) µm/px, show tissue."""
    return _tissue(classify(rgb, glass_colour(rgb)), mpp)


def _tissue(colours: Colours, mpp: float) -> np.ndarray:
    """Bool (H, W): where the colours of an overview at `mpp` µm/px are those of tissue, without its dust."""
    other = rare_stain(colours)
    stain, sure, faint = colours.stain, colours.sure_ink, colours.faint_ink
    if other is not None:
        stain, sure, faint = stain | other, sure & ~other, faint & ~other
    ink = _followed(opened(sure), faint, mpp)
    tissue = closed(stain & ~ink) & ~ink
    tissue = close_gaps(tissue, ink, max(2, round(FAT_CELL_UM / mpp)), round(LEAST_PIECE_UM2 / mpp**2))
    tissue = fill_holes(tissue, max(1, round(HOLE_UM2 / mpp**2))) & ~ink
    return without_specks(tissue, max(LEAST_SPECK_PX, round(SPECK_UM2 / mpp**2)))


@dataclass(frozen=True)
class TissueMask:
    """Tissue of a whole slide on a coarse raster."""

    mask: np.ndarray
    """Bool (H, W)."""
    unknown: np.ndarray
    """Bool (H, W): what could not be read. Neither tissue nor glass."""
    mpp: float
    """µm/px of the raster."""
    slide_box: Box
    """The slide that the raster spans, in level-0 px."""
    slide_mpp: float
    extent: tuple[float, float] | None = None
    """Width and height in level-0 px that the raster spans, where its last column and row reach beyond the
    slide; None: just the slide."""

    @property
    def downsample(self) -> float:
        """Level-0 px per mask px."""
        return self.mpp / self.slide_mpp

    @property
    def area_mm2(self) -> float:
        """Area of the tissue."""
        sx, sy = self.scale
        lacks_x, lacks_y = (
            self.mask.shape[1] - self.slide_box.w / sx,
            self.mask.shape[0] - self.slide_box.h / sy,
        )
        pixels = np.count_nonzero(self.mask) + lacks_x * lacks_y * bool(self.mask[-1, -1])
        pixels -= lacks_x * np.count_nonzero(self.mask[:, -1]) + lacks_y * np.count_nonzero(self.mask[-1])
        return float(pixels * sx * sy * (self.slide_mpp / 1000) ** 2)

    def share(self, box: Box) -> float:
        """Share of `box` that is tissue, in [0, 1]; the part of a box off the slide counts as none."""
        return float(self.shares(np.array([[box.x, box.y]]), box.w, box.h)[0])

    def shares(self, coords: np.ndarray, w: int, h: int) -> np.ndarray:
        """Tissue share of N boxes of one size at `coords` (N, 2) x, y in level-0 px: (N,) float."""
        return self._area(self._tissue_sums, coords, w, h)

    def unknown_shares(self, coords: np.ndarray, w: int, h: int) -> np.ndarray:
        """Unknown share of N boxes of one size: (N,) float."""
        return self._area(self._unknown_sums, coords, w, h)

    def grid_shares(self, w: int, h: int) -> np.ndarray:
        """Tissue share of each cell, w x h level-0 px, of a grid over the slide: (rows, columns) float.

        What cells of the last row and column lack beyond the slide counts as none.
        """
        return self._cells(self.mask, w, h)

    def unknown_grid_shares(self, w: int, h: int) -> np.ndarray:
        """Unknown share of each cell of such a grid: (rows, columns) float."""
        return self._cells(self.unknown, w, h)

    def covered(self, boxes: Iterable[Box]) -> float:
        """Share of the tissue's area that lies under any of `boxes`, in [0, 1], to the raster's pixel."""
        covered_mask = np.zeros_like(self.mask)
        sx, sy = self.scale
        for box in boxes:
            column, row = round(box.x / sx), round(box.y / sy)
            rows = slice(row, max(row + 1, round(box.bottom / sy)))
            covered_mask[rows, column : max(column + 1, round(box.right / sx))] = True
        total = np.count_nonzero(self.mask)
        return np.count_nonzero(covered_mask & self.mask) / total if total else 0.0

    def boxes(self) -> list[Box]:
        """Bounding boxes of the connected pieces, in level-0 px, largest piece first."""
        pieces = regions_of(self.mask, corners=True)
        places = pieces.boxes()[np.argsort(-pieces.areas, kind="stable")]
        return [self.box_of(slice(top, bottom), slice(left, right)) for top, left, bottom, right in places]

    def box_of(self, rows: slice, columns: slice) -> Box:
        """The part of the slide under some rows and columns of the mask, in level-0 px."""
        sx, sy = self.scale
        x, y = int(columns.start * sx), int(rows.start * sy)
        right = min(math.ceil(columns.stop * sx), self.slide_box.w)
        return Box(x, y, right - x, min(math.ceil(rows.stop * sy), self.slide_box.h) - y)

    @property
    def scale(self) -> tuple[float, float]:
        """Level-0 px that a pixel of the mask is wide and high."""
        height, width = self.mask.shape
        spanned_w, spanned_h = self.extent or (self.slide_box.w, self.slide_box.h)
        return spanned_w / width, spanned_h / height

    @cached_property
    def _tissue_sums(self) -> np.ndarray:
        return _integral(self.mask)

    @cached_property
    def _unknown_sums(self) -> np.ndarray:
        return _integral(self.unknown)

    def _area(self, sums: np.ndarray, coords: np.ndarray, w: int, h: int) -> np.ndarray:
        """Share of boxes under a mask: its integral is bilinear between pixel corners, so this is exact."""
        sx, sy = self.scale
        x0, y0 = coords[:, 0], coords[:, 1]
        xs = [np.minimum(x, self.slide_box.w) / sx for x in (x0, x0 + w)]
        ys = [np.minimum(y, self.slide_box.h) / sy for y in (y0, y0 + h)]
        corners = [_at(sums, y, x) for y in ys for x in xs]
        area = corners[3] - corners[2] - corners[1] + corners[0]
        return np.clip(area * sx * sy / (w * h), 0.0, 1.0)

    def _cells(self, mask: np.ndarray, w: int, h: int) -> np.ndarray:
        sx, sy = self.scale
        rows = _overlaps(self.slide_box.h, h, sy, mask.shape[0])  # (rows, H)
        columns = _overlaps(self.slide_box.w, w, sx, mask.shape[1])  # (columns, W)
        if not mask.any():
            return np.zeros((rows.shape[0], columns.shape[0]))
        area = columns @ (rows @ mask.astype(float)).T  # (columns, rows)
        return np.clip(area.T / (w * h), 0.0, 1.0)


def _overlaps(length: int, size: int, scale: float, count: int) -> csr_array:
    """Level-0 px that cells of `size` px along a side share with the mask px along it: (cells, mask px)."""
    ends = np.minimum(np.arange(0, length + size, size), length)  # (cells + 1,)
    places = np.arange(count) * scale
    cuts = np.unique(np.concatenate([ends, places, [min(count * scale, length)]]))
    cuts = cuts[cuts <= min(count * scale, length)]
    middle, lengths = (cuts[1:] + cuts[:-1]) / 2, np.diff(cuts)  # (pieces,)
    cell, pixel = np.searchsorted(ends, middle) - 1, np.searchsorted(places, middle) - 1
    return csr_array((lengths, (cell, pixel)), shape=(len(ends) - 1, count))


def find_tissue(slide: Slide, mpp: float = 8.0) -> TissueMask:
    """Tissue of the whole slide at about `mpp` µm/px; a large slide's is coarser (`MOST_PX`).

    It is found once for each open slide. Raises `NoTissue` where there is none and nothing is unknown,
    `SlideError` where nothing decodes.
    """
    return slide.once(("tissue", mpp), lambda: _find(slide, mpp))


def _find(slide: Slide, mpp: float) -> TissueMask:
    survey, colours = _coloured(slide, mpp, MOST_PX)
    if survey.mpp > 1.5 * max(mpp, slide.mpp) and may_be_rare(colours):
        survey, colours = _coloured(slide, mpp, MOST_RARE_PX)
    mask = _tissue(colours, survey.mpp) & ~survey.unknown
    if not mask.any() and not survey.unknown.any():
        raise NoTissue(
            "no tissue found on the slide", where=slide.name, fix="Look at its overview; it may be blank"
        )
    extent = (mask.shape[1] * survey.mpp / slide.mpp, mask.shape[0] * survey.mpp / slide.mpp)
    return TissueMask(mask, survey.unknown, survey.mpp, slide.box, slide.mpp, extent)


def _coloured(slide: Slide, mpp: float, most: int) -> tuple[Survey, Colours]:
    """The slide on at most `most` pixels, and what their colours say. Raises `SlideError`."""
    survey = slide.blocks(mpp, most)
    rgb = np.array(survey.image)
    if is_dark(sample(rgb)[~sample(survey.unknown)]):
        raise SlideError(
            "its ground is dark, as in fluorescence: it is no bright-field scan",
            where=slide.name,
            fix="Give a scan of a stained section, such as H&E",
        )
    if survey.unknown.any():  # made colourless, so that it cannot sway the glass or spill over its edge
        rgb[survey.unknown] = 255
    return survey, classify(rgb, glass_colour(rgb))


def _followed(seed: np.ndarray, faint: np.ndarray, mpp: float) -> np.ndarray:
    """Ink: `seed`, followed through `faint` for a short way, and one pixel more for blurred edges."""
    rows, columns = np.flatnonzero(seed.any(axis=1)), np.flatnonzero(seed.any(axis=0))
    if not len(rows):
        return seed
    reach, gap = max(2, round(INK_REACH_UM / mpp)), max(1, round(INK_GAP_UM / mpp))
    margin = reach + gap + 1
    near = tuple(slice(max(0, line[0] - margin), line[-1] + margin + 1) for line in (rows, columns))
    ink, limit = seed.copy(), (faint | seed)[near]
    part = seed[near]
    for _ in range(reach):
        part = dilated(part) & limit
    ink[near] = dilated(closed(part, gap))
    return ink


def _integral(mask: np.ndarray) -> np.ndarray:
    """Sums over all pixels above and left of each pixel corner: int64 (H+1, W+1)."""
    return np.pad(mask, ((1, 0), (1, 0))).cumsum(axis=0, dtype=np.int64).cumsum(axis=1)


def _at(sums: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Bilinear reading of an integral at fractional corners, held at its edges."""
    rows, columns = sums.shape[0] - 1, sums.shape[1] - 1
    y, x = np.clip(y, 0, rows), np.clip(x, 0, columns)
    row, column = np.minimum(y.astype(int), rows - 1), np.minimum(x.astype(int), columns - 1)
    dy, dx = y - row, x - column
    upper = sums[row, column] * (1 - dx) + sums[row, column + 1] * dx
    lower = sums[row + 1, column] * (1 - dx) + sums[row + 1, column + 1] * dx
    return upper * (1 - dy) + lower * dy
