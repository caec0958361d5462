"""The layers of LongNet (Ding et al. 2023, arXiv 2307.02486) as Prov-GigaPath's slide encoder has them.

Letters: B slides, L tokens, H heads, D channels of a token (of a head, inside attention), S segments of a
piece, h heads of a piece, m tokens kept of a segment, M keys of a segment, N = B·S segments of all slides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from core_model.config import SlideEncoderConfig
from core_model.encoders import fused

SCORES_AT_ONCE = {"cpu": 1 << 20, "cuda": 1 << 28}
"""Attention scores computed at a time where there is no fused kernel: in the cache of a CPU, or 1 GB."""


@dataclass(frozen=True)
class _Piece:
    """Segments of one length in one branch, and the heads that keep the same tokens of them."""

    start: int
    stop: int
    segments: int
    offset: int
    ratio: int
    heads: range
    kept: int
    """Tokens kept of a segment (m)."""
    absent: int
    """Keys per segment that are padding: of a segment cut short, or of a last dilation step."""

    def pick(self, x: Tensor) -> Tensor:
        """The view (B, S, m, h, …) of (B, L, H, …)."""
        part = x[:, self.start : self.stop, self.heads.start : self.heads.stop].unflatten(
            1, (self.segments, -1)
        )  # (B, S, ≤g, h, …)
        return part[:, :, self.offset :: self.ratio]


class _Combined(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, segments: tuple[int, ...], ratios: tuple[int, ...]
    ) -> Tensor:
        wide = torch.promote_types(q.dtype, torch.float32)
        total = torch.zeros(q.shape, dtype=wide, device=q.device)
        total_lse = torch.full(q.shape[:3], -math.inf, dtype=wide, device=q.device)  # log-sum-exp so far
        for piece in _pieces(q.shape[1], q.shape[2], segments, ratios):
            keys, values = piece.pick(k), piece.pick(v)
            rows = [piece.pick(x) for x in (q, total, total_lse)]
            for s, m in _blocks(keys):
                queries, into, before = (x[:, s, m] for x in rows)
                out, lse = attention(queries, keys[:, s], values[:, s], piece.absent)
                after = torch.logaddexp(before, lse)
                into.mul_((before - after).exp_().unsqueeze(-1))  # (B, S, m, h, D) by (B, S, m, h, 1)
                into.addcmul_(out.to(wide), (lse - after).exp_().unsqueeze(-1))
                before.copy_(after)
        ctx.save_for_backward(q, k, v, total_lse)
        ctx.branches = segments, ratios
        return total.to(q.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, pull: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, total_lse = ctx.saved_tensors
        grads = [torch.zeros(x.shape, dtype=total_lse.dtype, device=x.device) for x in (q, k, v)]
        with torch.autocast(q.device.type, enabled=False):
            for piece in _pieces(q.shape[1], q.shape[2], *ctx.branches):
                into = [piece.pick(x) for x in grads]
                rows = [piece.pick(x) for x in (q, k, v, total_lse, pull)]
                for s, m in _blocks(rows[1]):
                    block = rows[0][:, s, m], rows[1][:, s], rows[2][:, s]
                    block_grads = _pulled(block, rows[3][:, s, m], rows[4][:, s, m], piece.absent)
                    for x, add, at in zip(into, block_grads, (m, slice(None), slice(None)), strict=True):
                        x[:, s, at] += add
        return *(grad.to(q.dtype) for grad in grads), None, None


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
        attention_out = dilated_attention(q, k, v, self.config.segments, self.config.dilated_ratio)
        del q, k, v  # before the next large array is made
        (x,) = self._by_parts(self._after, x, attention_out.flatten(-2))  # heads joined: (B, L, D)
        return x

    def _before(self, x: Tensor) -> tuple[Tensor, ...]:
        return self.self_attn.split(self.self_attn_layer_norm(x))

    def _after(self, x: Tensor, attention_out: Tensor) -> tuple[Tensor, ...]:
        x = x + self._drop(self.self_attn.join(attention_out))
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
        return tuple(whole.unflatten(0, inputs[0].shape[:2]) for whole in wholes)  # (B·L, ·) → (B, L, ·)

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

    def join(self, heads_out: Tensor) -> Tensor:
        """The output of all heads (…, D) as a change to the tokens (…, D)."""
        return self.out_proj(self.inner_attn_ln(heads_out))


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


def dilated_attention(
    q: Tensor, k: Tensor, v: Tensor, segments: tuple[int, ...], ratios: tuple[int, ...]
) -> Tensor:
    """Combine all branches. `q`, `k`, `v`: (B, L, H, D). Returns (B, L, H, D) in the type of `q`.

    Branches are weighed in float32 at least, also under autocast: bf16 sums of scores are too coarse.
    """
    with torch.autocast(q.device.type, enabled=False):
        return _Combined.apply(q, k.to(q.dtype), v.to(q.dtype), tuple(segments), tuple(ratios))


def score_count(length: int, heads: int, segments: tuple[int, ...], ratios: tuple[int, ...]) -> int:
    """Pairs of a query and a key that all branches and heads compare in one slide of `length` tokens."""
    pieces = _pieces(length, heads, segments, ratios)
    return sum(piece.segments * len(piece.heads) * piece.kept**2 for piece in pieces)


def _pieces(length: int, heads: int, segments: tuple[int, ...], ratios: tuple[int, ...]) -> Iterator[_Piece]:
    for segment, ratio in zip(segments, ratios, strict=True):
        g = min(segment, length)
        keys, group = -(-g // ratio), -(-heads // ratio)  # the last group is short where r does not divide H
        whole = length // g * g
        for start, stop, count in ((0, whole, whole // g), (whole, length, 1)):
            for offset in range(-(-heads // group)):
                tokens = len(range(offset, (stop - start) // count, ratio))  # m
                head_range = range(offset * group, min((offset + 1) * group, heads))
                if tokens:
                    yield _Piece(start, stop, count, offset, ratio, head_range, tokens, keys - tokens)


def _pulled(
    block: tuple[Tensor, Tensor, Tensor], total_lse: Tensor, pull: Tensor, absent: int
) -> tuple[Tensor, ...]:
    """Gradients of queries, keys and values of one block, whose share of the average is a constant."""
    kernel = _kernel_for(block[1])
    if kernel is None:
        return _pulled_spelled(block, total_lse, pull, absent)
    q, k, v, pull = (_joined(x) for x in (*block, pull))  # (B·S, h, m, D)
    attended = fused.attend(kernel, q, k, v, absent)
    share = (attended.lse - _joined(total_lse)).exp_().unsqueeze(-1)  # (B·S, h, m, 1)
    grads = kernel.pull((pull * share).to(q.dtype), q, k, v, attended)
    return tuple(_apart(grad, len(total_lse)) for grad in grads)


def _pulled_spelled(
    block: tuple[Tensor, Tensor, Tensor], total_lse: Tensor, pull: Tensor, absent: int
) -> tuple[Tensor, ...]:
    q, k, v = (x.detach().requires_grad_() for x in block)
    with torch.enable_grad():
        out, lse = attention(q, k, v, absent)
    share = (lse - total_lse).exp_().unsqueeze(-1)  # (B, S, m, h, 1)
    return torch.autograd.grad(out, (q, k, v), (pull * share).to(out.dtype))


def _blocks(keys: Tensor) -> Iterator[tuple[slice, slice]]:
    """Segments and queries to compute at a time: all of a piece where the kernel is fused.

    As many queries as keys are kept of a segment, so the keys (B, S, m, h, D) tell both numbers.
    """
    B, S, M, h, _ = keys.shape
    s_step, m_step = S, M
    if _kernel_for(keys) is None:
        at_once = SCORES_AT_ONCE.get(keys.device.type, SCORES_AT_ONCE["cpu"])
        s_step = max(1, min(S, at_once // (B * h * M * M)))
        m_step = M if s_step > 1 else max(1, min(M, at_once // (B * h * M)))
    for s in range(0, S, s_step):
        for m in range(0, M, m_step):
            yield slice(s, s + s_step), slice(m, m + m_step)


def _kernel_for(keys: Tensor) -> fused.Kernel | None:
    """The fused kernel for keys (B, S, M, h, D), where there is one."""
    return fused.kernel_for(keys[:, 0].transpose(1, 2))  # of one segment, which is a view


def attention(q: Tensor, k: Tensor, v: Tensor, absent: int) -> tuple[Tensor, Tensor]:
    """softmax(q kᵀ / √D) v with `absent` further keys and values of zero; and the log-sum-exp of scores.

    `q`: (B, S, m, h, D); `k`, `v`: (B, S, M, h, D). Returns (B, S, m, h, D), and (B, S, m, h) in float32
    at least, which carries no gradient.
    """
    kernel, slides = _kernel_for(k), len(q)
    q, k, v = (_joined(x) for x in (q, k, v))  # (B·S, h, m, D)
    if kernel is None:
        out, lse = _attend(q, k, v, absent)
    else:
        out, lse, _ = fused.attend(kernel, q, k, v, absent)
    return _apart(out, slides), _apart(lse, slides)


def _joined(x: Tensor) -> Tensor:
    """(B, S, m, h, …) → (B·S, h, m, …), as kernels take it."""
    return x.flatten(0, 1).transpose(1, 2)


def _apart(x: Tensor, slides: int) -> Tensor:
    """(B·S, h, m, …) → (B, S, m, h, …)."""
    return x.transpose(1, 2).unflatten(0, (slides, -1))


def _attend(q: Tensor, k: Tensor, v: Tensor, absent: int) -> tuple[Tensor, Tensor]:
    """Attention as `fused.attend` computes it, in plain steps: for other devices, types and sizes.

    The score of an absent key is zero. (N, h, m, D) → (N, h, m, D), (N, h, m).
    """
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)  # (N, h, m, M)
    scores = scores.to(torch.promote_types(q.dtype, torch.float32))
    highest = scores.detach().amax(dim=-1, keepdim=True)  # (N, h, m, 1)
    if absent:
        highest = highest.clamp_min(0.0)
    shares = scores.sub_(highest).exp_()  # in place: this is the largest array of the network
    total = shares.sum(dim=-1, keepdim=True) + absent * (-highest).exp()  # (N, h, m, 1)
    # (N, h, m, D), (N, h, m)
    return (shares.to(v.dtype) @ v) / total.to(v.dtype), (highest + total.detach().log()).squeeze(-1)
