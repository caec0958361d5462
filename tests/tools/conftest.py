"""A painted slide and a model that knows only colours: every answer can be worked out by hand."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from core_model.features.tiles import TileFeatures
from core_model.slides.slide import Slide, open_slide

sys.path.insert(0, str(Path(__file__).parents[1] / "core_model"))  # slide_files

PINK, PURPLE = (215, 120, 170), (110, 70, 150)


class ColourEncoder:
    """A tile's mean colour, centred: pink and purple tiles point apart."""

    name, fingerprint, dim, tile_px, mpp, tile_um = "colour", "abc", 3, 64, 0.5, 32.0

    def __init__(self) -> None:
        self.seen = 0

    def encode(self, images: list[Image.Image]) -> np.ndarray:
        self.seen += len(images)
        middle = np.mean([PINK, PURPLE], axis=0)
        pixels = [np.asarray(image, dtype=np.float32).reshape(-1, 3).mean(axis=0) for image in images]
        return np.stack(pixels).astype(np.float32) - middle.astype(np.float32)


@dataclass
class FakeModel:
    """`WsiLlava`'s methods by simple rules: "purple" is as probable as its share of the tiles."""

    folder: Path = Path("nowhere")
    name: str = "fake"
    version: str = "1"
    tile_encoder: Any = field(default_factory=ColourEncoder)
    embedded: int = 0

    def embed_text(self, texts: list[str]) -> np.ndarray:
        axes = {"pink": (1.0, 0.0), "purple": (0.0, 1.0)}
        return np.array([axes.get(text, (0.6, 0.8)) for text in texts], dtype=np.float32)

    def embed_tiles(self, features: TileFeatures) -> np.ndarray:
        self.embedded += len(features)
        purple = self._purple(features)
        return np.stack([~purple, purple], axis=1).astype(np.float32)

    def score_options(self, features: TileFeatures, question: str, options: list[str]) -> np.ndarray:
        share = float(self._purple(features).mean())
        rest = (1 - share) / (len(options) - 1)
        return np.array([share if option == "purple" else rest for option in options])

    def generate(
        self,
        features: TileFeatures,
        question: str,
        options: list[str] | None = None,
        max_new_tokens: int = 64,
    ) -> tuple[str, float]:
        share = float(self._purple(features).mean())
        return ("purple", share) if share > 0.5 else ("pink", 1 - share)

    @staticmethod
    def _purple(features: TileFeatures) -> np.ndarray:
        return features.features[:, 0] < 0


@pytest.fixture
def model() -> FakeModel:
    return FakeModel()


@pytest.fixture
def slide(tmp_path: Path) -> Iterator[Slide]:
    """1024 x 768 px at 0.5 µm/px: glass, a pink block at (128, 128, 384, 512), a purple one right of it."""
    rgb = np.full((768, 1024, 3), 243, dtype=np.int16)
    rgb[128:640, 128:512] = PINK
    rgb[128:640, 512:896] = PURPLE
    rgb += np.random.default_rng(0).integers(-3, 4, rgb.shape, dtype=np.int16)
    path = tmp_path / "painted.tiff"
    tifffile.imwrite(
        path, rgb.clip(0, 255).astype(np.uint8), tile=(128, 128), photometric="rgb",
        compression="adobe_deflate", resolution=(20000, 20000), resolutionunit="CENTIMETER", metadata=None,
    )  # fmt: skip
    with open_slide(path) as opened:
        yield opened
