"""Writes pixels as a pyramidal, tiled JPEG TIFF that OpenSlide reads, with mpp in the resolution tags."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from core_model.files import replacing

TILE = 256
SMALLEST = 512
"""The pyramid ends at the first level whose long side is at most this many px."""


def write_slide(path: Path, pixels: npt.NDArray[np.uint8], mpp: float, quality: int = 85) -> None:
    """Write RGB `pixels` (H, W, 3) to `path` through a temporary name beside it.

    Each level halves the one before by averaging. OpenSlide takes mpp from the resolution tags of level 0.
    """
    import tifffile

    with replacing(Path(path)) as part, tifffile.TiffWriter(part) as tiff:
        for level, image in enumerate(_levels(pixels)):
            tiff.write(
                image,
                tile=(TILE, TILE),
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": quality},
                resolution=(1e4 / (mpp * 2**level),) * 2,
                resolutionunit="CENTIMETER",
                subfiletype=1 if level else 0,
                metadata=None,
                software="giant phantom",
                maxworkers=1,
            )


def _levels(pixels: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.uint8]]:
    levels = [pixels]
    image = Image.fromarray(pixels)
    while max(image.size) > SMALLEST:
        image = image.reduce(2)
        levels.append(np.asarray(image))
    return levels
