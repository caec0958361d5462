"""Tile encoders by name or folder: the pixels of a tile become one vector.

`mini` is embedded, `gigapath` is Prov-GigaPath's; a checkpoint folder, the folder of a transformers vision
transformer or dual encoder, or its id on the Hugging Face hub work as well.

On CPUs with bf16 instructions the network runs in bf16 (three times as fast on the machine it was made
on) and hands out float32. Vectors of the same image from batches of different size may then differ in the
last bits of bf16; within one batch size they are the same, whatever else the batch holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from core_model.devices import default_device, has_bf16
from core_model.encoders.tile_pixels import TilePixels

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from core_model.config import TileEncoderConfig


class TileEncoder(Protocol):
    """What every tile encoder offers."""

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
        from core_model.weights import fingerprint

        self.device = device or default_device()
        self.name, self.mpp = name, mpp
        self.pixels, self.tile_px = pixels, pixels.tile_px
        self.fingerprint = fingerprint(network)
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
        """N images → (N, dim) float32; none gives (0, dim)."""
        import torch

        if not images:
            return np.zeros((0, self.dim), dtype=np.float32)
        features = self.features(torch.from_numpy(self.pixels.batch(images)).to(self.device))
        # A copy: a view would keep all tokens of the batch in memory, 4.8 MB for 32 tiles.
        return features.float().cpu().numpy().copy()

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
