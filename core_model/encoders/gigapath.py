"""Prov-GigaPath's tile encoder (Xu et al. 2024, Nature): timm's ViT-g weights in transformers' Dinov2.

Its weights come as a timm state dict, and timm cannot be imported without torchvision. The network is the
same: SwiGLU, layer scale, no mask token. Only the names differ, and timm keeps q, k and v in one matrix
and SwiGLU's gate and value in another.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core_model.config import TileEncoderConfig
from core_model.encoders.vit import build_dinov2
from core_model.errors import CheckpointError, GiantError
from core_model.weights import read_state

if TYPE_CHECKING:
    from torch import Tensor

    from core_model.encoders.vit import ViTTileEncoder

REPOSITORY, FILE = "prov-gigapath/prov-gigapath", "pytorch_model.bin"
VARIABLE = "GIANT_GIGAPATH"
"""Environment variable with the path of the weights, for machines without a way to the hub."""
FILES = (FILE, "model.safetensors")
"""Names under which a folder may hold the weights."""
SUFFIXES = (".bin", ".pt", ".pth", ".safetensors")
HEAD_DIM = 64
"""Channels of an attention head; the one dimension that no tensor tells."""

_OUTSIDE = {
    "cls_token": "embeddings.cls_token",
    "pos_embed": "embeddings.position_embeddings",
    "patch_embed.proj": "embeddings.patch_embeddings.projection",
    "norm": "layernorm",
}
_IN_BLOCK: dict[str, tuple[str, ...]] = {
    "norm1": ("norm1",),
    "attn.qkv": ("attention.q_proj", "attention.k_proj", "attention.v_proj"),
    "attn.proj": ("attention.o_proj",),
    "ls1.gamma": ("layer_scale1.lambda1",),
    "norm2": ("norm2",),
    "mlp.fc1": ("mlp.gate_proj", "mlp.up_proj"),
    "mlp.fc2": ("mlp.down_proj",),
    "ls2.gamma": ("layer_scale2.lambda1",),
}


def from_timm(state: Mapping[str, Tensor], config: TileEncoderConfig | None = None) -> dict[str, Tensor]:
    """timm's tensors under Dinov2's names, float32; those that were split are views.

    Raises `CheckpointError` that names a missing, unexpected or misshapen key. Without `config` its
    dimensions are the tensors' own.
    """
    import torch

    config = config or tile_config_of(state)
    with torch.device("meta"):
        own_state = build_dinov2(config).state_dict()
    names = _key_map(config.depth)
    for problem, keys in (("lack", set(names) - set(state)), ("have unexpected", set(state) - set(names))):
        if keys:
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            raise CheckpointError(f"the weights {problem} {', '.join(sorted(keys)[:3])}{more}")
    ours: dict[str, Tensor] = {}
    for timm_name, our_names in names.items():
        rows, *rest = own_state[our_names[0]].shape
        shape = (rows * len(our_names), *rest)
        if tuple(state[timm_name].shape) != shape:
            raise CheckpointError(f"{timm_name} has shape {tuple(state[timm_name].shape)}, expected {shape}")
        ours |= {
            name: part.float() for name, part in zip(our_names, state[timm_name].split(rows), strict=True)
        }
    return ours


def tile_config_of(state: Mapping[str, Tensor], heads: int | None = None) -> TileEncoderConfig:
    """The configuration of timm weights, with Prov-GigaPath's preprocessing, read from their shapes.

    `heads` where they are not of 64 channels. Raises `CheckpointError` that names what is missing.
    """
    keys = ("cls_token", "pos_embed", "patch_embed.proj.weight", "blocks.0.mlp.fc2.weight")
    if missing := [name for name in keys if name not in state]:
        raise CheckpointError(f"the weights lack {', '.join(missing)}: they are no ViT of timm with SwiGLU")
    depth = 1 + max(int(match[1]) for name in state if (match := re.match(r"blocks\.(\d+)\.", name)))
    try:
        patch = state["patch_embed.proj.weight"].shape[3]
        dim = state["cls_token"].shape[2]
        side = round((state["pos_embed"].shape[1] - 1) ** 0.5) * patch
        ffn_dim = state["blocks.0.mlp.fc2.weight"].shape[1]
    except IndexError as error:
        shapes = {name: tuple(state[name].shape) for name in keys}
        raise CheckpointError(f"the weights have shapes that no ViT has: {shapes}") from error
    return TileEncoderConfig.gigapath().model_copy(
        update={
            "embed_dim": dim,
            "depth": depth,
            "heads": heads or max(1, dim // HEAD_DIM),
            "ffn_dim": ffn_dim,
            "patch_px": patch,
            "tile_px": side * 8 // 7,  # 256 of 224
            "crop_px": side,
        }
    )


def load_gigapath(path: str | Path | None = None, device: str | None = None) -> ViTTileEncoder:
    """The tile encoder from a file, or a folder with one; None: as `GIANT_GIGAPATH` says, or the hub.

    Where bf16 is computed its matrices are kept in bf16: the weights are then in memory once, at half
    their size on disk. Raises `CheckpointError` for weights that do not fit, `GiantError` where there are
    none.
    """
    from core_model.encoders.vit import bind

    file = find_weights(path)
    try:
        network, config = network_of(read_state(file))
    except CheckpointError as error:
        raise CheckpointError(error.what, where=file, fix=error.fix) from error
    return bind(network, "gigapath", config, device, compact=True)


def network_of(state: Mapping[str, Tensor], heads: int | None = None) -> tuple[Any, TileEncoderConfig]:
    """A `Dinov2Model` that holds the tensors of a timm state dict themselves, and its configuration."""
    import torch

    config = tile_config_of(state, heads)
    ours = from_timm(state, config)
    with torch.device("meta"):  # no time for random numbers, no memory beside the tensors
        network = build_dinov2(config)
    network.load_state_dict(ours, assign=True)
    return network.eval().requires_grad_(False), config


def find_weights(path: str | Path | None = None) -> Path:
    """The file with the weights; see `load_gigapath`."""
    place_name = path or os.environ.get(VARIABLE)
    if not place_name:
        from core_model.encoders.hub import fetch

        return fetch(REPOSITORY, FILE, place=f"give the path of a copy of {FILE} in {VARIABLE}")
    place = Path(place_name)
    if place.is_file():
        return place
    for name in FILES:
        if (place / name).is_file():
            return place / name
    fix = f"give {FILE} of {REPOSITORY}, or the folder that holds it"
    if path is None:
        fix += f", in {VARIABLE}"
    raise GiantError(
        f"the folder holds no {' or '.join(FILES)}" if place.is_dir() else "there is no such file or folder",
        where=place,
        fix=fix,
    )


def _key_map(depth: int) -> dict[str, tuple[str, ...]]:
    """Each of timm's keys with the Dinov2 keys that its rows become, in order."""
    stems: dict[str, tuple[str, ...]] = {timm_stem: (our_stems,) for timm_stem, our_stems in _OUTSIDE.items()}
    for i in range(depth):
        for timm_stem, our_stems in _IN_BLOCK.items():
            stems[f"blocks.{i}.{timm_stem}"] = tuple(f"encoder.layer.{i}.{name}" for name in our_stems)
    alone = ("cls_token", "pos_embed", "gamma")
    names = {}
    for timm_stem, our_stems in stems.items():
        for end in ("",) if timm_stem.endswith(alone) else (".weight", ".bias"):
            names[timm_stem + end] = tuple(name + end for name in our_stems)
    return names
