"""Marks that are on the glass rather than in the tissue."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

INKS = {"green": (50, 140, 90), "blue": (45, 60, 165), "black": (45, 45, 50)}


def draw_pen(pixels: npt.NDArray[np.uint8], rng: np.random.Generator, mpp: float) -> None:
    """Draw, in place, a felt pen's stroke down one side of the slide (H, W, 3)."""
    height, width = pixels.shape[:2]
    ink = np.array(INKS[str(rng.choice(list(INKS)))], np.float32)
    half = float(rng.uniform(45, 90)) / mpp
    top, bottom = sorted(rng.uniform(0.05, 0.95, 2) * height)
    rows = np.arange(int(top), max(int(bottom), int(top) + 1))
    place = float(rng.choice([0.04, 0.96])) * width
    middle = place + 30 / mpp * np.sin(rows / (250 / mpp) + rng.uniform(0, 6))
    left = int(np.clip(middle.min() - half - 2, 0, width - 1))
    right = int(np.clip(middle.max() + half + 2, left + 1, width))
    across = np.abs(np.arange(left, right)[None, :] - middle[:, None])  # (rows, columns)
    cover = np.clip((half - across) * mpp / 6, 0, 1) * (0.85 - 0.15 * np.cos(across / half * 3))
    patch = pixels[rows[0] : rows[-1] + 1, left:right]
    patch[:] = (patch * (1 - cover[..., None]) + ink * cover[..., None]).astype(np.uint8)
