"""Tile encoders by name or folder: the pixels of a tile become one vector.

`mini` is embedded; a checkpoint folder or the folder of any transformers ViT works by its path.

On CPUs with bf16 instructions the network runs in bf16 (three times as fast on the machine it was made
on) and hands out float32. Vectors of the same image from batches of different size may then differ in the
last bits of bf16; within one batch size they are the same, whatever else the batch holds.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from core_model.errors import CheckpointError, GiantError

if TYPE_CHECKING:
    import torch
    from PIL import Image

MINI = Path(__file__).parent / "mini"


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
        tile_px: int,
        mpp: float,
        mean: tuple[float, ...] = (0.5, 0.5, 0.5),
        std: tuple[float, ...] = (0.5, 0.5, 0.5),
        device: str | None = None,
        bf16: bool | None = None,
    ) -> None:
        """`bf16` None: where the device computes it in hardware."""
        from core_model.checkpoint import fingerprint

        self.device = device or default_device()
        self.network = network.eval().to(self.device)
        self.name, self.tile_px, self.mpp = name, tile_px, mpp
        self.dim = int(network.config.hidden_size)
        self.fingerprint = fingerprint(network)
        self.bf16 = has_bf16(self.device) if bf16 is None else bf16
        self._mean = np.asarray(mean, dtype=np.float32)
        self._std = np.asarray(std, dtype=np.float32)

    @property
    def tile_um(self) -> float:
        """Side of a tile in µm."""
        return self.tile_px * self.mpp

    def encode(self, images: list[Image.Image]) -> np.ndarray:
        """N images → (N, dim) float32; none gives (0, dim)."""
        import torch

        if not images:
            return np.zeros((0, self.dim), dtype=np.float32)
        with (
            torch.inference_mode(),
            torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=self.bf16),
        ):
            out = self.network(pixel_values=self.pixels(images)).last_hidden_state[:, 0]  # (N, dim)
        # A copy: a view would keep all tokens of the batch in memory, 4.8 MB for 32 tiles.
        return out.float().cpu().numpy().copy()

    def pixels(self, images: list[Image.Image]) -> torch.Tensor:
        """Images → normalised (N, 3, px, px) float32 on the encoder's device."""
        import torch
        from PIL import Image

        side = (self.tile_px, self.tile_px)
        rows = []
        for image in images:
            rgb = image.convert("RGB")
            rows.append(np.asarray(rgb if rgb.size == side else rgb.resize(side, Image.Resampling.BICUBIC)))
        scaled = (np.stack(rows).astype(np.float32) / 255 - self._mean) / self._std  # (N, px, px, 3)
        return torch.from_numpy(np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))).to(self.device)


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
    name_or_path: str | Path = "mini", *, device: str | None = None, mpp: float = 0.5
) -> TileEncoder:
    """A tile encoder by name or folder.

    `mpp` says at which µm per px the ViT of a transformers folder was trained; a checkpoint folder knows
    its own. Raises `CheckpointError` for a folder that is not whole, `GiantError` for a name not offered.
    """
    if str(name_or_path) == "gigapath":
        raise GiantError(
            "the tile encoder 'gigapath' is not available in this version",
            fix="use 'mini', or the folder of a transformers ViT",
        )
    folder = MINI if str(name_or_path) == "mini" else Path(name_or_path)
    if not folder.is_dir():
        raise CheckpointError(
            f"there is no tile encoder '{name_or_path}'",
            fix="give 'mini', a checkpoint folder, or the folder of a transformers ViT",
        )
    if (folder / "manifest.json").is_file():
        return _from_checkpoint(folder, device)
    return _from_transformers(folder, device, mpp)


def _from_checkpoint(folder: Path, device: str | None) -> ViTTileEncoder:
    from core_model.checkpoint import load_checkpoint

    parts, config = load_checkpoint(folder, need=("tile_encoder",), only=("tile_encoder",))
    return bind(parts.tile_encoder, config.name, config.tile_encoder, device)


def bind(network: Any, name: str, config: Any, device: str | None = None) -> ViTTileEncoder:
    """A network with its `TileEncoderConfig` as an encoder."""
    return ViTTileEncoder(
        network,
        name=name,
        tile_px=config.tile_px,
        mpp=config.mpp,
        mean=config.mean,
        std=config.std,
        device=device,
    )


def _from_transformers(folder: Path, device: str | None, mpp: float) -> ViTTileEncoder:
    import json

    from transformers import AutoModel

    try:
        network, report = AutoModel.from_pretrained(folder, local_files_only=True, output_loading_info=True)
        side = network.config.image_size
    except (OSError, ValueError, RuntimeError, AttributeError) as error:
        raise CheckpointError(f"is no vision transformer of transformers ({error})", where=folder) from error
    wrong = [key for key in report["missing_keys"] if "pooler" not in key]
    if wrong or report["mismatched_keys"]:
        raise CheckpointError(f"weights are missing or misshapen: {wrong[:3]}", where=folder)
    described = folder / "preprocessor_config.json"
    options = json.loads(described.read_text(encoding="utf-8")) if described.is_file() else {}
    return ViTTileEncoder(
        network.float(),
        name=folder.resolve().name,
        tile_px=side if isinstance(side, int) else side[0],
        mpp=mpp,
        mean=tuple(options.get("image_mean", (0.5, 0.5, 0.5))),
        std=tuple(options.get("image_std", (0.5, 0.5, 0.5))),
        device=device,
    )
