"""Attention that never writes its scores down and says their log-sum-exp: PyTorch's own fused kernels.

On a CPU its flash attention; on a GPU flash attention where the numbers have 16 bits, else the
memory-efficient kernel of xFormers, which computes float32 as three products of TensorFloat-32. All are
reached by the operators beneath `scaled_dot_product_attention`, which alone give the log-sum-exp away
(natural logarithm, float32 at least).

Padding is added in closed form. An absent key has score 0 and value 0, so that `n` of them change nothing but
the log-sum-exp, ℓ' = log(exp ℓ + n), and the average, out' = out · exp(ℓ - ℓ'). The backward kernels compute
shares as exp(score - ℓ') and the rest from out': they give the gradient of the padded attention without a key
that stands for padding. So no kernel needs a mask, or a copy of the keys.

Letters: N batch, h heads, m queries, M keys, D channels of a head.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

aten = torch.ops.aten


class Attended(NamedTuple):
    """What a kernel computed."""

    out: Tensor
    """(N, h, m, D) in the type of the queries."""
    lse: Tensor
    """(N, h, m) log-sum-exp of the scores, float32 at least."""
    rest: tuple[Any, ...]
    """What the backward kernel wants to be given again."""


class Kernel(ABC):
    """A fused attention. `q`: (N, h, m, D); `k`, `v`: (N, h, M, D); scores are q kᵀ / √D."""

    needs: ClassVar[tuple[str, ...]]
    """The operators of PyTorch that it calls."""

    def fits(self, x: Tensor) -> bool:
        """Whether it computes attention among queries and keys like `x` (N, h, M, D)."""
        return all(hasattr(aten, name) for name in self.needs) and self.takes(x)

    @abstractmethod
    def takes(self, x: Tensor) -> bool:
        """Whether it takes the device, type and size of `x`."""

    @abstractmethod
    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Attended:
        """Attention without padding."""

    @abstractmethod
    def pull(
        self, pull: Tensor, q: Tensor, k: Tensor, v: Tensor, attended: Attended
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of q, k, v for that of the output `pull` (N, h, m, D), which gives `lse` none."""


class CpuFlash(Kernel):
    """Flash attention on a CPU, of any floating type."""

    needs = (
        "_scaled_dot_product_flash_attention_for_cpu",
        "_scaled_dot_product_flash_attention_for_cpu_backward",
    )

    def takes(self, x: Tensor) -> bool:
        """On a CPU."""
        return x.device.type == "cpu"

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Attended:
        """See `Kernel`."""
        out, lse = aten._scaled_dot_product_flash_attention_for_cpu(q, k, v)
        return Attended(out, lse, ())

    def pull(
        self, pull: Tensor, q: Tensor, k: Tensor, v: Tensor, attended: Attended
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See `Kernel`."""
        backward = aten._scaled_dot_product_flash_attention_for_cpu_backward
        grads: tuple[Tensor, Tensor, Tensor] = backward(pull, q, k, v, attended.out, attended.lse, 0.0, False)
        return grads


class GpuFlash(Kernel):
    """Flash attention on a GPU: float16 and bfloat16."""

    needs = ("_scaled_dot_product_flash_attention", "_scaled_dot_product_flash_attention_backward")
    MOST_CHANNELS = 128
    """Heads that every GPU with this kernel also has the backward pass for."""

    def takes(self, x: Tensor) -> bool:
        """As PyTorch says of its kernel; channels in eights, which it does not pad itself."""
        fits = x.device.type == "cuda" and x.shape[-1] % 8 == 0 and x.shape[-1] <= self.MOST_CHANNELS
        return fits and torch.backends.cuda.can_use_flash_attention(_like(x))

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Attended:
        """See `Kernel`."""
        out, lse, *rest, _ = aten._scaled_dot_product_flash_attention(q, k, v)
        return Attended(out, lse, tuple(rest))

    def pull(
        self, pull: Tensor, q: Tensor, k: Tensor, v: Tensor, attended: Attended
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See `Kernel`."""
        q_ends, k_ends, q_longest, k_longest, *seeds = attended.rest
        ends = q_ends, k_ends, q_longest, k_longest
        backward = aten._scaled_dot_product_flash_attention_backward
        grads: tuple[Tensor, Tensor, Tensor] = backward(
            pull, q, k, v, attended.out, attended.lse, *ends, 0.0, False, *seeds
        )
        return grads


class GpuEfficient(Kernel):
    """The memory-efficient kernel on a GPU: float32, and 16 bits where there is no flash attention.

    Its log-sum-exp has places for a multiple of 32 queries.
    """

    needs = ("_scaled_dot_product_efficient_attention", "_scaled_dot_product_efficient_attention_backward")

    def takes(self, x: Tensor) -> bool:
        """As PyTorch says of its kernel; channels in whole 16 bytes."""
        fits = x.device.type == "cuda" and x.shape[-1] * x.element_size() % 16 == 0
        return fits and torch.backends.cuda.can_use_efficient_attention(_like(x))

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Attended:
        """See `Kernel`."""
        out, lse, *seeds = aten._scaled_dot_product_efficient_attention(q, k, v, None, True)
        return Attended(out, lse.narrow(-1, 0, q.shape[2]), (lse.shape[-1], *seeds))

    def pull(
        self, pull: Tensor, q: Tensor, k: Tensor, v: Tensor, attended: Attended
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See `Kernel`."""
        places, *seeds = attended.rest
        lse = F.pad(attended.lse, (0, places - q.shape[2]), value=math.inf)  # as the kernel fills it up
        backward = aten._scaled_dot_product_efficient_attention_backward
        grad_mask = [True, True, True, False]
        *grads, _ = backward(pull, q, k, v, None, attended.out, lse, *seeds, 0.0, grad_mask)
        return grads[0], grads[1], grads[2]


KERNELS: tuple[Kernel, ...] = (CpuFlash(), GpuFlash(), GpuEfficient())
"""In the order in which they are asked."""


def kernel_for(x: Tensor) -> Kernel | None:
    """The first kernel for queries and keys like `x` (N, h, M, D); None where there is none."""
    return next((kernel for kernel in KERNELS if kernel.fits(x)), None)


def attend(kernel: Kernel, q: Tensor, k: Tensor, v: Tensor, absent: int) -> Attended:
    """Attention with `absent` further keys and values of zero."""
    attended = kernel.attend(q, k, v)
    if not absent:
        return attended
    # log(exp ℓ + n) = ℓ + log(1 + n exp(-ℓ)); rounded once, since `more` is float32 at least
    more = F.softplus(math.log(absent) - attended.lse, threshold=40)
    out = (attended.out * (-more).exp_().unsqueeze(-1)).to(q.dtype)
    return attended._replace(out=out, lse=attended.lse + more)


def _like(x: Tensor) -> torch.backends.cuda.SDPAParams:
    """What PyTorch is asked about: no mask, no dropout, not causal, as many heads of keys as of queries."""
    return torch.backends.cuda.SDPAParams(x, x, x, None, 0.0, False, False)
