"""Which tissue is out of focus: measured on samples, before anything is asked about it.

Focus is told by how wide the sharpest edges are. An edge of width s (the standard deviation of a Gaussian)
that is smoothed by t has a gradient proportional to 1 / sqrt(s² + t²). So the gradients at two smoothings
give s in µm, whatever the contrast and the scanner (compare Zhuo and Sim 2011,
doi:10.1016/j.patcog.2011.03.009). Edges of nuclei are up to 1.2 µm wide in a sharp scan. A place without
edges is not judged.

The cost is bounded: one sample of 128 µm at 1 µm/px in each of at most 256 cells, and two more in a cell
whose sample is blurred or shows no edges.

Letters: H rows and W columns of the tissue's raster, N boxes or cells, h and w of a picture.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from core_model.errors import RegionUnreadable
from core_model.slides.box import Box
from core_model.specimen.sections import part_of, share_of

if TYPE_CHECKING:
    from core_model.slides.slide import Slide
    from core_model.slides.tissue import TissueMask

SAMPLES = 256
"""Cells of a slide, at most."""

CELL_UM, SAMPLE_UM, MPP = 256.0, 128.0, 1.0
"""Least side of a cell, side of a sample, and resolution at which it is read."""

COARSEST = 1.3
"""µm/px of a slide above which focus is not judged."""

FINE_UM, WIDE_UM = 1.0, 2.0
"""The two smoothings that edges are compared at."""

STRONGEST = 0.05
"""Share of a sample's pixels that are its edges."""

LEAST_EDGE = 0.004
"""Mean gradient of edges, in density per µm, below which there is nothing to tell focus by."""

BLURRED_UM = 2.2
"""Width of edges from which a place is out of focus: about that of a scan 2.5 µm blurred."""

LEAST_TISSUE = 0.1
"""Share of a cell, or of a sample, that is tissue."""

MOSTLY = 0.5
"""A box is out of focus where more than this share of its tissue is."""

SPOTS, CONFIRMING = 4, 2
"""Places along a cell that a sample is taken from; samples that confirm a blurred one."""

THREADS = 4


@dataclass(frozen=True)
class Quality:
    """How well the tissue of a slide can be seen."""

    tissue: TissueMask
    blurred: TissueMask
    """The tissue that is out of focus."""

    @property
    def blurred_share(self) -> float:
        """Share of the tissue that is out of focus."""
        return share_of(self.blurred, self.tissue)

    def blurred_in(self, box: Box) -> float:
        """Share of the tissue in a box that is out of focus, in [0, 1]."""
        tissue = self.tissue.share(box)
        return float(min(1.0, self.blurred.share(box) / tissue)) if tissue else 0.0

    def are_blurred(self, coords: np.ndarray, w: int, h: int) -> np.ndarray:
        """(N,) bool: boxes of one size at `coords` (N, 2) of whose tissue more than half is out of focus."""
        if len(coords) == 0 or not self.blurred.mask.any():
            return np.zeros(len(coords), dtype=bool)
        return self.blurred.shares(coords, w, h) > MOSTLY * self.tissue.shares(coords, w, h)


def nothing_of(tissue: TissueMask) -> TissueMask:
    """None of the tissue."""
    return part_of(tissue, np.zeros_like(tissue.mask))


def find_quality(slide: Slide, tissue: TissueMask) -> Quality:
    """Focus of a slide's tissue, found once for each open slide."""
    return slide.once(("quality", tissue.mpp), lambda: _find(slide, tissue))


def _find(slide: Slide, tissue: TissueMask) -> Quality:
    return Quality(tissue, part_of(tissue, blurred_tissue(slide, tissue)))


def blurred_tissue(slide: Slide, tissue: TissueMask) -> np.ndarray:
    """Bool (H, W): cells of the tissue that are out of focus. What cannot be told is not."""
    mask = np.zeros_like(tissue.mask)
    if slide.mpp > COARSEST or min(slide.width, slide.height) * slide.mpp < SAMPLE_UM:
        return mask
    corners, side = _cells(tissue)
    with ThreadPoolExecutor(THREADS, thread_name_prefix="focus") as pool:
        found = list(pool.map(lambda corner: _is_blurred(slide, tissue, corner, side), corners))
    sx, sy = tissue.scale
    for x, y in corners[np.array(found, dtype=bool)]:
        mask[round(y / sy) : round((y + side) / sy), round(x / sx) : round((x + side) / sx)] = True
    return mask


def first_samples(slide: Slide, tissue: TissueMask) -> list[Box]:
    """The places by which each cell of the tissue is judged first."""
    corners, side = _cells(tissue)
    return [box for corner in corners for box in _samples(slide, tissue, corner, side)[:1]]


def edge_width(rgb: np.ndarray, mpp: float) -> float | None:
    """Width in µm of the edges of a picture, uint8 (h, w, 3) at `mpp` µm/px; None where there are none.

    It is the standard deviation of the Gaussian that a sharp edge would have to be blurred by.
    """
    density = np.log10(256 / (1 + rgb.astype(np.float32))).mean(axis=2)  # (h, w)
    fine, wide = (ndimage.gaussian_gradient_magnitude(density, um / mpp) for um in (FINE_UM, WIDE_UM))
    border = int(np.ceil(2 * WIDE_UM / mpp))
    fine, wide = (part[border:-border, border:-border] for part in (fine, wide))
    if fine.size == 0:
        return None
    edges = wide >= np.quantile(wide, 1 - STRONGEST)
    sharp, soft = float((fine[edges] ** 2).mean()), float((wide[edges] ** 2).mean())
    if soft**0.5 / mpp < LEAST_EDGE:
        return None
    if sharp <= soft:
        return float("inf")
    return float(np.sqrt(max(0.0, (soft * WIDE_UM**2 - sharp * FINE_UM**2) / (sharp - soft))))


def _cells(tissue: TissueMask) -> tuple[np.ndarray, int]:
    """(N, 2) x, y of square cells with tissue, in level-0 px, and their side: as small as `SAMPLES` allow."""
    whole, side = tissue.slide_box, CELL_UM / tissue.slide_mpp
    while True:
        size = max(1, round(side))
        y, x = np.mgrid[0 : whole.h : size, 0 : whole.w : size]
        corners = np.stack([x.ravel(), y.ravel()], axis=1).astype(np.int64)  # (N, 2)
        on_slide = np.minimum(size, (whole.w, whole.h) - corners).prod(axis=1) / size**2  # (N,)
        corners = corners[tissue.shares(corners, size, size) >= LEAST_TISSUE * on_slide]
        if len(corners) <= SAMPLES:
            return corners, size
        side *= 2**0.5


def _is_blurred(slide: Slide, tissue: TissueMask, corner: np.ndarray, side: int) -> bool:
    """Whether a cell is out of focus: by its sample, confirmed by others where that is blurred."""
    widths = []
    for box in _samples(slide, tissue, corner, side):
        width = _measured(slide, box)
        widths += [] if width is None else [width]
        if widths and widths[0] < BLURRED_UM:
            return False
    return sum(width >= BLURRED_UM for width in widths) > len(widths) / 2


def _samples(slide: Slide, tissue: TissueMask, corner: np.ndarray, side: int) -> list[Box]:
    """The samples of a cell, most tissue first; inside the slide, and apart from each other."""
    size = round(SAMPLE_UM / slide.mpp)
    spots = max(1, min(SPOTS, side // size))
    steps = np.arange(spots) * (side - size) // max(1, spots - 1)
    y, x = np.meshgrid(steps, steps, indexing="ij")
    places = np.stack([x.ravel(), y.ravel()], axis=1) + corner  # (N, 2)
    places = np.unique(np.minimum(places, (slide.width - size, slide.height - size)), axis=0)
    shares = tissue.shares(places, size, size)
    order = [i for i in np.argsort(-shares, kind="stable") if shares[i] >= LEAST_TISSUE]
    return [Box(int(places[i, 0]), int(places[i, 1]), size, size) for i in order[: 1 + CONFIRMING]]


def _measured(slide: Slide, box: Box) -> float | None:
    try:
        image = slide.read(box, MPP)
    except RegionUnreadable:
        return None  # told elsewhere; here it only says nothing
    return edge_width(np.asarray(image), slide.effective_mpp(MPP))
