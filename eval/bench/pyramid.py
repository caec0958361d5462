"""A large slide made of a small one, repeated: a tiled JPEG pyramid, written tile by tile."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from core_model.errors import SlideError, UsageError

LEVELS = 6
TILE = 256
STRIP = 512
"""Rows read at once."""


def write_large(source: Path, target: Path, side: int) -> Path:
    """Write `side` x `side` px that repeat the slide `source` as a six-level pyramid; kept where it exists.

    The period is cut to a multiple of 32 px, so that every level repeats exactly. Memory: the source's
    pixels once, and a third of them for its own pyramid. Raises `UsageError`, `SlideError`.
    """
    unit = TILE << (LEVELS - 1)
    if side < unit or side % unit:
        raise UsageError(
            f"a side of {side} px does not make {LEVELS} levels", fix=f"Use a multiple of {unit}"
        )
    if target.exists():
        return target
    pixels, mpp = _read(source)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _write(part, pixels, side, mpp)
        part.replace(target)
    except OSError as error:
        raise SlideError(f"the large slide cannot be written ({error})", where=target) from error
    finally:
        part.unlink(missing_ok=True)
    return target


def _read(source: Path) -> tuple[np.ndarray, float]:
    """Level 0 of a slide, (H, W, 3) uint8 with both sides a multiple of 32, and its mpp."""
    from core_model.slides.box import Box
    from core_model.slides.slide import open_slide

    fold = 1 << (LEVELS - 1)
    with open_slide(source) as slide:
        width, height = slide.width // fold * fold, slide.height // fold * fold
        if not width or not height:
            raise UsageError(f"the slide is smaller than {fold} px", where=source)
        pixels = np.empty((height, width, 3), dtype=np.uint8)
        for y in range(0, height, STRIP):
            rows = min(STRIP, height - y)
            pixels[y : y + rows] = np.asarray(slide.read(Box(0, y, width, rows), slide.mpp))
        return pixels, slide.mpp


def _write(path: Path, pixels: np.ndarray, side: int, mpp: float) -> None:
    from tifffile import TiffWriter

    with TiffWriter(path, bigtiff=True) as file:
        for level in range(LEVELS):
            if level:
                pixels = _halved(pixels)
            px = side >> level
            per_cm = 1e4 / (mpp * 2**level)
            file.write(
                _tiles(pixels, px),
                shape=(px, px, 3),
                dtype=np.uint8,
                tile=(TILE, TILE),
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": 80},
                resolution=(per_cm, per_cm),
                resolutionunit="CENTIMETER",
                subfiletype=1 if level else 0,
                metadata=None,
            )


def _tiles(pixels: np.ndarray, px: int) -> Iterator[np.ndarray]:
    """(256, 256, 3) tiles, row by row, of `px` x `px` px that repeat `pixels`."""
    height, width = pixels.shape[:2]
    for y in range(0, px, TILE):
        rows = np.arange(y, y + TILE) % height
        band = pixels[rows]  # (256, W, 3)
        for x in range(0, px, TILE):
            yield band[:, np.arange(x, x + TILE) % width]


def _halved(pixels: np.ndarray) -> np.ndarray:
    """(H, W, 3) → (H/2, W/2, 3): each pixel the mean of four."""
    total = np.full((pixels.shape[0] // 2, pixels.shape[1] // 2, 3), 2, dtype=np.uint16)
    for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
        total += pixels[i::2, j::2]
    return (total // 4).astype(np.uint8)
