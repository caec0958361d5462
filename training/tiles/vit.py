"""The vision transformer as it is trained: crops of a tile, and layers that are skipped by chance.

At full size and outside training these are the tokens of transformers' ViTModel itself.
Letters: B tiles, n patches of a side, D channels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor


def vit_tokens(encoder: Any, pixels: Tensor, drop_path: float, generator: Generator) -> Tensor:
    """(B, 3, side, side) → CLS and patch tokens after the last LayerNorm, (B, 1 + n·n, D).

    A crop takes a random window of the position embeddings, so that neighbours keep their distance. In
    training, layer l of L is skipped for a tile with chance `drop_path` · l / (L - 1), and its change
    weighs more where it is not (stochastic depth, Huang et al. 2016).
    """
    embeddings = encoder.embeddings
    patches = embeddings.patch_embeddings(pixels)  # (B, n·n, D)
    cls_place, places = position_window(
        embeddings.position_embeddings, round(patches.shape[1] ** 0.5), generator
    )
    cls = (embeddings.cls_token + cls_place).expand(len(patches), -1, -1)  # (B, 1, D)
    states = torch.cat([cls.to(patches.dtype), patches + places], dim=1)  # (B, 1 + n·n, D)
    last = max(1, len(encoder.layers) - 1)
    for depth, layer in enumerate(encoder.layers):
        skip = drop_path * depth / last if encoder.training else 0.0
        states_after = layer(states)
        if skip:
            stays = torch.rand(len(states), 1, 1, generator=generator).to(states.device) >= skip
            states_after = states + (states_after - states) * stays.to(states.dtype) / (1 - skip)
        states = states_after
    out: Tensor = encoder.layernorm(states)
    return out


def position_window(positions: Tensor, side: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """(1, 1 + N·N, D) → the CLS token's embedding (1, 1, D), and those of a random side x side window."""
    dim = positions.shape[-1]
    full = round((positions.shape[1] - 1) ** 0.5)
    grid = positions[:, 1:].view(full, full, dim)  # (N, N, D)
    row, column = torch.randint(0, full - side + 1, (2,), generator=generator).tolist()
    return positions[:, :1], grid[row : row + side, column : column + side].reshape(1, side * side, dim)


@torch.no_grad()
def place_positions(encoder: Any, scale: float = 0.1) -> None:
    """Start the position embeddings as sines of row and column, from which they are learnt on."""
    positions = encoder.embeddings.position_embeddings
    dim, full = positions.shape[-1], round((positions.shape[1] - 1) ** 0.5)
    rates = 10000.0 ** -(torch.arange(dim // 4) / max(1, dim // 4))  # (D/4,)
    angles = torch.arange(full)[:, None] * rates  # (N, D/4)
    line = torch.cat([angles.sin(), angles.cos()], dim=1)  # (N, D/2)
    rows, columns = line[:, None].expand(full, full, -1), line[None].expand(full, full, -1)
    positions[0, 1:] = scale * torch.cat([rows, columns], dim=2).flatten(0, 1)
