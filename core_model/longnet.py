"""The layers of LongNet (Ding et al. 2023, arXiv 2307.02486) as Prov-GigaPath's slide encoder has them.

Letters: B slides, L tokens, H heads, D channels of a token.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core_model.config import SlideEncoderConfig
from core_model.dilated_attention import dilated_attention

TOKENS_AT_ONCE = 4096
"""Tokens that pass the feed-forward at a time where nothing is learnt: its hidden layer is the widest."""


class LongNet(nn.Module):
    """The layers, and the LayerNorm that follows the last."""

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
        del q, k, v  # before the next large arrays are made
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
        if torch.is_grad_enabled():
            return self._wide(x)
        parts = x.flatten(0, 1).split(TOKENS_AT_ONCE)
        return torch.cat([self._wide(part) for part in parts]).unflatten(0, x.shape[:2])

    def _wide(self, x: Tensor) -> Tensor:
        return self.fc2(self.ffn_layernorm(F.gelu(self.fc1(x))))
