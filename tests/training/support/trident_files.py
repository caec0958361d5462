"""Tile features in TRIDENT's layout."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np


def write_trident(path: Path, features: np.ndarray) -> Path:
    coords = np.stack([np.arange(len(features)) * 512, np.zeros(len(features))], axis=1).astype(np.int64)
    with h5py.File(path, "w") as file:
        file["features"] = features
        file["coords"] = coords
        file["coords"].attrs.update(
            patch_size=256,
            patch_size_level0=512,
            level0_magnification=40,
            target_magnification=20,
            overlap=0,
            name=path.stem,
            level0_width=512 * len(features),
            level0_height=512,
        )
    return path
