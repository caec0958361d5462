"""The slide encoder: LongNetViT over the tiles of a slide (Prov-GigaPath, Xu et al. 2024, Nature).

Letters: B slides, N tiles, C channels of a tile feature, D channels of a slide token, n pooled tokens.

Parameter names are those of the published network, so its weights load strictly. The same code is the
embedded mini encoder and, with `SlideEncoderConfig.gigapath()`, the full one.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core_model.config import SlideEncoderConfig
from core_model.dilated_attention import dilated_attention
from core_model.errors import SlideError

__all__ = ["LongNetViT", "SlideEncoderConfig", "encoder_coords", "pool_tokens", "position_rows"]


def encoder_coords(coords0: np.ndarray, slide_mpp: float, encoder_mpp: float) -> np.ndarray:
    """Level-0 pixels (N, 2) of a slide at `slide_mpp` → px at `encoder_mpp` (N, 2) float32.

    The one place of this conversion: level-0 pixels of a 40× slide fed to a 20× encoder would look like
    a slide of twice the size, without any error.
    """
    return (np.asarray(coords0, dtype=np.float64) * (slide_mpp / encoder_mpp)).astype(np.float32)


def position_rows(coords: Tensor, config: SlideEncoderConfig) -> Tensor:
    """Sine–cosine position codes (B, N, D) of tiles at `coords` (B, N, 2) x, y in px at encoder mpp.

    Only the rows asked for are computed: the table over the whole grid would take 3 GB at full size. The
    first half of the channels encodes the row (y), the second the column (x), as in the published table.
    """
    cells = torch.floor(coords.double() / config.tile_size)  # (B, N, 2) column, row
    if cells.numel() and (cells.min() < 0 or cells.max() >= config.slide_ngrids):
        reach = config.slide_ngrids * config.tile_size * config.encoder_mpp / 1000
        raise SlideError(
            f"tiles lie outside the {reach:.0f} mm that the slide encoder's position grid covers",
            fix="check the slide's mpp",
        )
    half = config.embed_dim // 2
    steps = torch.arange(half // 2, dtype=torch.float64, device=coords.device) / (half / 2)
    angles = cells.flip(-1).unsqueeze(-1) * 10000.0**-steps  # (B, N, 2, D/4) row first
    return torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(-2).float()  # (B, N, D)


def pool_tokens(tokens: Tensor, n: int) -> Tensor:
    """Adaptive average over the sequence: (B, N, D) without CLS → (B, n, D)."""
    return F.adaptive_avg_pool1d(tokens.transpose(1, 2), n).transpose(1, 2)


class LongNetViT(nn.Module):
    """Tiles and their places → one token per tile, after a class token."""

    def __init__(self, config: SlideEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = nn.ModuleDict({"proj": nn.Linear(config.in_chans, config.embed_dim)})
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.embed_dim))
        self.encoder = _Encoder(config)
        self.norm = nn.LayerNorm(config.embed_dim, eps=1e-6)
        nn.init.normal_(self.cls_token, std=0.02)

    def forward(self, tiles: Tensor, coords: Tensor) -> Tensor:
        """`tiles` (B, N, C), `coords` (B, N, 2) x, y in px at encoder mpp → tokens (B, N+1, D).

        These are the encoder's output: the final `norm` belongs to what is read off them (`slide_tokens`,
        `global_pool`, `all_layers`), after any averaging.
        """
        return self.encoder.layer_norm(self._states(tiles, coords)[-1])

    def slide_tokens(self, tiles: Tensor, coords: Tensor, n: int, channels: int | None = None) -> Tensor:
        """Pooled tokens (B, n, channels or D) for the language model: average, then norm, then zero-pad.

        The norm follows the pooling because the padded channels must stay zero and the published features
        were made in this order (WSI-LLaVA's change to the pooled branch of LongNetViT).
        """
        pooled = self.norm(pool_tokens(self(tiles, coords)[:, 1:], n))  # (B, n, D)
        return F.pad(pooled, (0, (channels or pooled.shape[-1]) - pooled.shape[-1]))

    def global_pool(self, tiles: Tensor, coords: Tensor) -> Tensor:
        """The norm of the mean tile token (B, D)."""
        return self.norm(self(tiles, coords)[:, 1:].mean(dim=1))

    def all_layers(self, tiles: Tensor, coords: Tensor) -> list[Tensor]:
        """Normed tokens (B, N+1, D) of the embedding and after every layer: depth + 1 of them.

        As published, these skip the encoder's own last LayerNorm, so the last is not `forward`.
        """
        return [self.norm(state) for state in self._states(tiles, coords, keep=True)]

    def _states(self, tiles: Tensor, coords: Tensor, keep: bool = False) -> list[Tensor]:
        x = self.patch_embed["proj"](tiles)  # (B, N, D)
        x = x + position_rows(coords, self.config).to(x.dtype)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1)  # (B, N+1, D), CLS has no place
        x = F.dropout(x, self.config.dropout, self.training)
        states = [x]
        for layer in self.encoder.layers:
            x = layer(x)
            states = [*states, x] if keep else [x]
        return states


class _Encoder(nn.Module):
    def __init__(self, config: SlideEncoderConfig) -> None:
        super().__init__()
        rates = np.linspace(0.0, config.drop_path, config.depth)
        self.layers = nn.ModuleList(_Layer(config, float(rate)) for rate in rates)
        self.layer_norm = nn.LayerNorm(config.embed_dim)


class _Layer(nn.Module):
    """Pre-norm transformer layer with a further LayerNorm before each output projection."""

    def __init__(self, config: SlideEncoderConfig, drop_path: float) -> None:
        super().__init__()
        self.dropout, self.drop_path = config.dropout, drop_path
        self.self_attn = _DilatedSelfAttention(config)
        self.self_attn_layer_norm = nn.LayerNorm(config.embed_dim)
        self.ffn = _FeedForward(config)
        self.final_layer_norm = nn.LayerNorm(config.embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self._drop(self.self_attn(self.self_attn_layer_norm(x)))
        return x + self._drop(self.ffn(self.final_layer_norm(x)))

    def _drop(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        x = F.dropout(x, self.dropout)
        keep = 1.0 - self.drop_path
        return x * (torch.rand(len(x), 1, 1, device=x.device) < keep) / keep


class _DilatedSelfAttention(nn.Module):
    def __init__(self, config: SlideEncoderConfig) -> None:
        super().__init__()
        D = config.embed_dim
        self.config = config
        self.q_proj, self.k_proj, self.v_proj = nn.Linear(D, D), nn.Linear(D, D), nn.Linear(D, D)
        self.out_proj, self.inner_attn_ln = nn.Linear(D, D), nn.LayerNorm(D)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            proj(x).unflatten(-1, (self.config.heads, -1))  # (B, L, H, D/H)
            for proj in (self.q_proj, self.k_proj, self.v_proj)
        )
        out = dilated_attention(q, k, v, self.config.segments, self.config.dilated_ratio)
        return self.out_proj(self.inner_attn_ln(out.flatten(-2)))


class _FeedForward(nn.Module):
    def __init__(self, config: SlideEncoderConfig) -> None:
        super().__init__()
        self.fc1, self.fc2 = (
            nn.Linear(config.embed_dim, config.ffn_dim),
            nn.Linear(config.ffn_dim, config.embed_dim),
        )
        self.ffn_layernorm = nn.LayerNorm(config.ffn_dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.ffn_layernorm(F.gelu(self.fc1(x))))
