"""The layers of LongNet (Ding et al. 2023, arXiv 2307.02486) as Prov-GigaPath's slide encoder has them.

Letters: B slides, L tokens, H heads, D channels of a token.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core_model.config import SlideEncoderConfig
from core_model.encoders.dilated_attention import dilated_attention

TOKENS_AT_ONCE = {"cpu": 1024, "cuda": 65536}
"""Tokens that a layer computes at a time beside attention, where nothing is learnt.

The hidden layer of that many takes 12 MB at full size, which stays in the cache of a CPU, or 800 MB.
"""


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
        self.config, self.drop_path = config, drop_path
        self.self_attn = _SelfAttention(config)
        self.self_attn_layer_norm = nn.LayerNorm(config.embed_dim)
        self.ffn = _FeedForward(config)
        self.final_layer_norm = nn.LayerNorm(config.embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self._by_parts(self._before, x)  # (B, L, H, D/H)
        mixed = dilated_attention(q, k, v, self.config.segments, self.config.dilated_ratio)
        del q, k, v  # before the next large array is made
        (x,) = self._by_parts(self._after, x, mixed.flatten(-2))
        return x

    def _before(self, x: Tensor) -> tuple[Tensor, ...]:
        return self.self_attn.split(self.self_attn_layer_norm(x))

    def _after(self, x: Tensor, mixed: Tensor) -> tuple[Tensor, ...]:
        x = x + self._drop(self.self_attn.join(mixed))
        return (x + self._drop(self.ffn(self.final_layer_norm(x))),)

    def _by_parts(self, work: Callable[..., tuple[Tensor, ...]], *inputs: Tensor) -> tuple[Tensor, ...]:
        """`work` on `inputs` (B, L, ·), where nothing is learnt on few tokens at a time.

        Then the hidden layer, four times as wide as the slide's tokens, is never there as a whole.
        """
        if self.training or torch.is_grad_enabled():
            return work(*inputs)
        rows, wholes = [x.flatten(0, 1) for x in inputs], list[Tensor]()  # (B·L, ·)
        at_once = TOKENS_AT_ONCE.get(rows[0].device.type, TOKENS_AT_ONCE["cpu"])
        for start in range(0, len(rows[0]), at_once):
            parts = work(*(x[start : start + at_once] for x in rows))
            wholes = wholes or [part.new_empty(len(rows[0]), *part.shape[1:]) for part in parts]
            for whole, part in zip(wholes, parts, strict=True):
                whole[start : start + at_once] = part
        return tuple(whole.unflatten(0, inputs[0].shape[:2]) for whole in wholes)

    def _drop(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        x = F.dropout(x, self.config.dropout)
        keep = 1.0 - self.drop_path
        return x * (torch.rand(len(x), 1, 1, device=x.device) < keep) / keep


class _SelfAttention(nn.Module):
    """The projections around dilated attention."""

    def __init__(self, config: SlideEncoderConfig) -> None:
        super().__init__()
        D = config.embed_dim
        self.heads = config.heads
        self.q_proj, self.k_proj, self.v_proj = nn.Linear(D, D), nn.Linear(D, D), nn.Linear(D, D)
        self.out_proj, self.inner_attn_ln = nn.Linear(D, D), nn.LayerNorm(D)

    def split(self, x: Tensor) -> tuple[Tensor, ...]:
        """Queries, keys and values (…, H, D/H) of tokens (…, D)."""
        return tuple(
            proj(x).unflatten(-1, (self.heads, -1)) for proj in (self.q_proj, self.k_proj, self.v_proj)
        )

    def join(self, mixed: Tensor) -> Tensor:
        """What the heads found (…, D) as a change to the tokens (…, D)."""
        return self.out_proj(self.inner_attn_ln(mixed))


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
