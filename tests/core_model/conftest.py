"""Small slides written on the spot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

WriteSlide = Callable[..., Path]


def halve(rgb: np.ndarray) -> np.ndarray:
    """2x2 means, an odd last row or column cropped, as scanners do."""
    h, w = rgb.shape[0] // 2, rgb.shape[1] // 2
    blocks = rgb[: 2 * h, : 2 * w].reshape(h, 2, w, 2, 3).astype(np.float64)
    return blocks.mean(axis=(1, 3)).round().astype(np.uint8)


@pytest.fixture
def write_slide(tmp_path: Path) -> WriteSlide:
    """Write an RGB array as a tiled, lossless pyramid; `mpp` may be a pair for x and y, or None for none."""

    def write(
        rgb: np.ndarray,
        name: str = "slide.tiff",
        mpp: float | tuple[float, float] | None = 0.5,
        levels: int = 1,
        tile: int = 64,
    ) -> Path:
        path = tmp_path / name
        x, y = mpp if isinstance(mpp, tuple) else (mpp, mpp)
        scale = {"resolution": (1e4 / x, 1e4 / y), "resolutionunit": "CENTIMETER"} if x and y else {}
        with tifffile.TiffWriter(path) as tiff:
            for level in range(levels):
                kind = int(level > 0)
                tiff.write(rgb, tile=(tile, tile), photometric="rgb", compression="adobe_deflate",
                           subfiletype=kind, metadata=None, **scale)  # fmt: skip
                rgb = halve(rgb)
        return path

    return write


@pytest.fixture
def he_image() -> Callable[..., np.ndarray]:
    """Glass with one pink-and-purple rectangle of tissue: (H, W, 3) uint8."""

    def paint(height: int, width: int, tissue: tuple[int, int, int, int], seed: int = 0) -> np.ndarray:
        x, y, w, h = tissue
        rng = np.random.default_rng(seed)
        rgb = np.full((height, width, 3), 243, dtype=np.int16)
        rgb[y : y + h, x : x + w] = (215, 130, 175)
        nuclei = rng.random((h, w)) < 0.1
        rgb[y : y + h, x : x + w][nuclei] = (90, 60, 140)
        rgb += rng.integers(-4, 5, rgb.shape, dtype=np.int16)
        return rgb.clip(0, 255).astype(np.uint8)

    return paint
