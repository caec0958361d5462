"""From tile images to the numbers a network reads: resize, crop, normalise, as torchvision does on Pillow.

Letters: N images, P side in px of what the network sees.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from core_model.errors import CheckpointError

if TYPE_CHECKING:
    from PIL import Image

    from core_model.config import TileEncoderConfig

BICUBIC = 3
"""Pillow's number of the filter, which transformers' files use too."""
Channels = tuple[float, ...]


@dataclass(frozen=True)
class TilePixels:
    """How a tile is prepared.

    Without a crop it is brought to a square of `tile_px`. With one its shorter side becomes `tile_px`, and
    the centre of `crop_px` is cut out; fractions are rounded as torchvision's Resize and CenterCrop do.
    """

    tile_px: int
    """Side of the tile image, px; other sizes are resized."""
    crop_px: int | None = None
    """Side of the centre that the network sees of it, px; None: all."""
    mean: Channels = (0.5, 0.5, 0.5)
    std: Channels = (0.5, 0.5, 0.5)
    resample: int = BICUBIC

    def __post_init__(self) -> None:
        if self.crop_px is not None and self.crop_px > self.tile_px:
            raise CheckpointError(f"{self.crop_px} px cannot be cut from tiles of {self.tile_px} px")

    @classmethod
    def of(cls, config: TileEncoderConfig) -> TilePixels:
        """As the configuration of a tile encoder says."""
        return cls(config.tile_px, config.crop_px, config.mean, config.std)

    @property
    def side(self) -> int:
        """P, in px."""
        return self.crop_px or self.tile_px

    def picture(self, image: Image.Image) -> Image.Image:
        """The RGB image of (P, P) px that the network sees of a tile."""
        from PIL import Image

        rgb = image.convert("RGB")
        size = self._resized(*rgb.size)
        if rgb.size != size:
            rgb = rgb.resize(size, Image.Resampling(self.resample))
        if self.crop_px is None:
            return rgb
        left, top = (round((side - self.crop_px) / 2) for side in rgb.size)  # half to even
        return rgb.crop((left, top, left + self.crop_px, top + self.crop_px))

    def batch(self, images: Sequence[Image.Image]) -> np.ndarray:
        """N images, at least one → normalised (N, 3, P, P) float32."""
        seen = np.stack([np.asarray(self.picture(image)) for image in images])  # (N, P, P, 3) uint8
        return np.stack([self._values[c][seen[..., c]] for c in range(3)], axis=1)

    @cached_property
    def _values(self) -> np.ndarray:
        """(3, 256) float32: what each of the 256 levels becomes in each channel."""
        levels = np.arange(256, dtype=np.float32)[:, None] / 255  # (256, 1)
        return np.ascontiguousarray(
            ((levels - np.asarray(self.mean, np.float32)) / np.asarray(self.std, np.float32)).T
        )

    def _resized(self, width: int, height: int) -> tuple[int, int]:
        if self.crop_px is None:
            return self.tile_px, self.tile_px
        if width <= height:
            return self.tile_px, int(self.tile_px * height / width)
        return int(self.tile_px * width / height), self.tile_px


def read_processor(folder: Path, image_px: int) -> TilePixels | None:
    """What a transformers folder says of its images; None where it says nothing.

    `image_px` is the side its network was built for, which counts where images are not resized. Raises
    `CheckpointError` for what a tile cannot be prepared by.
    """
    for name in ("preprocessor_config.json", "processor_config.json"):
        path = folder / name
        if not path.is_file():
            continue
        try:
            options = json.loads(path.read_text(encoding="utf-8"))
            options = options.get("image_processor", options)
            if "image_mean" in options or "size" in options:
                return _pixels(options, image_px)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise CheckpointError(f"{name} cannot be used ({error!r})", where=folder) from error
    return None


def _pixels(options: dict[str, Any], image_px: int) -> TilePixels:
    factor = options.get("rescale_factor", 1 / 255)
    if not options.get("do_rescale", True) or abs(factor * 255 - 1) > 1e-6:
        raise ValueError("pixels must be scaled to 0…1")
    crops = options.get("do_center_crop", options.get("crop_size") is not None)
    resizes = options.get("do_resize", True)
    plain = not options.get("do_normalize", True)
    return TilePixels(
        tile_px=_side(options["size"]) if resizes and options.get("size") else image_px,
        crop_px=_side(options["crop_size"]) if crops else None,
        mean=(0.0,) * 3 if plain else _three(options["image_mean"]),
        std=(1.0,) * 3 if plain else _three(options["image_std"]),
        resample=int(options.get("resample", BICUBIC)),
    )


def _side(size: Any) -> int:
    """Side of a square that transformers describes by a number, a height and a width, or a shortest edge."""
    if isinstance(size, dict):
        sides = {int(size[name]) for name in ("shortest_edge", "height", "width") if size.get(name)}
        if len(sides) != 1 or size.get("longest_edge"):
            raise ValueError(f"{size} is no square")
        return sides.pop()
    return int(size)


def _three(values: Any) -> Channels:
    if len(values) != 3:
        raise ValueError(f"{values} is not for red, green and blue")
    return tuple(float(value) for value in values)
