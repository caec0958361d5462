"""Stand-ins for PyTorch's fused attention on GPUs: arguments and results of its operators, on a CPU."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from core_model.encoders import fused

SEEDS = torch.tensor([3, 5]), torch.tensor(7)


def spelled(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    return scores.softmax(-1) @ v, scores.logsumexp(-1)


def pulled(pull: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor) -> tuple[Tensor, ...]:
    """As Dao et al. 2022 (FlashAttention, algorithm 4) write it."""
    scale = q.shape[-1] ** -0.5
    shares = (scale * q @ k.transpose(-1, -2) - lse.unsqueeze(-1)).exp()  # (N, h, m, M)
    through = shares * (pull @ v.transpose(-1, -2) - (pull * out).sum(-1, keepdim=True))
    return scale * through @ k, scale * through.transpose(-1, -2) @ q, shares.transpose(-1, -2) @ pull


def flash(q: Tensor, k: Tensor, v: Tensor) -> tuple[Any, ...]:
    out, lse = spelled(q, k, v)
    return out, lse, None, None, q.shape[2], k.shape[2], *SEEDS, torch.empty(0)


def flash_backward(
    pull: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, *rest: Any
) -> tuple[Tensor, ...]:
    assert rest == (None, None, q.shape[2], k.shape[2], 0.0, False, *SEEDS)
    return pulled(pull, q, k, v, out, lse)


def efficient(q: Tensor, k: Tensor, v: Tensor, bias: None, with_lse: bool) -> tuple[Any, ...]:
    assert bias is None
    assert with_lse
    out, lse = spelled(q, k, v)
    return out, F.pad(lse, (0, -q.shape[2] % 32), value=math.inf), *SEEDS


def efficient_backward(
    pull: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: None, out: Tensor, lse: Tensor, *rest: Any
) -> tuple[Tensor | None, ...]:
    assert bias is None
    assert rest == (*SEEDS, 0.0, [True, True, True, False])
    assert lse.shape[-1] == -(-q.shape[2] // 32) * 32
    assert lse[..., q.shape[2] :].eq(math.inf).all()
    return *pulled(pull, q, k, v, out, lse[..., : q.shape[2]]), None


STAND_INS = SimpleNamespace(
    _scaled_dot_product_flash_attention=flash,
    _scaled_dot_product_flash_attention_backward=flash_backward,
    _scaled_dot_product_efficient_attention=efficient,
    _scaled_dot_product_efficient_attention_backward=efficient_backward,
)


def take_only(kernel: fused.Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute all attention by this kernel, on whatever device."""
    monkeypatch.setattr(type(kernel), "takes", lambda *_: True)
    monkeypatch.setattr(fused, "KERNELS", (kernel,))
