"""The slide encoder against the reference network, and the properties that its users rely on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core_model import dilated_attention as attention
from core_model.errors import SlideError
from core_model.slide_encoder import (
    LongNetViT,
    SlideEncoderConfig,
    encoder_coords,
    pool_tokens,
    position_rows,
)

SMALL = SlideEncoderConfig(in_chans=6, embed_dim=12, depth=2, heads=3, ffn_dim=8, tile_size=256)


def golden(path: Path) -> tuple[LongNetViT, dict[str, torch.Tensor], dict[str, Any]]:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        tensors, meta = {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118
    config = SlideEncoderConfig(
        dilated_ratio=json.loads(meta["dilated_ratio"]),
        ffn_dim=int(meta["ffn"]),
        **{
            key: int(meta[key])
            for key in (
                "in_chans",
                "embed_dim",
                "depth",
                "heads",
                "tile_size",
                "slide_ngrids",
                "max_wsi_size",
            )
        },
    )
    network = LongNetViT(config).eval()
    weights = {
        key.removeprefix("param."): value for key, value in tensors.items() if key.startswith("param.")
    }
    network.load_state_dict(weights)  # strict: the names are the reference's
    return network, tensors, meta


@pytest.mark.parametrize("name", ["short", "segmented"])
@torch.inference_mode()
def test_every_output_of_the_reference(shared: Path, name: str) -> None:
    network, tensors, meta = golden(shared / "goldens" / f"longnet_{name}.safetensors")
    inputs = tensors["in.tiles"], tensors["in.coords"]
    assert list(network.config.segments) == json.loads(meta["segment_length"])
    found = {"tokens": network(*inputs), "global_pool": network.global_pool(*inputs)}
    found |= {f"cls_layer{i}": x[:, 0] for i, x in enumerate(network.all_layers(*inputs))}
    expected = {key.removeprefix("out."): x for key, x in tensors.items() if key.startswith("out.")}
    assert set(found) == set(expected)
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, atol=1e-4, rtol=0, msg=lambda m, k=key: f"{k}: {m}")


def test_the_full_network_has_the_published_size() -> None:
    config = SlideEncoderConfig.gigapath()
    with torch.device("meta"):
        network = LongNetViT(config)
    assert sum(p.numel() for p in network.parameters()) == 86_330_880
    assert config.segments == (1024, 5792, 32768, 185363, 1048576)


def attention_inputs(length: int, heads: int) -> list[torch.Tensor]:
    make = torch.Generator().manual_seed(length)
    return [
        torch.randn(2, length, heads, 4, generator=make, dtype=torch.float64).requires_grad_()
        for _ in range(3)
    ]


def one_by_one(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, segments: tuple[int, ...], ratios: tuple[int, ...]
) -> torch.Tensor:
    """Dilated attention spelled out for each token and head, straight from its definition."""
    B, L, H, D = q.shape
    out = torch.zeros_like(q)
    for b, i, h in np.ndindex(B, L, H):
        values, lses = [], []
        for segment, ratio in zip(segments, ratios, strict=True):
            g = min(segment, L)
            start, offset = i // g * g, h // -(-H // ratio)
            if (i - start) % ratio != offset:
                continue
            rows = range(start + offset, start + -(-g // ratio) * ratio, ratio)
            inside = [j if j < min(L, start + g) else None for j in rows]  # None: zero padding
            zero = torch.zeros(D, dtype=q.dtype)
            keys = torch.stack([zero if j is None else k[b, j, h] for j in inside])
            seen = torch.stack([zero if j is None else v[b, j, h] for j in inside])
            scores = keys @ q[b, i, h] / D**0.5
            values.append(scores.softmax(0) @ seen)
            lses.append(scores.logsumexp(0))
        if values:
            weights = torch.stack(lses).detach().softmax(0)
            out[b, i, h] = (weights[:, None] * torch.stack(values)).sum(0)
    return out


@pytest.mark.parametrize(("length", "heads"), [(1, 2), (7, 3), (19, 4)])
@pytest.mark.parametrize("at_once", [1 << 24, 320])
def test_values_and_gradients_equal_the_definition(
    length: int, heads: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the scores do not fit at once and are computed in blocks."""
    monkeypatch.setattr(attention, "SCORES_AT_ONCE", at_once)
    segments, ratios = (4, 10, 100), (1, 2, 4)
    ours, theirs = attention_inputs(length, heads), attention_inputs(length, heads)
    out = attention.dilated_attention(*ours, segments=segments, ratios=ratios)
    expected = one_by_one(*theirs, segments=segments, ratios=ratios)
    torch.testing.assert_close(out, expected)
    pull = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).reshape(out.shape)
    (out * pull).sum().backward()
    (expected * pull).sum().backward()
    for x, y in zip(ours, theirs, strict=True):
        torch.testing.assert_close(x.grad, y.grad)


def test_y_comes_before_x_in_the_position_code() -> None:
    corner, right, down = (
        position_rows(torch.tensor([[xy]]), SMALL)[0, 0] for xy in ([0.0, 0.0], [256.0, 0.0], [0.0, 256.0])
    )
    assert torch.equal(right[:6], corner[:6])
    assert not torch.equal(right[6:], corner[6:])
    assert torch.equal(down[6:], corner[6:])
    assert torch.equal(down[:6], right[6:])


def test_a_tile_off_the_position_grid_is_refused() -> None:
    with pytest.raises(SlideError, match="mpp"):
        position_rows(torch.tensor([[[256.0 * 1000, 0.0]]]), SMALL)


def test_a_40x_and_a_20x_scan_of_one_slide_have_the_same_coordinates() -> None:
    at_40x = encoder_coords(np.array([[1024, 512]]), slide_mpp=0.25, encoder_mpp=0.5)
    at_20x = encoder_coords(np.array([[512, 256]]), slide_mpp=0.5, encoder_mpp=0.5)
    np.testing.assert_array_equal(at_40x, at_20x)


@torch.inference_mode()
def test_slide_tokens_are_averaged_then_normed_then_padded() -> None:
    network = LongNetViT(SMALL).eval()
    torch.nn.init.normal_(network.norm.bias)
    tiles, coords = torch.randn(1, 50, 6), torch.rand(1, 50, 2) * 9000
    padded = network.slide_tokens(tiles, coords, 8, 16)
    assert padded.shape == (1, 8, 16)
    assert not padded[..., 12:].any()
    expected = network.norm(pool_tokens(network(tiles, coords)[:, 1:], 8))
    torch.testing.assert_close(padded[..., :12], expected)


@pytest.mark.parametrize(("tiles", "n"), [(1, 4), (3, 4), (10, 4)])
def test_pooling_covers_every_tile_and_fills_every_token(tiles: int, n: int) -> None:
    pooled = pool_tokens(torch.eye(tiles)[None], n)  # (1, n, tiles): weight of each tile in each token
    assert pooled.shape == (1, n, tiles)
    torch.testing.assert_close(pooled.sum(-1), torch.ones(1, n))
    assert (pooled.sum(1) > 0).all()
