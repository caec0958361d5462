"""Colours of glass and of stains, as optical density: what is glass, and which stains are none of the usual.

Haematoxylin, eosin and DAB absorb less in red than in green. Alcian blue, Luxol fast blue and light green
absorb more in red, as blue and green ink do, and silver absorbs all alike, as black ink and shadow do. What
tells them from ink is that tissue is never even: nuclei, fibres and lumina show at 8 µm/px, while ink is
smooth or nearly black. A slide is taken for one of such a stain only where that makes up a good part of it.

Letters: H rows and W columns of an overview.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

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
