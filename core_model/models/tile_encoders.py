"""Tile encoders by name, checkpoint folder or transformers folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core_model.encoders.vit import TileEncoder, ViTTileEncoder, bind
from core_model.errors import CheckpointError, UsageError

if TYPE_CHECKING:
    from core_model.config import TileEncoderConfig


MINI = Path(__file__).parents[1] / "mini"


DEFAULT_MPP = 0.5
"""µm per px at which encoders that do not say it were most likely trained."""


_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


_OFFERED = (
    "give 'mini', 'gigapath', a checkpoint folder, the weights of Prov-GigaPath,"
    " or the folder or hub id of a transformers ViT"
)


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


def read_tile_network(name_or_path: str | Path) -> tuple[Any, TileEncoderConfig]:
    """Network and configuration to make part of a model: `mini`'s, a checkpoint folder's, or Prov-GigaPath's.

    `given` is a name, a folder, or a file of Prov-GigaPath's weights. Raises `GiantError`.
    """
    from core_model.checkpoints.folder import MANIFEST, load_checkpoint
    from core_model.encoders.gigapath import find_weights, network_of
    from core_model.weights import read_state

    folder = MINI if str(name_or_path) == "mini" else Path(name_or_path)
    if (folder / MANIFEST).is_file():
        parts, config = load_checkpoint(folder, need=("tile_encoder",), only=("tile_encoder",))
        return parts.tile_encoder, config.tile_encoder
    network: tuple[Any, TileEncoderConfig] = network_of(
        read_state(find_weights(None if str(name_or_path) == "gigapath" else folder))
    )
    return network
