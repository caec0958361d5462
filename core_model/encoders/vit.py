"""Tile encoders by name or folder: the pixels of a tile become one vector.

`mini` is embedded, `gigapath` is Prov-GigaPath's; a checkpoint folder, the folder of a transformers vision
transformer or dual encoder, or its id on the Hugging Face hub work as well.

On CPUs with bf16 instructions the network runs in bf16 (three times as fast on the machine it was made
on) and hands out float32. Vectors of the same image from batches of different size may then differ in the
last bits of bf16; within one batch size they are the same, whatever else the batch holds.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from core_model.encoders.tile_pixels import TilePixels
from core_model.errors import CheckpointError, UsageError

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from core_model.config import TileEncoderConfig

MINI = Path(__file__).parents[1] / "mini"
DEFAULT_MPP = 0.5
"""µm per px at which encoders that do not say it were most likely trained."""
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_OFFERED = (
    "give 'mini', 'gigapath', a checkpoint folder, the weights of Prov-GigaPath,"
    " or the folder or hub id of a transformers ViT"
)


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
        from core_model.checkpoints.folder import fingerprint

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


def default_device() -> str:
    """The GPU where there is one, else the CPU."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def has_bf16(device: str) -> bool:
    """Whether bf16 is computed in hardware: elsewhere it is emulated and slower than float32."""
    import torch

    if torch.device(device).type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    able = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def load_tile_encoder(
    name_or_path: str | Path = "mini", *, device: str | None = None, mpp: float | None = None
) -> TileEncoder:
    """A tile encoder by name, path, or id of a repository on the Hugging Face hub.

    "mini"; "gigapath" (from the hub, or where `GIANT_GIGAPATH` says); a file or folder with Prov-GigaPath's
    weights as timm writes them; a checkpoint folder; the folder or id of a transformers vision transformer
    or dual encoder. `mpp` says at which µm per px the last were trained (None: .5); the others know theirs.

    Raises `CheckpointError` for weights that are not whole, `GiantError` where there are none, `UsageError`
    for an `mpp` that is not the encoder's.
    """
    if mpp is not None and not mpp > 0:
        raise UsageError(f"{mpp} µm per px mean nothing", fix="give the encoder's, such as .5")
    encoder = _load(str(name_or_path), device, mpp or DEFAULT_MPP)
    if mpp is not None and encoder.mpp != mpp:
        raise UsageError(f"'{encoder.name}' reads tiles at {encoder.mpp} µm per px, not at {mpp}")
    return encoder


def _load(name: str, device: str | None, mpp: float) -> TileEncoder:
    from core_model.encoders.gigapath import REPOSITORY, load_gigapath

    path = Path(name)
    if name in ("gigapath", REPOSITORY):
        return load_gigapath(None, device)
    if name == "mini":
        return _from_checkpoint(MINI, device)
    if path.is_file():
        return load_gigapath(path, device)
    if path.is_dir():
        return _from_folder(path, path.resolve().name, device, mpp)
    if not _REPOSITORY.fullmatch(name):
        raise CheckpointError(f"there is no tile encoder '{name}'", fix=_OFFERED)
    from core_model.encoders.hub import fetch_folder

    return _from_folder(fetch_folder(name), name, device, mpp)


def _from_folder(folder: Path, name: str, device: str | None, mpp: float) -> TileEncoder:
    from core_model.encoders.gigapath import FILES, load_gigapath
    from core_model.encoders.pretrained import load_pretrained, model_type

    if (folder / "manifest.json").is_file():
        return _from_checkpoint(folder, device)
    if model_type(folder) is None and any((folder / file).is_file() for file in FILES):
        return load_gigapath(folder, device)
    return load_pretrained(folder, name, device, mpp)


def _from_checkpoint(folder: Path, device: str | None) -> ViTTileEncoder:
    from core_model.checkpoints.folder import load_checkpoint

    parts, config = load_checkpoint(folder, need=("tile_encoder",), only=("tile_encoder",))
    compact = config.tile_encoder.class_name == "Dinov2Model"
    return bind(parts.tile_encoder, config.name, config.tile_encoder, device, compact=compact)


def read_tile_network(given: str | Path) -> tuple[Any, TileEncoderConfig]:
    """Network and configuration to make part of a model: `mini`'s, a checkpoint folder's, or Prov-GigaPath's.

    `given` is a name, a folder, or a file of Prov-GigaPath's weights. Raises `GiantError`.
    """
    from core_model.checkpoints.folder import MANIFEST, load_checkpoint
    from core_model.encoders.gigapath import find_weights, network_of, read_state

    folder = MINI if str(given) == "mini" else Path(given)
    if (folder / MANIFEST).is_file():
        parts, config = load_checkpoint(folder, need=("tile_encoder",), only=("tile_encoder",))
        return parts.tile_encoder, config.tile_encoder
    found: tuple[Any, TileEncoderConfig] = network_of(
        read_state(find_weights(None if str(given) == "gigapath" else folder))
    )
    return found


def bind(
    network: Any, name: str, config: TileEncoderConfig, device: str | None = None, *, compact: bool = False
) -> ViTTileEncoder:
    """A network with its configuration as an encoder; `compact` as in `ViTTileEncoder`."""
    pixels = TilePixels.of(config)
    return ViTTileEncoder(network, name=name, pixels=pixels, mpp=config.mpp, device=device, compact=compact)
