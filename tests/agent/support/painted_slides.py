"""Painted slides, and a stand-in for the model that sees the mean colour of a tile."""

from __future__ import annotations

from pathlib import Path

import agent_fakes as fakes
import numpy as np
from PIL import Image

from core_model.features.tiles import TileFeatures

PURPLE, PINK, GLASS = (110, 70, 150), (225, 140, 180), (245, 245, 245)


class ColourEncoder:
    """A tile's feature is 1 where it is purple ("grey" to the model), 0 where it is pink."""

    name, fingerprint, dim, tile_px, mpp, tile_um = "colour", "c0", 1, 56, 2.0, 112.0

    def encode(self, images: list[Image.Image]) -> np.ndarray:
        red = np.array([np.asarray(image, dtype=np.float32)[..., 0].mean() for image in images])
        return np.clip((225 - red) / 115, 0, 1)[:, None].astype(np.float32)


class ColourModel(fakes.FakeModel):
    """`FakeModel` with what the toolbox needs of a model."""

    tile_encoder, folder = ColourEncoder(), Path("nowhere")

    def generate(self, features: TileFeatures, question: str) -> tuple[str, float]:
        return self.say(features)

    def embed_tiles(self, features: TileFeatures) -> np.ndarray:
        grey = features.features[:, :1]
        vectors = np.concatenate([grey, 1 - grey], axis=1) + 1e-3
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def embed_text(self, texts: list[str]) -> np.ndarray:
        return np.array([[1.0, 0.0] if "grey" in text else [0.0, 1.0] for text in texts], dtype=np.float32)


def paint(path: Path, purple_share: float) -> Path:
    """A slide of 3 x 2 mm at 2 µm/px with a margin of glass; the left part of its tissue is purple."""
    noise = np.random.default_rng(0).integers(-8, 9, size=(1000, 1500, 3))
    pixels = np.full((1000, 1500, 3), GLASS)
    pixels[100:900, 100:1400] = PINK
    pixels[100:900, 100 : 100 + round(1300 * purple_share)] = PURPLE
    Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8)).save(path)
    return path
