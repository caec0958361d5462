"""Dilated attention of LongNet (Ding et al. 2023, arXiv 2307.02486) in plain PyTorch, exact.

Letters: B batch, L tokens, H heads, D channels per head; for one branch: g segment length, r dilation,
S segments, M = ceil(g / r) tokens that a head keeps of a segment.

Each branch cuts the sequence into segments of g tokens; within a segment, head h keeps every r-th token
from offset floor(h / ceil(H / r)). Branches are averaged per token and head, weighted by the softmax of
their log-sum-exp. Two properties of the published network are kept, since its weights were trained with
them: tokens that pad a segment are attended to (key and value zero), and no gradient flows through the
weights of the branches.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

SCORES_AT_ONCE = 1 << 24
"""Attention scores held in memory at a time (64 MB in float32)."""

ABSENT = -1e8
"""Log-sum-exp of a token that a branch skips: its weight underflows to zero."""


def dilated_attention(
    q: Tensor, k: Tensor, v: Tensor, segments: tuple[int, ...], ratios: tuple[int, ...]
) -> Tensor:
    """Combine all branches. `q`, `k`, `v`: (B, L, H, D). Returns (B, L, H, D).

    Computed in the type of `q`, also under autocast: bf16 scores are too coarse to weigh branches by.
    """
    with torch.autocast(q.device.type, enabled=False):
        return _combined(q, k.to(q.dtype), v.to(q.dtype), segments, ratios)


def _combined(q: Tensor, k: Tensor, v: Tensor, segments: tuple[int, ...], ratios: tuple[int, ...]) -> Tensor:
    total, norm, highest = torch.zeros_like(q), q.new_zeros(q.shape[:3]), q.new_full(q.shape[:3], ABSENT)
    for segment, ratio in zip(segments, ratios, strict=True):
        out, lse = _branch(q, k, v, min(segment, q.shape[1]), ratio)  # (B, L, H, D), (B, L, H)
        with torch.no_grad():  # a running softmax over branches, so that only two outputs live at a time
            new_highest = torch.maximum(highest, lse)
            keep, weight = (highest - new_highest).exp(), (lse - new_highest).exp()
            norm, highest = norm * keep + weight, new_highest
        total = total * keep.unsqueeze(-1) + out * weight.unsqueeze(-1)
    return total / norm.unsqueeze(-1)


def _branch(q: Tensor, k: Tensor, v: Tensor, segment: int, ratio: int) -> tuple[Tensor, Tensor]:
    """One branch: (B, L, H, D) → output (B, L, H, D), zero where skipped, and its log-sum-exp (B, L, H)."""
    B, L, H, D = q.shape
    sq, sk, sv = (_split(x, segment, ratio) for x in (q, k, v))  # (B·S, M, r, H, D)
    rows = [[], []]  # type: list[list[Tensor]]
    group = -(-H // ratio)  # heads that share an offset; the last groups are short when r does not divide H
    for first in range(0, H, group):
        heads, offset = slice(first, min(first + group, H)), first // group
        picked = [x[:, :, offset, heads].transpose(1, 2) for x in (sq, sk, sv)]  # (B·S, h, M, D)
        out, lse = exact_attention(*picked)  # (B·S, h, M, D), (B·S, h, M)
        behind = ratio - 1 - offset
        out = F.pad(out.unsqueeze(3), (0, 0, offset, behind))  # (B·S, h, M, r, D)
        lse = F.pad(lse.unsqueeze(3), (offset, behind), value=ABSENT)  # (B·S, h, M, r)
        rows[0].append(out.flatten(2, 3)[:, :, :segment].transpose(1, 2))  # (B·S, g, h, D)
        rows[1].append(lse.flatten(2, 3)[:, :, :segment].transpose(1, 2))  # (B·S, g, h)
    out, lse = torch.cat(rows[0], dim=2), torch.cat(rows[1], dim=2)
    return out.reshape(B, -1, H, D)[:, :L], lse.reshape(B, -1, H)[:, :L]


def _split(x: Tensor, segment: int, ratio: int) -> Tensor:
    """(B, L, H, D) → (B·S, M, r, H, D), padded with zeros to whole segments and whole dilation steps."""
    _, L, H, D = x.shape
    x = F.pad(x, (0, 0, 0, 0, 0, -L % segment)).reshape(-1, segment, H, D)  # (B·S, g, H, D)
    return F.pad(x, (0, 0, 0, 0, 0, -segment % ratio)).unflatten(1, (-1, ratio))


def exact_attention(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """softmax(q kᵀ / √D) v and the log-sum-exp of the scores, a bounded block of scores at a time.

    `q`, `k`, `v`: (N, h, M, D). Returns (N, h, M, D) and (N, h, M); the latter carries no gradient. Under
    autograd a block is computed again in the backward pass instead of being kept, unless it is the only one.
    """
    N, h, M, _ = q.shape
    learning = torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v))
    at_once = SCORES_AT_ONCE if learning else SCORES_AT_ONCE // 16  # small blocks stay in the cache
    n_step = max(1, min(N, at_once // (h * M * M)))
    m_step = M if n_step > 1 else max(1, min(M, at_once // (h * M)))
    if n_step >= N and m_step >= M:
        return _attend(q, k, v)
    outs, lses = [], []
    for n in range(0, N, n_step):
        rows = []
        for m in range(0, M, m_step):
            part = (q[n : n + n_step, :, m : m + m_step], k[n : n + n_step], v[n : n + n_step])
            rows.append(checkpoint(_attend, *part, use_reentrant=False) if learning else _attend(*part))
        outs.append(torch.cat([out for out, _ in rows], dim=2))
        lses.append(torch.cat([lse for _, lse in rows], dim=2))
    return torch.cat(outs), torch.cat(lses)


def _attend(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)  # (N, h, m, M)
    highest = scores.detach().amax(dim=-1, keepdim=True)  # (N, h, m, 1)
    shares = scores.sub_(highest).exp_()  # in place: this is the largest array of the network
    total = shares.sum(dim=-1, keepdim=True)  # (N, h, m, 1)
    return (shares @ v) / total, (highest + total.detach().log()).squeeze(-1)
