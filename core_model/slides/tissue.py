"""Where the tissue is: a mask from colour alone, without pen marks, borders and glass.

Works on optical density, the logarithm of how much light each channel lost against the glass (Beer–
Lambert): haematoxylin and eosin absorb most in green; what absorbs most in red is green or blue ink,
what absorbs green and blue alike and nearly all of it is red ink, and what absorbs all alike is black
ink, shadow or the slide's border. DAB absorbs most in blue and stays tissue.

Alcian blue, Luxol fast blue and light green absorb more in red, as ink does, and silver absorbs all alike.
What tells them from ink is that tissue is never even: nuclei, fibres and lumina show at 8 µm/px, while ink
is smooth or nearly black. A slide is taken for one of such a stain only where that makes up a good part of
it.

Letters: H rows and W columns of the mask, N tiles or boxes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import ndimage

from core_model.errors import NoTissue, SlideError
from core_model.slides.box import Box
from core_model.slides.slide import Slide

EVEN = 3.5
"""Standard deviation, in grey levels, that noise on even glass stays below."""

TINTED_GLASS = 0.15
"""Largest chroma of glass, in density, where none is colourless."""

LEAST_DENSITY = 0.05
"""Mean density of the palest tissue of an unusual stain."""

ROUGH = 0.105
"""Least unevenness of tissue, as a share of its density; ink has .04 to .1, tissue .16 to .3."""

LEAST_ROUGH, MOST_DENSE = 0.6, 0.25
"""Share of a piece's inner part that is rough, and of the piece that is nearly black, where it is tissue."""

LEAST_INNER_PX, LEAST_INNER = 100, 0.2
"""Pixels and share of a piece that are its inner part, 3 px from its edge: edges are rough in ink too."""

LEAST_SHARE = 0.15
"""Unusual stain beside usual, as a share of that: where there is less it is ink, dirt or shadow."""

DARK, BRIGHT = 50, 140
"""Largest channel of a dark ground; smallest channel of what light passes through."""

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


def density(rgb: np.ndarray, glass: np.ndarray) -> np.ndarray:
    """Optical density (H, W, 3) float32 against the glass (3,); brighter than glass is zero."""
    return np.maximum(np.log10(glass / np.maximum(rgb, np.float32(1))), 0.0).astype(np.float32)


def is_dark(rgb: np.ndarray) -> bool:
    """Whether an overview (H, W, 3) has a dark ground and hardly anything bright, as fluorescence has."""
    bright, dark = (rgb.min(axis=2) >= BRIGHT).mean(), (rgb.max(axis=2) < DARK).mean()
    return bool(dark >= 0.4 and bright < 0.01)


def glass_colour(rgb: np.ndarray) -> np.ndarray:
    """Colour (3,) of the glass: the brightest colourless pixels, else an even tint, else near white."""
    step = max(1, int(np.sqrt(rgb.shape[0] * rgb.shape[1] / 250_000)))
    pixels = rgb[::step, ::step].reshape(-1, 3).astype(np.int16)  # (pixels, 3)
    low, high = pixels.min(axis=1), pixels.max(axis=1)
    bright = pixels[(low > 200) & (high - low < 30)]
    scanned = bright[(bright < 255).any(axis=1)]  # pure white may be what was never scanned
    least = 0.002 * len(pixels)
    if len(scanned) < least or len(scanned) == 0:
        tinted = _even_tint(rgb)
        if tinted is not None:
            return tinted
    if len(bright) < least or len(bright) == 0:
        return np.full(3, 245.0, dtype=np.float32)
    level = bright.sum(axis=1)  # (bright pixels,)
    return np.median(bright[level >= np.quantile(level, 0.7)], axis=0).astype(np.float32)


def _even_tint(rgb: np.ndarray) -> np.ndarray | None:
    """Colour (3,) of the brightest even part that is faintly tinted; None where there is hardly any."""
    whole = max(1, int(np.sqrt(rgb.shape[0] * rgb.shape[1] / 4_000_000)))  # neighbours stay neighbours
    side = [int(length / whole) for length in rgb.shape[:2]]
    part = rgb[: side[0], : side[1]] if whole == 1 else _windows(rgb, whole)
    values = part.astype(np.float32)
    spread = values - ndimage.gaussian_filter(values, (2, 2, 0))
    uneven = np.sqrt(ndimage.uniform_filter((spread**2).mean(axis=2), 5))  # (h, w)
    high, low = values.max(axis=2), values.min(axis=2)
    tint = np.log10(high / np.maximum(low, 1))
    even = (uneven < EVEN) & (high >= 150) & (high < 255) & (tint < TINTED_GLASS)
    if even.mean() < 0.02:
        return None
    chosen = values[even]  # (even pixels, 3)
    level = chosen.sum(axis=1)
    return np.median(chosen[level >= np.quantile(level, 0.7)], axis=0).astype(np.float32)


def _windows(rgb: np.ndarray, share: int) -> np.ndarray:
    """Strips of rows of a large overview: every `share`-th of them, each 64 rows high."""
    starts = range(0, rgb.shape[0], 64 * share)
    return np.concatenate([rgb[start : start + 64] for start in starts])


def roughness(mean: np.ndarray) -> np.ndarray:
    """(H, W) how uneven a mean density (H, W) is around each pixel, as a share of it."""
    fine = mean - ndimage.gaussian_filter(mean, 2.0)
    spread = np.sqrt(np.maximum(ndimage.uniform_filter(fine**2, 7), 0.0))
    return spread / (ndimage.uniform_filter(mean, 7) + 0.01)


def other_stain(perhaps: np.ndarray, rough: np.ndarray, dense: np.ndarray, usual: np.ndarray) -> np.ndarray:
    """Bool (H, W): tissue of an unusual stain among the pixels that are `perhaps` such.

    `rough` and `dense` (nearly black) describe them; `usual` is what was found of usual stains.
    """
    region = ndimage.binary_closing(np.pad(perhaps, 2), ndimage.generate_binary_structure(2, 1))[2:-2, 2:-2]
    labels, count = ndimage.label(region)
    inner = ndimage.binary_erosion(region, iterations=3, border_value=1)

    def counted(mask: np.ndarray) -> np.ndarray:
        return np.bincount(labels[mask], minlength=count + 1)  # (pieces + 1,)

    area, inner_area = counted(region), counted(inner)
    good = (inner_area >= LEAST_INNER_PX) & (inner_area >= LEAST_INNER * area)
    good &= (counted(inner & rough) >= LEAST_ROUGH * inner_area) & (counted(dense) <= MOST_DENSE * area)
    good[0] = False
    found = good[labels] & perhaps
    return found if found.sum() >= LEAST_SHARE * usual.sum() else np.zeros_like(perhaps)
