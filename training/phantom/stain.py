"""From concentrations of haematoxylin and eosin to the colours that a scanner records.

Letters: (H, W) rows and columns in px.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from training.phantom.fields import Field, texture
from training.phantom.spec import StainSpec

NOISE_SIDE = 256


def scan(stain: StainSpec, haematoxylin: Field, eosin: Field, noise: Field) -> npt.NDArray[np.uint8]:
    """RGB (H, W, 3) of two concentration planes (H, W).

    Beer-Lambert: intensity = white * exp(-sum of concentration * density), then the scanner's response
    and `noise` (H, W, 3) in grey levels.
    """
    rgb = np.empty((*haematoxylin.shape, 3), np.uint8)
    for channel in range(3):
        h = stain.haematoxylin[channel] * stain.haematoxylin_gain * stain.gamma
        e = stain.eosin[channel] * stain.eosin_gain * stain.gamma
        light = np.exp(haematoxylin * np.float32(-h) - eosin * np.float32(e))
        light *= np.float32(stain.white[channel])
        light += noise[..., channel]
        rgb[..., channel] = np.clip(light, 0, 255, out=light)
    return rgb


def blur(plane: Field, weight: float) -> Field:
    """The scanner's 3-tap blur in both directions; the outermost pixel on each side is left out."""
    side, middle = np.float32(weight), np.float32(1 - 2 * weight)
    rows: Field = plane[1:-1] * middle + (plane[:-2] + plane[2:]) * side  # (H - 2, W)
    smooth: Field = rows[:, 1:-1] * middle + (rows[:, :-2] + rows[:, 2:]) * side
    return smooth


def sensor_noise(rng: np.random.Generator, stain: StainSpec, side: int) -> Field:
    """Noise (side, side, 3) in grey levels, half common to the channels and slightly correlated."""
    common = texture(rng, side, 0.6)[..., None]  # (side, side, 1)
    per_channel = rng.standard_normal((side, side, 3), dtype=np.float32)
    return (stain.noise * (0.7 * common + 0.7 * per_channel)).astype(np.float32)
