"""Where the section lies twofold: narrow bands of tissue about twice as dense as what is around, of one hue.

Strips of another tissue, such as epithelium beside stroma, are dense and narrow too, but of another hue. What
is not plainly a fold is taken for none: dense tissue is common, and folds are rare.

Letters: H rows and W columns of the tissue's raster.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from core_model.specimen.sections import part_of

if TYPE_CHECKING:
    from core_model.slides.slide import Slide
    from core_model.slides.tissue import TissueMask

AROUND_UM = 500.0
"""Side of the square that a place is compared with."""

DENSER, SURELY_DENSER = 1.3, 1.6
"""How much denser a fold is than what is around it: all of it, and a good part of it."""

LEAST_SURE = 0.2
"""That part."""

SAME_HUE = 0.995
"""Least cosine between the densities of a fold and of what is around it, red, green and blue."""

LEAST_DENSITY = 0.15
GLASS = 245.0

LENGTH_UM, SLIM = 500.0, 10.0
"""Least length of a fold, and how many times its width that is."""

STRETCHED = 0.6
"""Least distance of its ends, as a share of its length: what winds more is no fold."""

COARSEST = 12.0
"""µm/px of the mask above which folds cannot be told."""


def find_folds(slide: Slide, tissue: TissueMask) -> TissueMask:
    """The tissue that lies twofold, found once for each open slide; none where the mask is too coarse.

    It costs as much reading as finding the tissue. Raises `SlideError` where nothing decodes.
    """
    return slide.once(("folds", tissue.mpp), lambda: part_of(tissue, _folded(slide, tissue)))


def _folded(slide: Slide, tissue: TissueMask) -> np.ndarray:
    from core_model.slides.tissue import MOST_PX

    rgb = np.asarray(slide.blocks(tissue.mpp, MOST_PX).image) if tissue.mpp <= COARSEST else None
    if rgb is None or rgb.shape[:2] != tissue.mask.shape:  # a mask that was found on another raster
        return np.zeros_like(tissue.mask)
    return fold_mask(rgb, tissue.mask, tissue.mpp)


def fold_mask(rgb: np.ndarray, tissue: np.ndarray, mpp: float) -> np.ndarray:
    """Bool (H, W): folds of the tissue (H, W) in a picture, uint8 (H, W, 3) at `mpp` µm/px."""
    dense, sure = _denser(rgb, tissue, mpp)
    labels, count = ndimage.label(dense, structure=np.ones((3, 3)))
    inner = ndimage.distance_transform_edt(np.pad(dense, 1))[1:-1, 1:-1]
    areas, sure_areas = (np.bincount(part.ravel(), minlength=count + 1) for part in (labels, labels * sure))
    found = np.zeros(count + 1, dtype=bool)
    for piece, (rows, columns) in enumerate(ndimage.find_objects(labels), 1):
        half = float(inner[rows, columns][labels[rows, columns] == piece].max())
        width = 2 * half - 1  # px; a band of one px is half a px from its edge
        length = areas[piece] / width
        ends = np.hypot(rows.stop - rows.start, columns.stop - columns.start)
        long = ends * mpp >= LENGTH_UM and length >= SLIM * width and ends >= STRETCHED * length
        found[piece] = long and sure_areas[piece] >= LEAST_SURE * areas[piece]
    return found[labels]


def _denser(rgb: np.ndarray, tissue: np.ndarray, mpp: float) -> tuple[np.ndarray, np.ndarray]:
    """Bool (H, W) twice: denser than around and of one hue; that, and much denser."""
    smooth = ndimage.gaussian_filter(rgb.astype(np.float32), (1.0, 1.0, 0.0))
    density = np.log10(GLASS / np.clip(smooth, 1.0, GLASS))  # (H, W, 3)
    side = int(AROUND_UM / mpp) | 1
    weight = ndimage.uniform_filter(tissue.astype(np.float32), side)
    around = ndimage.uniform_filter(density * tissue[..., None], (side, side, 1))
    around /= np.maximum(weight, 1e-6)[..., None]
    mean, usual = density.mean(axis=2), around.mean(axis=2)
    lengths = np.linalg.norm(density, axis=2) * np.linalg.norm(around, axis=2)
    same = (density * around).sum(axis=2) >= SAME_HUE * lengths
    near = tissue & same & (mean > LEAST_DENSITY)
    dense = near & (mean > DENSER * usual)
    closed = ndimage.binary_closing(np.pad(dense, 2), np.ones((3, 3)))[2:-2, 2:-2]
    return closed, near & (mean > SURELY_DENSER * usual)
