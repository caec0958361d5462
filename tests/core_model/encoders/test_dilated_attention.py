"""Dilated attention against a plain dense reference, whatever the lengths, heads and branches."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from gpu_kernels import STAND_INS, take_only
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from core_model.encoders import fused
from core_model.encoders import longnet as attention

GIGAPATH = (1024, 5792, 32768, 185363, 1048576), (1, 2, 4, 8, 16)

Branches = tuple[tuple[int, ...], tuple[int, ...]]


@st.composite
def branches(draw: st.DrawFn) -> Branches:
    many = draw(st.integers(1, 3))
    number = st.lists(st.integers(1, 45), min_size=many, max_size=many)
    ratio = st.lists(st.integers(1, 6), min_size=many, max_size=many)
    return tuple(draw(number)), tuple(draw(ratio))


CASES = given(
    length=st.integers(1, 40), heads=st.integers(1, 5), batch=st.integers(1, 2), branched=branches()
)


def inputs(
    length: int, heads: int, batch: int = 1, dim: int = 4, dtype: torch.dtype = torch.float64
) -> list[Tensor]:
    """q, k, v (B, L, H, D) that gradients are asked of."""
    make = torch.Generator().manual_seed(length)
    shape = (batch, length, heads, dim)
    return [torch.randn(shape, generator=make, dtype=dtype).requires_grad_() for _ in range(3)]


def dense(
    q: Tensor, k: Tensor, v: Tensor, segments: tuple[int, ...], ratios: tuple[int, ...]
) -> tuple[Tensor, int]:
    """All pairs of tokens scored and most of them masked; and how many were not."""
    outs, lses, pairs = [], [], 0
    _, L, H, D = q.shape
    scores = torch.einsum("bihd,bjhd->bhij", q, k) / D**0.5
    for segment, ratio in zip(segments, ratios, strict=True):
        g = min(segment, L)
        number, place = torch.arange(L) // g, torch.arange(L) % g
        offset = torch.arange(H) // -(-H // ratio)
        kept = place % ratio == offset[:, None]  # (H, L)
        seen = kept[:, :, None] & kept[:, None, :] & (number[:, None] == number)  # (H, L, L)
        absent = -(-g // ratio) - seen.sum(-1)  # (H, L): keys that would be padding, of score zero
        padding = absent.to(q.dtype).log().masked_fill(absent == 0, -torch.inf)
        lse = torch.cat(
            [scores.masked_fill(~seen, -torch.inf), padding[..., None].expand(len(q), H, L, 1)], -1
        )
        lse = lse.logsumexp(-1)  # (B, H, L)
        shares = (scores - lse[..., None]).exp().masked_fill(~seen, 0)
        outs.append((shares @ v.transpose(1, 2)).masked_fill(~kept[..., None], 0))  # (B, H, L, D)
        lses.append(lse.detach().masked_fill(~kept, -torch.inf))
        pairs += int(seen.sum())
    weights = torch.stack(lses).softmax(0).nan_to_num()  # nan: a token that every branch skips
    return (weights[..., None] * torch.stack(outs)).sum(0).transpose(1, 2), pairs


GPU_KERNELS = {"flash": fused.GpuFlash(), "memory-efficient": fused.GpuEfficient()}


@pytest.fixture(params=["fused", "spelled out", "in blocks", *GPU_KERNELS])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every way to compute a block: PyTorch's fused ones, ours, and ours with few scores at once."""
    if request.param in GPU_KERNELS:
        monkeypatch.setattr(fused, "aten", STAND_INS)
        take_only(GPU_KERNELS[request.param], monkeypatch)
    elif request.param != "fused":
        monkeypatch.setattr(fused, "KERNELS", ())
    elif fused.kernel_for(torch.zeros(1, 1, 1, 8)) is None:
        pytest.skip("this PyTorch has no fused attention for CPUs")
    if request.param == "in blocks":
        monkeypatch.setattr(attention, "SCORES_AT_ONCE", {"cpu": 30})
    return request.param


@pytest.mark.usefixtures("kernel")
def test_values_and_gradients_equal_a_dense_reference() -> None:
    """Also of tokens that no branch keeps, of heads that no ratio divides, of segments cut short."""

    @CASES
    @settings(deadline=None, max_examples=40, database=None)
    def check(length: int, heads: int, batch: int, branched: Branches) -> None:
        ours, theirs = inputs(length, heads, batch), inputs(length, heads, batch)
        out, (expected, _) = attention.dilated_attention(*ours, *branched), dense(*theirs, *branched)
        torch.testing.assert_close(out, expected)
        pull = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).reshape(out.shape)
        for x, y in zip(gradients(out, ours, pull), gradients(expected, theirs, pull), strict=True):
            torch.testing.assert_close(x, y)

    check()


def gradients(out: Tensor, of: list[Tensor], pull: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad((out * pull).sum(), of)


@CASES
@settings(deadline=None, max_examples=40)
def test_pairs_are_counted_as_they_are_compared(
    length: int, heads: int, batch: int, branched: Branches
) -> None:
    _, pairs = dense(*inputs(length, heads), *branched)
    assert attention.score_count(length, heads, *branched) == pairs


def test_the_published_branches_agree_between_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """In float32, where two segments of the first branch, and one of all others, meet 16 heads."""

    def both() -> list[Tensor]:
        ours = inputs(1500, 16, dim=8, dtype=torch.float32)
        out = attention.dilated_attention(*ours, *GIGAPATH)
        return [out, *gradients(out, ours, torch.ones_like(out).cumsum(1) / 1500)]

    whole = both()
    monkeypatch.setattr(fused, "KERNELS", ())
    for x, y in zip(whole, both(), strict=True):
        torch.testing.assert_close(x, y, atol=1e-5, rtol=0)


@pytest.mark.parametrize("spelled", [False, True])
def test_half_precision_is_weighed_in_float32(spelled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if spelled:
        monkeypatch.setattr(fused, "KERNELS", ())
    exact = inputs(700, 3, dtype=torch.float32)
    coarse = [x.detach().bfloat16().requires_grad_() for x in exact]
    expected = attention.dilated_attention(*exact, (100, 333), (1, 3))
    with torch.autocast("cpu", torch.bfloat16):
        out = attention.dilated_attention(*coarse, (100, 333), (1, 3))
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), expected, atol=0.02, rtol=0)
    pull = torch.ones_like(expected)
    pulled = gradients(out, coarse, pull.bfloat16()), gradients(expected, exact, pull)
    for x, y in zip(*pulled, strict=True):
        torch.testing.assert_close(x.float(), y, atol=0.05, rtol=0.05)


def test_only_inputs_and_one_number_per_token_and_head_wait_for_the_backward_pass() -> None:
    kept = []

    def keep(x: Tensor) -> Tensor:
        kept.append(x.numel())
        return x

    q, k, v = inputs(200, 2)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        attention.dilated_attention(q, k, v, (64, 150, 999), (1, 2, 4))
    assert sum(kept) == 3 * q.numel() + 200 * 2


def test_neither_type_nor_layout_of_the_inputs_changes() -> None:
    q, k, v = (x.detach().transpose(1, 2).contiguous().transpose(1, 2) for x in inputs(50, 3, batch=2))
    before = [x.clone() for x in (q, k, v)]
    out = attention.dilated_attention(q, k, v, (20, 50), (1, 2))
    assert out.dtype == q.dtype
    assert out.shape == q.shape
    for x, y in zip((q, k, v), before, strict=True):
        assert torch.equal(x, y)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("name", GPU_KERNELS)
def test_the_operators_of_gpus_take_what_they_are_given(
    name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch's own description of them is asked, on tensors of a GPU that hold nothing."""
    kernel = GPU_KERNELS[name]
    with FakeTensorMode():
        q = torch.empty(2, 3, 70, 48, device="cuda", dtype=dtype)
        assert not kernel.takes(q), "there is no GPU"
        done = fused.attend(kernel, q, q, q, absent=5)
        assert (done.out.shape, done.out.dtype, done.out.device.type) == (q.shape, dtype, "cuda")
        assert (done.lse.shape, done.lse.dtype) == (q.shape[:3], torch.float32)
        assert [grad.shape for grad in kernel.pull(q, q, q, q, done)] == [q.shape] * 3


def test_what_no_kernel_takes_is_spelled_out() -> None:
    q = torch.empty(1, 1, 8, 2, 4, device="meta")
    assert fused.kernel_for(q[0]) is None
    out, lse = attention.attention(q, q, q, absent=1)
    assert (out.shape, lse.shape) == (q.shape, q.shape[:-1])


def growth(count: Callable[[int], int], lengths: list[int]) -> list[float]:
    counts = [count(length) for length in lengths]
    return [after / before for before, after in pairwise(counts)]


def test_work_is_linear_once_segments_are_shorter_than_the_slide() -> None:
    lengths = [10**7, 10**8]
    assert growth(lambda n: attention.score_count(n, 16, *GIGAPATH), lengths)[0] == pytest.approx(
        10, rel=0.05
    )
    assert np.isclose(growth(lambda n: attention.score_count(n, 16, (n,), (1,)), lengths)[0], 100)
