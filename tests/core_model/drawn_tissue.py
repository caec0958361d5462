"""Slides that look like tissue to whoever looks for edges: sharp, blurred, in sections."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image
from scipy import ndimage

PINK, PURPLE = np.array([222, 150, 190.0]), np.array([95, 60, 140.0])


def tissue_like(height: int, width: int, mpp: float, seed: int = 0) -> np.ndarray:
    """Purple discs of 6 to 9 µm on pink, with sharp edges: float (height, width, 3)."""
    dice = np.random.default_rng(seed)
    nuclei = np.zeros((height, width), dtype=bool)
    reach = int(5 / mpp) + 1
    for _ in range(int(height * width * mpp**2 / 400)):
        x, y, r = dice.uniform(0, width), dice.uniform(0, height), dice.uniform(3, 4.5) / mpp
        rows, columns = (slice(max(0, int(v) - reach), int(v) + reach + 1) for v in (y, x))
        dy, dx = np.ogrid[rows, columns][0], np.ogrid[rows, columns][1]
        part = nuclei[rows, columns]
        part |= ((dx[:, : part.shape[1]] - x) ** 2 + (dy[: part.shape[0]] - y) ** 2) <= r**2
    return np.where(nuclei[..., None], PURPLE, PINK)


def scanned(rgb: np.ndarray, blur_um: float, mpp: float, seed: int = 0) -> np.ndarray:
    """What a scanner makes of it: optics, noise, JPEG. uint8 (H, W, 3)."""
    soft = ndimage.gaussian_filter(rgb, (np.hypot(blur_um, 0.4) / mpp,) * 2 + (0,))
    noisy = soft + np.random.default_rng(seed).normal(0, 2, rgb.shape)
    file = io.BytesIO()
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=80)
    return np.array(Image.open(file))


def write(path: Path, rgb: np.ndarray, mpp: float = 0.5) -> Path:
    per_cm = 10_000 / mpp
    tifffile.imwrite(
        path, rgb, tile=(256, 256), photometric="rgb", compression="adobe_deflate",
        resolution=(per_cm, per_cm), resolutionunit="CENTIMETER", metadata=None,
    )  # fmt: skip
    return path


def half_blurred(blur_um: float = 4.0) -> np.ndarray:
    """1536 x 2048 px at 0.5 µm/px: glass around tissue whose right half is out of focus."""
    rgb = np.full((1536, 2048, 3), 244.0)
    rgb[128:-128, 128:-128] = tissue_like(1280, 1792, 0.5)
    image = scanned(rgb, 0.0, 0.5)
    image[:, 1024:] = scanned(rgb, blur_um, 0.5)[:, 1024:]
    return image


def two_sections(path: Path, blur_um: float = 4.0) -> Path:
    """A slide of 2.8 x 1.3 mm at 1 µm/px with two sections; the right one, 39 % of the tissue, is blurred."""
    rgb = np.full((1300, 2800, 3), 244.0)
    rgb[200:1100, 150:1150] = tissue_like(900, 1000, 1.0, 1)
    rgb[350:950, 1650:2600] = tissue_like(600, 950, 1.0, 2)
    image = scanned(rgb, 0.0, 1.0)
    if blur_um:
        image[:, 1400:] = scanned(rgb, blur_um, 1.0)[:, 1400:]
    return write(path, image, 1.0)
