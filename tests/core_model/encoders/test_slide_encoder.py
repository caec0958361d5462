"""The slide encoder against the reference network, and the properties that its users rely on."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.modules.module import register_module_forward_pre_hook

from core_model import open_slide
from core_model.encoders import fused as kernels
from core_model.encoders import longnet
from core_model.encoders.slide_encoder import (
    LongNetViT,
    SlideEncoderConfig,
    encoder_coords,
    load_slide_encoder,
    pool_tokens,
    position_rows,
)
from core_model.errors import CheckpointError, SlideError, UsageError
from core_model.features.grid import tile_grid
from core_model.features.tiles import TileFeatures
from core_model.slides.tissue import find_tissue

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
    assert len(network.state_dict()) == 247
    assert config.segments == (1024, 5792, 32768, 185363, 1048576)


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


# ---- pooling ----


@torch.inference_mode()
def test_a_slide_in_one_token_is_its_mean_or_its_class_token() -> None:
    network, (tiles, coords) = LongNetViT(SMALL).eval(), a_slide(50)
    mean = network.slide_tokens(tiles, coords, 8, 16, pooling="mean")
    torch.testing.assert_close(mean[:, 0, :12], network.global_pool(tiles, coords))
    single = network.slide_tokens(tiles, coords, 8, 16, pooling="class")
    torch.testing.assert_close(single[:, 0, :12], network.norm(network(tiles, coords)[:, 0]))
    for token in (mean, single):
        assert token.shape == (1, 1, 16)
        assert not token[..., 12:].any()


def test_an_unknown_pooling_is_refused() -> None:
    with pytest.raises(UsageError, match=r"median.*tokens, mean and class"):
        LongNetViT(SMALL).slide_tokens(*a_slide(3), 8, pooling="median")  # type: ignore[arg-type]


def a_slide(tiles: int, config: SlideEncoderConfig = SMALL) -> tuple[torch.Tensor, torch.Tensor]:
    make = torch.Generator().manual_seed(tiles)
    return torch.randn(1, tiles, config.in_chans, generator=make), torch.rand(
        1, tiles, 2, generator=make
    ) * 9000


# ---- memory ----


def test_chunks_of_the_feed_forward_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    network, inputs = LongNetViT(SMALL).eval(), a_slide(50)
    expected = network(*inputs).detach()  # where gradients may be asked for, all tokens go at once
    monkeypatch.setattr(longnet, "TOKENS_AT_ONCE", {"cpu": 7})
    with torch.inference_mode():
        torch.testing.assert_close(network(*inputs), expected)


@pytest.mark.parametrize("fused", [True, False])
def test_layers_computed_again_have_the_same_gradients(fused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With dropout and dropped layers, so that the second pass must draw what the first drew."""
    if not fused:
        monkeypatch.setattr(kernels, "KERNELS", ())
        monkeypatch.setattr(longnet, "SCORES_AT_ONCE", {"cpu": 100})
    config = SMALL.model_copy(
        update={"dropout": 0.25, "drop_path": 0.5, "segment_length": (8, 20, 99, 99, 99)}
    )
    network, inputs = LongNetViT(config).train(), a_slide(40)
    found = []
    for recompute in (False, True):
        network.recompute = recompute
        network.zero_grad()
        torch.manual_seed(3)
        loss = network.slide_tokens(*inputs, 8).square().mean()
        loss.backward()
        found.append([loss.detach(), *(p.grad for p in network.parameters())])
    for kept, again in zip(*found, strict=True):
        torch.testing.assert_close(again, kept)


def test_layers_computed_again_are_not_kept() -> None:
    network, inputs = LongNetViT(SMALL).train(), a_slide(400)
    kept = []
    for recompute in (False, True):
        network.recompute, count = recompute, []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda x, c=count: c.append(x.numel()) or x, lambda x: x
        ):
            network(*inputs)
        kept.append(sum(count))
    assert kept[1] < kept[0] / 4


# ---- coordinates ----


def seen_by(model: Any, features: TileFeatures) -> tuple[np.ndarray, torch.Tensor]:
    """Grid cells (N, 2) that the slide encoder is given for these features, and the tokens made of them."""
    given = []

    def watch(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if isinstance(module, LongNetViT):
            given.append(inputs[1][0].numpy())

    hook = register_module_forward_pre_hook(watch)
    try:
        tokens = model.slide_tokens(features)
    finally:
        hook.remove()
    return np.floor(given[0] / model.config.slide_encoder.tile_size).astype(int), tokens


def test_the_same_tissue_at_40x_and_20x_lies_in_the_same_cells(
    write_slide: Callable[..., Path], he_image: Callable[..., np.ndarray], tiny_model: Any
) -> None:
    """From the slide file to the network: level-0 px of a 40x scan must not reach it."""
    rgb = he_image(1024, 1536, (256, 128, 1024, 640))
    half = rgb.reshape(512, 2, 768, 2, 3).mean(axis=(1, 3)).round().astype(np.uint8)
    tile_um = tiny_model.tile_encoder.tile_um
    scans = []
    for name, pixels, mpp in (("40x.tiff", rgb, 0.25), ("20x.tiff", half, 0.5)):
        with open_slide(write_slide(pixels, name, mpp=mpp)) as slide:
            grid = tile_grid(slide, find_tissue(slide), tile_um)
            values = np.random.default_rng(0).normal(size=(len(grid), 12)).astype(np.float32)
            scans.append(TileFeatures(values, grid.coords, grid.size, tile_um, slide.mpp, "tiny"))
    fine, coarse = scans
    assert fine.size == 2 * coarse.size
    (cells, tokens), (same_cells, same_tokens) = (seen_by(tiny_model, scan) for scan in scans)
    np.testing.assert_array_equal(cells, same_cells)
    np.testing.assert_array_equal(cells, fine.coords // fine.size)  # one tile, one cell
    torch.testing.assert_close(tokens, same_tokens)
    raw_cells, raw_tokens = seen_by(tiny_model, replace(fine, slide_mpp=0.5))  # as if level-0 px were 20x px
    np.testing.assert_array_equal(raw_cells, 2 * cells)
    assert not torch.allclose(raw_tokens, tokens, atol=1e-3)


# ---- weights ----


@pytest.fixture
def weights(tmp_path: Path) -> Callable[..., Path]:
    """Write `slide_encoder.pth` as published, of a small network, after a change to its tensors."""

    def write(change: Callable[[dict[str, Any]], object] = lambda _: None) -> Path:
        torch.manual_seed(0)
        state = dict(LongNetViT(SMALL).state_dict())
        change(state)
        torch.save({"model": state}, tmp_path / "slide_encoder.pth")
        return tmp_path / "slide_encoder.pth"

    return write


def test_weights_load_as_they_were_written(weights: Callable[..., Path]) -> None:
    path = weights()
    network = load_slide_encoder(path, SMALL)
    path.write_bytes(b"")  # nothing of it is needed any more
    torch.manual_seed(0)
    for name, value in LongNetViT(SMALL).state_dict().items():
        assert torch.equal(network.state_dict()[name], value), name
    assert not network.training
    assert all(p.requires_grad and p.device.type == "cpu" for p in network.parameters())
    network(*a_slide(5)).sum().backward()


def test_half_precision_weights_and_old_files_load(weights: Callable[..., Path], tmp_path: Path) -> None:
    path = weights(lambda state: state.update({k: v.half() for k, v in state.items()}))
    found = torch.load(path, weights_only=True)
    torch.save(found, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    for each in (path, tmp_path / "old.pth"):
        network = load_slide_encoder(each, SMALL)
        assert network.norm.weight.dtype == torch.float32
        torch.testing.assert_close(network.cls_token.detach(), found["model"]["cls_token"].float())


KEY = "encoder.layers.1.self_attn.inner_attn_ln.weight"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda state: state.pop(KEY), [f"lacks {KEY}"]),
        (lambda state: state.update(extra=torch.ones(1)), ["has unexpected extra"]),
        (lambda state: state.update({KEY: torch.ones(5)}), [f"has {KEY} of shape (5,) in place of (12,)"]),
        (
            lambda state: state.update(renamed=state.pop(KEY)),
            [f"lacks {KEY}", "has unexpected renamed"],
        ),
        (lambda state: state.update({KEY: torch.ones(12, dtype=torch.int64)}), [f"no weights under {KEY}"]),
    ],
)
def test_a_key_that_does_not_fit_is_named(
    weights: Callable[..., Path], change: Callable[[dict[str, Any]], object], told: list[str]
) -> None:
    with pytest.raises(CheckpointError) as error:
        load_slide_encoder(weights(change), SMALL)
    for part in told:
        assert part in str(error.value)


def test_a_file_for_another_size_is_refused_by_the_published_one(weights: Callable[..., Path]) -> None:
    with pytest.raises(CheckpointError, match=r"encoder\.layers\.10\..* and \d+ more"):
        load_slide_encoder(weights())


class Hostile:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return exec, ("raise SystemExit('code of the file was run')",)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "cannot be read"),
        (b"", "cannot be read"),
        (b"not weights at all", "cannot be read"),
        ({"model": Hostile()}, "cannot be read"),
        ({"state_dict": {}}, 'nothing under "model"'),
        ([1, 2], 'nothing under "model"'),
    ],
)
def test_what_holds_no_weights_is_refused(tmp_path: Path, content: Any, told: str) -> None:
    path = tmp_path / "slide_encoder.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(CheckpointError, match=told):
        load_slide_encoder(path, SMALL)


def test_a_file_cut_short_is_refused(weights: Callable[..., Path]) -> None:
    path = weights()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_slide_encoder(path, SMALL)
