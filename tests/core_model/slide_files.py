"""Small slides in the formats of real scanners, whole and damaged, and an encoder of their tiles."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

TILE = 240
"""Side of the tiles of an SVS file as Aperio's scanners write them, px."""


def stained(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth pink and purple tissue all over, which JPEG keeps well: uint8 (height, width, 3)."""
    rows, columns = np.mgrid[0:height, 0:width]
    wave = (np.sin(rows / 37 + seed) + np.cos(columns / 53)) / 4 + 0.5  # (H, W) in 0…1
    pink, purple = np.array([215, 130, 175]), np.array([120, 80, 150])
    return (wave[..., None] * pink + (1 - wave[..., None]) * purple).astype(np.uint8)


def write_svs(
    path: Path, rgb: np.ndarray, mpp: float | None = 0.499, levels: int = 2, power: float = 20
) -> Path:
    """Write an Aperio SVS file: JPEG tiles, a thumbnail behind level 0, each level a quarter of the last."""
    height, width = rgb.shape[:2]
    scale = f"|AppMag = {power:g}|MPP = {mpp:.4f}" if mpp is not None else ""
    whole = f"{width}x{height} [0,0 {width}x{height}] ({TILE}x{TILE}) JPEG/RGB Q=95"
    head = f"Aperio Image Library v11.2.1 \r\n{whole}"
    with tifffile.TiffWriter(path) as tiff:
        for level in range(levels):
            image = np.ascontiguousarray(rgb[:: 4**level, :: 4**level])
            tiff.write(
                image,
                tile=(TILE, TILE),
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": 95},
                description=head + scale,
                metadata=None,
            )
            if level == 0:
                tiff.write(image[::8, ::8], photometric="rgb", description=head, metadata=None)
    return path


def damage(path: Path, tiles: Iterable[tuple[int, int]] | None = None) -> Path:
    """Overwrite tiles (column, row) of level 0 with zeros, or every tile of every level."""
    with tifffile.TiffFile(path) as tiff:
        pages = [page for page in tiff.pages if page.is_tiled]
        across = -(-pages[0].imagewidth // TILE)
        places = [
            (offset, size)
            for page in (pages if tiles is None else pages[:1])
            for index, (offset, size) in enumerate(zip(page.dataoffsets, page.databytecounts, strict=True))
            if tiles is None or (index % across, index // across) in set(tiles)
        ]
    with path.open("r+b") as file:
        for offset, size in places:
            file.seek(offset)
            file.write(bytes(size))
    return path


@dataclass
class ColourEncoder:
    """Mean and spread of each channel: an encoder whose output one can compute by hand."""

    name: str = "colour"
    fingerprint: str = "abc"
    dim: int = 6
    tile_px: int = 224
    mpp: float = 0.5
    seen: int = 0

    @property
    def tile_um(self) -> float:
        return self.tile_px * self.mpp

    def encode(self, images: list[Image.Image]) -> np.ndarray:
        self.seen += len(images)
        pixels = [np.asarray(image, dtype=np.float32).reshape(-1, 3) for image in images]
        return np.stack([np.concatenate([p.mean(axis=0), p.std(axis=0)]) for p in pixels])
