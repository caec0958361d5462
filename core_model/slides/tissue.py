"""Where the tissue is: a mask from colour alone, without pen marks, borders and glass.

Works on optical density, the logarithm of how much light each channel lost against the glass (Beer–
Lambert): haematoxylin and eosin absorb most in green; what absorbs most in red is green or blue ink,
what absorbs green and blue alike and nearly all of it is red ink, and what absorbs all alike is black
ink, shadow or the slide's border. DAB absorbs most in blue and stays tissue; stains that look like ink are
told from it in `stains.py`. Tiles are then laid on a grid over the tissue (`tile_grid`).

Letters: H rows and W columns of the mask, N tiles or boxes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy import ndimage

from core_model.errors import NoTissue, SlideError
from core_model.slides.box import Box, tile_box
from core_model.slides.slide import Slide
from core_model.slides.stains import (
    LEAST_DENSITY,
    ROUGH,
    density,
    glass_colour,
    is_dark,
    other_stain,
    roughness,
)


@dataclass(frozen=True)
class TileGrid:
    """Tiles in reading order: row by row, left to right."""

    coords: np.ndarray
    """(N, 2) int64: x, y of each tile's corner in level-0 px."""
    size: int
    """Side of a tile in level-0 px."""
    tile_um: float
    """Side of a tile in µm, as asked for."""
    unsure: np.ndarray
    """(N,) bool: tiles that may or may not show enough tissue, because the overview is unknown there."""
    extent: tuple[int, int]
    """Width and height of the slide in level-0 px; the last tiles of a row and column may reach beyond."""

    def __len__(self) -> int:
        return len(self.coords)

    def whole(self) -> TileGrid:
        """Without the tiles that reach beyond the slide."""
        keep = (self.coords + self.size <= self.extent).all(axis=1)  # (N,)
        return replace(self, coords=self.coords[keep], unsure=self.unsure[keep])

    def box(self, i: int) -> Box:
        """Box of tile `i`: its part on the slide."""
        return tile_box(self.coords[i], self.size, self.extent)


METHOD = "od-2"
"""Name of this detector; stored with features, so that a change of it makes them stale."""

MIN_CHROMA = 0.03
"""Least difference in optical density between channels that is a stain: pale tissue has 0.04."""

MIN_RELATIVE_CHROMA = 0.2
"""Least chroma as a share of the mean density; grey and black, however dark, stay below."""

STRIP = 512
"""Rows classified at once, so that memory stays bounded."""

HALO = 12
"""Rows of overlap, more than smoothing and roughness reach."""

NEARLY_BLACK = 0.5
"""Mean density of ink, and of little tissue."""

SPECK_PX = 12
"""Pieces below this many mask pixels are dust (0.0008 mm² at 8 µm/px)."""

HOLE_PX = 100
"""Holes up to this size belong to the tissue around them (fat, lumina)."""

INK_REACH = 8
"""How far faint ink is followed from certain ink, in mask pixels."""


def tissue_mask(rgb: np.ndarray) -> np.ndarray:
    """Bool (H, W): which pixels of an overview, uint8 (H, W, 3) at about 8 µm/px, show tissue."""
    glass = glass_colour(rgb)
    masks = [np.zeros(rgb.shape[:2], dtype=bool) for _ in range(6)]
    stain, faint_ink, sure_ink, perhaps, rough, dense = masks
    for top in range(0, rgb.shape[0], STRIP):
        start, stop = max(0, top - HALO), min(rgb.shape[0], top + STRIP + HALO)
        keep = slice(top - start, min(top + STRIP, rgb.shape[0]) - start)
        parts = _classify(rgb[start:stop], glass)
        for whole, part in zip(masks, parts, strict=True):
            whole[top : top + STRIP] = part[keep]
    other = other_stain(perhaps, rough, dense, stain)
    stain |= other
    ink = _grow(ndimage.binary_opening(sure_ink & ~other, np.ones((2, 2))), faint_ink & ~other)
    smooth = ndimage.binary_closing(np.pad(stain & ~ink, 2), ndimage.generate_binary_structure(2, 1))
    tissue = _fill_small_holes(smooth[2:-2, 2:-2]) & ~ink
    return _without_specks(tissue)


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

    @property
    def downsample(self) -> float:
        """Level-0 px per mask px."""
        return self.mpp / self.slide_mpp

    @property
    def area_mm2(self) -> float:
        """Area of the tissue."""
        whole = self.slide_box.area * (self.slide_mpp / 1000) ** 2
        return float(self.mask.mean() * whole)

    def share(self, box: Box) -> float:
        """Share of `box` that is tissue, in [0, 1]; the part of a box off the slide counts as none."""
        return float(self.shares(np.array([[box.x, box.y]]), box.w, box.h)[0])

    def shares(self, coords: np.ndarray, w: int, h: int) -> np.ndarray:
        """Tissue share of N boxes of one size at `coords` (N, 2) x, y in level-0 px: (N,) float."""
        return self._area(self._tissue_sums, coords, w, h)

    def unknown_shares(self, coords: np.ndarray, w: int, h: int) -> np.ndarray:
        """Unknown share of N boxes of one size: (N,) float."""
        return self._area(self._unknown_sums, coords, w, h)

    def covered(self, boxes: Iterable[Box]) -> float:
        """Share of the tissue's area that lies under any of `boxes`, in [0, 1], to the raster's pixel."""
        covered_mask = np.zeros_like(self.mask)
        sx, sy = self._scale
        for box in boxes:
            column, row = round(box.x / sx), round(box.y / sy)
            rows = slice(row, max(row + 1, round(box.bottom / sy)))
            covered_mask[rows, column : max(column + 1, round(box.right / sx))] = True
        total = np.count_nonzero(self.mask)
        return np.count_nonzero(covered_mask & self.mask) / total if total else 0.0

    def boxes(self) -> list[Box]:
        """Bounding boxes of the connected pieces, in level-0 px, largest piece first."""
        labels, count = ndimage.label(self.mask, structure=np.ones((3, 3)))
        sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
        places = ndimage.find_objects(labels)
        return [self._box(*places[i]) for i in np.argsort(-sizes, kind="stable")]

    def _box(self, rows: slice, columns: slice) -> Box:
        sx, sy = self._scale
        x, y = int(columns.start * sx), int(rows.start * sy)
        right = min(int(np.ceil(columns.stop * sx)), self.slide_box.w)
        return Box(x, y, right - x, min(int(np.ceil(rows.stop * sy)), self.slide_box.h) - y)

    @property
    def _scale(self) -> tuple[float, float]:
        height, width = self.mask.shape
        return self.slide_box.w / width, self.slide_box.h / height

    @cached_property
    def _tissue_sums(self) -> np.ndarray:
        return _integral(self.mask)

    @cached_property
    def _unknown_sums(self) -> np.ndarray:
        return _integral(self.unknown)

    def _area(self, sums: np.ndarray, coords: np.ndarray, w: int, h: int) -> np.ndarray:
        """Share of boxes under a mask: its integral is bilinear between pixel corners, so this is exact."""
        sx, sy = self._scale
        x0, y0 = coords[:, 0] / sx, coords[:, 1] / sy
        x1, y1 = x0 + w / sx, y0 + h / sy
        corners = [_at(sums, y, x) for y in (y0, y1) for x in (x0, x1)]
        area = corners[3] - corners[2] - corners[1] + corners[0]
        return np.clip(area * sx * sy / (w * h), 0.0, 1.0)


def find_tissue(slide: Slide, mpp: float = 8.0) -> TissueMask:
    """Tissue of the whole slide at about `mpp` µm/px.

    It is found once for each open slide. Raises `NoTissue` where there is none and nothing is unknown,
    `SlideError` where nothing decodes.
    """
    return slide.once(("tissue", mpp), lambda: _find(slide, mpp))


def _find(slide: Slide, mpp: float) -> TissueMask:
    survey = slide.survey(mpp=mpp)
    rgb = np.array(survey.image)
    if is_dark(rgb[~survey.unknown][None]):
        raise SlideError(
            "its ground is dark, as in fluorescence: it is no bright-field scan",
            where=slide.name,
            fix="Give a scan of a stained section, such as H&E",
        )
    rgb[survey.unknown] = 255  # colourless, so that it cannot sway the glass colour or spill over its edge
    mask = tissue_mask(rgb) & ~survey.unknown
    if not mask.any() and not survey.unknown.any():
        raise NoTissue(
            "no tissue found on the slide", where=slide.name, fix="Look at its overview; it may be blank"
        )
    return TissueMask(mask, survey.unknown, survey.mpp, slide.box, slide.mpp)


def _classify(rgb: np.ndarray, glass: np.ndarray) -> tuple[np.ndarray, ...]:
    """Bool masks (H, W) of a strip: stained; perhaps, certainly ink; perhaps another stain; rough; dense."""
    smooth = density(ndimage.gaussian_filter(rgb.astype(np.float32), sigma=(0.7, 0.7, 0)), glass)
    raw = density(rgb, glass)
    red, green, blue = smooth[..., 0], smooth[..., 1], smooth[..., 2]
    chroma, mean = np.ptp(smooth, axis=2), smooth.mean(axis=2)  # (H, W), (H, W)
    stain = (chroma > MIN_CHROMA) & (chroma > MIN_RELATIVE_CHROMA * mean)
    stain &= np.ptp(raw, axis=2) > MIN_CHROMA / 2  # smoothing spreads dark edges
    stain &= red - green < 0.03 + 0.2 * green  # what absorbs red above green is no stain of tissue
    sure = red - green > 0.05 + 0.2 * green
    sure |= (blue > 0.85 * green) & (red < 0.3 * green) & (green > 0.8)
    sure |= (mean > NEARLY_BLACK) & (chroma < MIN_RELATIVE_CHROMA * mean)
    faint = red - green > 0.02 + 0.1 * green
    faint |= (blue > 0.75 * green) & (red < 0.35 * green) & (green > 0.05)
    faint |= (mean > 0.12) & ~stain
    perhaps = (mean > LEAST_DENSITY) & ~stain & (red > 0.5 * green)  # not red ink
    return stain, faint, sure, perhaps, roughness(raw.mean(axis=2)) > ROUGH, mean > NEARLY_BLACK


def _grow(seed: np.ndarray, limit: np.ndarray) -> np.ndarray:
    """`seed`, followed through `limit` for a short way, and one pixel more for blurred edges."""
    if not seed.any():
        return seed
    region = ndimage.binary_dilation(seed, iterations=INK_REACH, mask=limit | seed)
    smooth = ndimage.binary_closing(np.pad(region, 3), iterations=3)[3:-3, 3:-3]
    return ndimage.binary_dilation(smooth, iterations=1)


def _fill_small_holes(mask: np.ndarray) -> np.ndarray:
    labels, count = ndimage.label(~mask)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    small = sizes <= HOLE_PX
    small[0] = False
    return mask | small[labels]


def _without_specks(mask: np.ndarray) -> np.ndarray:
    labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
    large = np.bincount(labels.ravel(), minlength=count + 1) >= SPECK_PX
    large[0] = False
    return large[labels]


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


def tile_grid(slide: Slide, tissue: TissueMask, tile_um: float, min_tissue: float = 0.25) -> TileGrid:
    """Tiles of `tile_um` µm on a grid from (0, 0) over the whole slide, at least `min_tissue` of each tissue.

    The last tiles of a row and column may reach beyond the slide: their share is that of their part on it. A
    tile that would reach the share if its unknown part were tissue is kept as `unsure`. Raises `NoTissue`
    where no tile is left.
    """
    size = max(1, round(tile_um / slide.mpp))
    y, x = np.mgrid[0 : -(-slide.height // size), 0 : -(-slide.width // size)]
    coords = np.stack([x.ravel(), y.ravel()], axis=1).astype(np.int64) * size  # (N, 2)
    on_slide = np.minimum(size, (slide.width, slide.height) - coords).prod(axis=1) / size**2  # (N,)
    tissue_shares = tissue.shares(coords, size, size) / on_slide
    unknown_shares = tissue.unknown_shares(coords, size, size) / on_slide
    enough = tissue_shares >= min_tissue
    perhaps = ~enough & (unknown_shares > 0) & (tissue_shares + unknown_shares >= min_tissue)
    keep = enough | perhaps
    if not keep.any():
        raise NoTissue(
            f"no tile of {tile_um:g} µm has at least {min_tissue:.0%} tissue",
            where=slide.name,
            fix="Look at its overview; it may be nearly blank",
        )
    return TileGrid(coords[keep], size, tile_um, perhaps[keep], (slide.width, slide.height))
