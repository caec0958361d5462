"""A tile encoder whose features can be told by eye. It loads nothing that takes long."""

from __future__ import annotations

import numpy as np
from PIL import Image


class PaintEncoder:
    """A tile's feature is (1, 0) where it is purple and (0, 1) where it is pink."""

    name, fingerprint, dim, tile_px, mpp, tile_um = "paint", "c0ffee", 2, 56, 2.0, 112.0

    def encode(self, images: list[Image.Image]) -> np.ndarray:
        red = np.array([np.asarray(image, dtype=np.float32)[..., 0].mean() for image in images])
        purple = np.clip((225 - red) / 115, 0, 1)
        return np.stack([purple, 1 - purple], axis=1).astype(np.float32)
