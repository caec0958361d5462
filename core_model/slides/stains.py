"""What the colour of each pixel of an overview says: stain of tissue, ink, glass, or perhaps a rarer stain.

Works on optical density, the logarithm of how much light each channel lost against the glass (Beer–
Lambert): haematoxylin and eosin absorb most in green; what absorbs most in red is green or blue ink,
what absorbs green and blue alike and nearly all of it is red ink, and what absorbs all alike is black
ink, shadow or the slide's border. DAB absorbs most in blue and stays tissue.

Alcian blue, Luxol fast blue and light green absorb more in red, as ink does, and silver absorbs all alike.
What tells them from ink is that tissue is never even: nuclei, fibres and lumina show from 8 to 22 µm/px,
while ink is smooth or nearly black. A slide is taken for one of such a stain only where that makes up a
good part of it.

Letters: H rows and W columns of an overview, h rows of a strip of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from core_model.slides.regions import closed, eroded, regions_of

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

MIN_CHROMA = 0.03
"""Least difference in optical density between channels that is a stain: pale tissue has 0.04."""

MIN_RELATIVE_CHROMA = 0.2
"""Least chroma as a share of the mean density; grey and black, however dark, stay below."""

NEARLY_BLACK = 0.5
"""Mean density of ink, and of little tissue."""

PLAIN = 0.02
"""Density of every channel up to which a pixel is plain glass: neither stain nor any ink is so pale."""

STRIP_PX = 1 << 16
"""Pixels judged at once: what is computed of them stays in the processor's cache."""

ROUGH_STRIP_PX = 1 << 20
"""Pixels whose roughness is computed at once."""

HALO = 12
"""Rows of overlap, more than roughness reaches."""

SAMPLE_PX = 100_000
"""Pixels from which the colour of the glass is told."""

TINT_PX = 1_000_000
"""Pixels among which an even tint is sought."""


@dataclass(frozen=True)
class Colours:
    """Bool masks (H, W) of what the colours of an overview say, and what they were told from."""

    rgb: np.ndarray
    """uint8 (H, W, 3)."""
    glass: np.ndarray
    """(3,)."""
    stain: np.ndarray
    """Stained as tissue is."""
    faint_ink: np.ndarray
    sure_ink: np.ndarray
    perhaps: np.ndarray
    """Perhaps of an unusual stain, perhaps ink."""
    dense: np.ndarray
    """Nearly black."""


def classify(rgb: np.ndarray, glass: np.ndarray) -> Colours:
    """What the colours of an overview, uint8 (H, W, 3), say against those of the `glass` (3,)."""
    masks = [np.zeros(rgb.shape[:2], dtype=bool) for _ in range(5)]
    for rows, around in _strips(rgb, STRIP_PX, 1):
        strip = rgb[around]
        above, below = int(rows.start == 0), int(rows.stop == rgb.shape[0])
        if above or below:  # the edge is repeated
            strip = np.pad(strip, ((above, below), (0, 0), (0, 0)), mode="edge")
        planes = [strip[..., c].astype(np.uint16) for c in range(3)]  # (h + 2, W) each
        smooth = [_smoothed(plane) for plane in planes]  # (h, W) each
        places = _not_plain_glass(smooth, glass)
        parts = _judge(
            [_light(plane[1:-1].reshape(-1)[places], glass[c]) for c, plane in enumerate(planes)],
            [_light(plane.reshape(-1)[places], glass[c] * 16) for c, plane in enumerate(smooth)],
        )
        for whole, part in zip(masks, parts, strict=True):
            whole[rows].reshape(-1)[places] = part
    return Colours(rgb, glass, *masks)


def _not_plain_glass(smooth: list[np.ndarray], glass: np.ndarray) -> np.ndarray | slice:
    """Places in a strip that may be more than glass; all of them where picking would save nothing."""
    dark = [plane < np.uint16(16 * glass[c] * 10**-PLAIN) for c, plane in enumerate(smooth)]
    places = np.flatnonzero(dark[0] | dark[1] | dark[2])
    return places if 2 * len(places) < smooth[0].size else slice(None)


def _light(values: np.ndarray, glass: float) -> np.ndarray:
    """Share of the glass's light that pixels let through, float32, from a 255th to 1."""
    return np.clip(values * np.float32(1 / glass), np.float32(1 / 255), np.float32(1))


def _judge(raw: list[np.ndarray], smooth: list[np.ndarray]) -> tuple[np.ndarray, ...]:
    """The masks of `Colours`, (pixels,) each, from the light of pixels as they are and smoothed."""
    has_colour = _largest(raw) > 10 ** (MIN_CHROMA / 2) * _least(raw)  # smoothing spreads dark edges
    red, green, blue = densities = [_density(plane) for plane in smooth]
    chroma, mean = _largest(densities) - _least(densities), (red + green + blue) / 3
    surplus, limit = red - green, green * 0.2
    is_grey = chroma <= MIN_RELATIVE_CHROMA * mean
    stain = (chroma > MIN_CHROMA) & ~is_grey & has_colour
    stain &= surplus < limit + 0.03  # what absorbs red above green is no stain of tissue
    dense = mean > NEARLY_BLACK
    sure = (surplus > limit + 0.05) | (dense & is_grey)
    sure |= (blue > 0.85 * green) & (red < 0.3 * green) & (green > 0.8)
    faint = surplus > limit / 2 + PLAIN
    faint |= (blue > 0.75 * green) & (red < 0.35 * green) & (green > 0.05)
    faint |= (mean > 0.12) & ~stain
    perhaps = (mean > LEAST_DENSITY) & ~stain & (red > 0.5 * green)  # not red ink
    return stain, faint, sure, perhaps, dense


def _largest(planes: list[np.ndarray]) -> np.ndarray:
    return np.maximum(np.maximum(planes[0], planes[1]), planes[2])


def _least(planes: list[np.ndarray]) -> np.ndarray:
    return np.minimum(np.minimum(planes[0], planes[1]), planes[2])


def _smoothed(plane: np.ndarray) -> np.ndarray:
    """(h, W) of (h + 2, W) uint16: sixteen times the mean of each pixel with its neighbours.

    They weigh 1, 2, 1 across and down.
    """
    wide = np.empty((len(plane) - 2, plane.shape[1] + 2), dtype=np.uint16)
    middle = wide[:, 1:-1]
    np.add(plane[:-2], plane[2:], out=middle)
    middle += plane[1:-1]
    middle += plane[1:-1]
    wide[:, 0], wide[:, -1] = wide[:, 1], wide[:, -2]
    smooth = wide[:, :-2] + wide[:, 2:]
    smooth += middle
    smooth += middle
    return smooth


def _density(light: np.ndarray) -> np.ndarray:
    """Optical density of a share of light, float32."""
    return np.log(light) * np.float32(-1 / np.log(10))


def density(rgb: np.ndarray, glass: np.ndarray) -> np.ndarray:
    """Optical density (H, W, 3) float32 against the glass (3,); brighter than glass is zero."""
    planes = [_light(rgb[..., c], glass[c]) for c in range(3)]
    return np.stack([_density(plane) for plane in planes], axis=-1)


def _strips(image: np.ndarray, px: int, halo: int) -> Iterator[tuple[slice, slice]]:
    """Rows of about `px` pixels, and the same with `halo` rows more on either side where there are any."""
    height, step = len(image), max(1, px // max(1, image.shape[1]))
    for top in range(0, height, step):
        bottom = min(top + step, height)
        yield slice(top, bottom), slice(max(0, top - halo), min(height, bottom + halo))


def is_dark(rgb: np.ndarray) -> bool:
    """Whether pixels (N, 3) have a dark ground and hardly anything bright, as fluorescence has."""
    channels = [rgb[:, c] for c in range(3)]
    bright, dark = (_least(channels) >= BRIGHT).mean(), (_largest(channels) < DARK).mean()
    return bool(dark >= 0.4 and bright < 0.01)


def sample(image: np.ndarray) -> np.ndarray:
    """About 100,000 pixels of an overview (H, W, …), evenly spaced, or all of a small one."""
    step = max(1, int(np.sqrt(image.shape[0] * image.shape[1] / SAMPLE_PX)))
    return image[::step, ::step]


def glass_colour(rgb: np.ndarray) -> np.ndarray:
    """Colour (3,) of the glass: the brightest colourless pixels, else an even tint, else near white."""
    pixels = sample(rgb).reshape(-1, 3).astype(np.int16)  # (pixels, 3)
    channels = [pixels[:, c] for c in range(3)]
    low, high = _least(channels), _largest(channels)
    bright = pixels[(low > 200) & (high - low < 30)]
    scanned = bright[(bright < 255).any(axis=1)]  # pure white may be what was never scanned
    least = 0.002 * len(pixels)
    if len(scanned) < least or len(scanned) == 0:
        tinted = _even_tint(rgb)
        if tinted is not None:
            return tinted
    if len(bright) < least or len(bright) == 0:
        return np.full(3, 245.0, dtype=np.float32)
    return _brightest(bright)


def _brightest(pixels: np.ndarray) -> np.ndarray:
    """Median colour (3,) of the brightest three tenths of pixels (N, 3)."""
    level = pixels[:, 0] + pixels[:, 1] + pixels[:, 2]  # (N,)
    return np.median(pixels[level >= np.quantile(level, 0.7)], axis=0).astype(np.float32)


def _even_tint(rgb: np.ndarray) -> np.ndarray | None:
    """Colour (3,) of the brightest even part that is faintly tinted; None where there is hardly any."""
    whole = max(1, int(np.sqrt(rgb.shape[0] * rgb.shape[1] / TINT_PX)))  # neighbours stay neighbours
    side = [int(length / whole) for length in rgb.shape[:2]]
    part = rgb[: side[0], : side[1]] if whole == 1 else _windows(rgb, whole)
    values = part.astype(np.float32)
    spread = values - ndimage.gaussian_filter(values, (2, 2, 0))
    uneven = np.sqrt(ndimage.uniform_filter((spread**2).mean(axis=2), 5))  # (h, w)
    high, low = values.max(axis=2), values.min(axis=2)
    tint = np.log10(high / np.maximum(low, 1))
    even = (uneven < EVEN) & (high >= 150) & (high < 255) & (tint < TINTED_GLASS)
    return None if even.mean() < 0.02 else _brightest(values[even])


def _windows(rgb: np.ndarray, share: int) -> np.ndarray:
    """Strips of rows of a large overview: every `share`-th of them, each 64 rows high."""
    starts = range(0, rgb.shape[0], 64 * share)
    return np.concatenate([rgb[start : start + 64] for start in starts])


def roughness(mean: np.ndarray) -> np.ndarray:
    """(H, W) how uneven a mean density (H, W) is around each pixel, as a share of it."""
    fine = mean - ndimage.gaussian_filter(mean, 2.0)
    spread = np.sqrt(np.maximum(ndimage.uniform_filter(fine**2, 7), 0.0))
    return spread / (ndimage.uniform_filter(mean, 7) + 0.01)


def may_be_rare(colours: Colours) -> bool:
    """Whether so many pixels are perhaps of an unusual stain that the slide may be stained so."""
    count = np.count_nonzero(colours.perhaps)
    return bool(count > 0 and count >= LEAST_SHARE * np.count_nonzero(colours.stain))


def rare_stain(colours: Colours) -> np.ndarray | None:
    """Bool (H, W): tissue of an unusual stain; None where the slide is not stained so.

    Texture is looked at only where it may be.
    """
    if not may_be_rare(colours):
        return None
    rough = np.zeros_like(colours.perhaps)
    for rows, around in _strips(colours.rgb, ROUGH_STRIP_PX, HALO):
        inside = slice(rows.start - around.start, rows.stop - around.start)
        mean = density(colours.rgb[around], colours.glass).mean(axis=2)
        rough[rows] = (roughness(mean) > ROUGH)[inside]
    found = _uneven_pieces(colours.perhaps, rough, colours.dense) & colours.perhaps
    enough = LEAST_SHARE * np.count_nonzero(colours.stain)
    return found if found.any() and np.count_nonzero(found) >= enough else None


def _uneven_pieces(perhaps: np.ndarray, rough: np.ndarray, dense: np.ndarray) -> np.ndarray:
    """Bool (H, W): the pieces of `perhaps` that are rough within and not nearly black."""
    region = closed(perhaps)
    pieces, inner = regions_of(region, corners=False), np.pad(region, 3, constant_values=True)
    for _ in range(3):
        inner = eroded(inner)
    inner = inner[3:-3, 3:-3]
    inner_area = pieces.count_in(inner)
    good = (inner_area >= LEAST_INNER_PX) & (inner_area >= LEAST_INNER * pieces.areas)
    good &= pieces.count_in(inner & rough) >= LEAST_ROUGH * inner_area
    good &= pieces.count_in(dense) <= MOST_DENSE * pieces.areas
    chosen = np.zeros_like(region)
    pieces.draw(chosen, good, True)
    return chosen
