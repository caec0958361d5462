"""Tile encoders by name or folder: the pixels of a tile become one vector.

`mini` is embedded, `gigapath` is Prov-GigaPath's; a checkpoint folder, the folder of a transformers vision
transformer or dual encoder, or its id on the Hugging Face hub work as well.

On CPUs with bf16 instructions the network runs in bf16 (three times as fast on the machine it was made
on) and hands out float32. Vectors of the same image from batches of different size may then differ in the
last bits of bf16; within one batch size they are the same, whatever else the batch holds.

Letters: N tiles, P side of the image that the network sees, px.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from core_model.devices import default_device, has_bf16
from core_model.encoders.feeding import run_steps, step_tiles
from core_model.errors import CheckpointError

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from torch import nn

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
        """The preparation that the configuration of a tile encoder describes."""
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
        x, y = (round((side - self.crop_px) / 2) for side in rgb.size)  # half to even
        return rgb.crop((x, y, x + self.crop_px, y + self.crop_px))

    def batch(self, images: Sequence[Image.Image]) -> np.ndarray:
        """N images, at least one → normalised (N, 3, P, P) float32."""
        pixels = np.stack([np.asarray(self.picture(image)) for image in images])  # (N, P, P, 3) uint8
        return np.stack([self._values[c][pixels[..., c]] for c in range(3)], axis=1)  # (N, 3, P, P)

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


class TileEncoder(Protocol):
    """The interface of every tile encoder."""

    name: str
    fingerprint: str
    """Digest of the weights: features are reused only where it is the same."""
    dim: int
    """Channels of a feature."""
    tile_px: int
    """Side of a tile in px at `mpp`."""
    mpp: float
    """µm per px at which tiles are read."""

    @property
    def tile_um(self) -> float:
        """Side of a tile in µm."""

    def encode(self, images: list[Image.Image]) -> np.ndarray:
        """N images, resized to `tile_px` where they are not → (N, dim) float32."""


class ViTTileEncoder:
    """A transformers vision transformer; the feature is the CLS token after the last LayerNorm."""

    def __init__(
        self,
        network: Any,
        *,
        name: str,
        pixels: TilePixels,
        mpp: float,
        device: str | None = None,
        bf16: bool | None = None,
        compact: bool = False,
    ) -> None:
        """`bf16` None: where the device computes it in hardware.

        `compact` keeps matrices in bf16 where bf16 is computed, in `network` itself: half the memory and
        the same features, since autocast rounds them at every call anyway.
        """
        self.device = device or default_device()
        self.name, self.mpp = name, mpp
        self.pixels, self.tile_px = pixels, pixels.tile_px
        self.fingerprint = weights_fingerprint(network)
        self.bf16 = has_bf16(self.device) if bf16 is None else bf16
        if compact and self.bf16:
            halve_matrices(network)
        self.network = network.eval().to(self.device)
        self.dim = self._dim()

    @property
    def tile_um(self) -> float:
        """Side of a tile in µm."""
        return self.tile_px * self.mpp

    def encode(self, images: list[Image.Image]) -> np.ndarray:
        """N images → (N, dim) float32, all at once; none gives (0, dim)."""
        if not images:
            return np.zeros((0, self.dim), dtype=np.float32)
        return self.encode_prepared([[self.prepare(images)]])[0]

    @property
    def step(self) -> int:
        """Tiles to encode at once, so that features do not depend on how the work is cut."""
        return step_tiles(self.device)

    @property
    def arithmetic(self) -> str:
        """The kind of device and numbers: others give other last bits."""
        return f"{self.device.partition(':')[0]} {'bf16' if self.bf16 else 'float32'}"

    def prepare(self, images: list[Image.Image]) -> np.ndarray:
        """N images → (N, 3, P, P) float32, for `encode_prepared`; any thread may do it."""
        return self.pixels.batch(images)

    def encode_prepared(self, steps: Sequence[Sequence[np.ndarray]]) -> list[np.ndarray]:
        """Features (n, dim) float32 of each step, which is given in parts as `prepare` makes them."""
        return run_steps(self.features, steps, self.device)

    def compile(self) -> None:
        """Let torch compile the network: the first step then takes minutes, the others less time."""
        import torch

        self._feature = torch.compile(self._feature)  # type: ignore[method-assign]

    def features(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalised pixels (N, 3, P, P) on the encoder's device → (N, dim), in bf16 where it computes so."""
        import torch

        device = torch.device(self.device).type
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=self.bf16):
            return self._feature(pixels)

    def _feature(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.network(pixel_values=pixels).last_hidden_state[:, 0]  # (N, dim)

    def _dim(self) -> int:
        return int(self.network.config.hidden_size)


def weights_fingerprint(module: nn.Module) -> str:
    """The first 16 hex digits of a sha256 over names, shapes and float32 values of all weights."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name}{tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def halve_matrices(network: Any) -> None:
    """Put what autocast computes in bf16 into bf16, one layer after another: linear and convolution."""
    import torch

    for layer in network.modules():
        if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d):
            layer.to(torch.bfloat16)


def bind(
    network: Any, name: str, config: TileEncoderConfig, device: str | None = None, *, compact: bool = False
) -> ViTTileEncoder:
    """A network with its configuration as an encoder; `compact` as in `ViTTileEncoder`."""
    pixels = TilePixels.of(config)
    return ViTTileEncoder(network, name=name, pixels=pixels, mpp=config.mpp, device=device, compact=compact)


def read_processor(folder: Path, image_px: int) -> TilePixels | None:
    """The preparation that a transformers folder describes; None where it describes none.

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


def build_dinov2(config: TileEncoderConfig) -> Any:
    """The network of `config` with random weights; raises `CheckpointError` for a width it cannot have."""
    from transformers import Dinov2Config, Dinov2Model

    return Dinov2Model(
        Dinov2Config(
            hidden_size=config.embed_dim,
            num_hidden_layers=config.depth,
            num_attention_heads=config.heads,
            mlp_ratio=_mlp_ratio(config),
            image_size=config.image_px,
            patch_size=config.patch_px,
            layer_norm_eps=1e-6,
            layerscale_value=1e-5,
            use_swiglu_ffn=True,
            use_mask_token=False,
        )
    )


def _mlp_ratio(config: TileEncoderConfig) -> int:
    """Dinov2 derives SwiGLU's width from a whole ratio: two thirds of it, rounded up to a multiple of 8."""
    for ratio in range(1, 17):
        if (config.embed_dim * ratio * 2 // 3 + 7) // 8 * 8 == config.ffn_dim:
            return ratio
    raise CheckpointError(f"no Dinov2 of {config.embed_dim} channels has a SwiGLU of {config.ffn_dim}")


def build_tile_encoder(config: TileEncoderConfig) -> nn.Module:
    """The vision transformer with random weights; takes `pixel_values` (B, 3, px, px), `image_px` a side."""
    if config.class_name == "Dinov2Model":
        return build_dinov2(config)
    from transformers import ViTConfig, ViTModel

    return ViTModel(
        ViTConfig(
            hidden_size=config.embed_dim,
            num_hidden_layers=config.depth,
            num_attention_heads=config.heads,
            intermediate_size=config.ffn_dim,
            image_size=config.image_px,
            patch_size=config.patch_px,
            layer_norm_eps=1e-6,
        ),
        add_pooling_layer=False,
    )
