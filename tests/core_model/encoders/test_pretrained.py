"""Vision transformers that others trained, from a transformers folder or the hub."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel

from core_model import load_tile_encoder
from core_model.encoders import hub
from core_model.encoders.vit import TilePixels, ViTTileEncoder
from core_model.errors import CheckpointError

KINDS = ("vit", "deit", "vit_msn", "dinov2", "dinov2_with_registers", "dinov3_vit")
TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}


def pictures(n: int, side: int = 32) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 255, (side, side, 3), dtype=np.uint8)) for _ in range(n)]


def write(folder: Path, kind: str = "vit", processor: dict[str, Any] | None = None, **more: Any) -> Any:
    """A tiny random network of that kind in `folder`; returns it."""
    torch.manual_seed(0)
    network = AutoModel.from_config(
        AutoConfig.for_model(kind, **{**TINY, "image_size": 32, "patch_size": 16, **more})
    ).eval()
    network.save_pretrained(folder)
    if processor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return network


IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_the_feature_is_the_class_token_after_the_last_norm(tmp_path: Path, kind: str) -> None:
    network = write(tmp_path / "net", kind)
    encoder: Any = load_tile_encoder(tmp_path / "net", device="cpu", mpp=1.0)
    assert (encoder.name, encoder.tile_px, encoder.tile_um, encoder.dim) == ("net", 32, 32.0, 16)
    encoder.bf16 = False
    pixels = torch.from_numpy(TilePixels(32).batch(pictures(2)))
    norm = [module for module in network.modules() if isinstance(module, torch.nn.LayerNorm)][-1]
    last: list[torch.Tensor] = []
    norm.register_forward_hook(lambda *found: last.append(found[2]))
    network(pixel_values=pixels)
    np.testing.assert_allclose(encoder.encode(pictures(2)), last[0][:, 0].numpy(), atol=1e-6)
    assert load_tile_encoder(tmp_path / "net", device="cpu").fingerprint == encoder.fingerprint


def test_what_the_folder_says_of_its_images_holds(tmp_path: Path) -> None:
    shortest = {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}, **IMAGENET}
    write(tmp_path, processor=shortest | {"do_center_crop": True, "resample": 2, "rescale_factor": 1 / 255})
    encoder: Any = load_tile_encoder(tmp_path, device="cpu")
    mean, std = tuple(IMAGENET["image_mean"]), tuple(IMAGENET["image_std"])
    assert encoder.pixels == TilePixels(40, 32, mean, std, resample=2)
    assert (encoder.tile_px, encoder.tile_um) == (40, 20.0)


@pytest.mark.parametrize(
    ("processor", "expected"),
    [
        ({"size": 48, **IMAGENET}, (48, None)),
        ({"size": {"height": 48, "width": 48}, **IMAGENET}, (48, None)),
        ({"size": {"shortest_edge": 48}, "crop_size": 40, **IMAGENET}, (48, 40)),
        ({"size": 48, "crop_size": 40, "do_center_crop": False, **IMAGENET}, (48, None)),
        ({"size": 48, "do_resize": False, **IMAGENET}, (32, None)),
        ({"image_processor": {"size": 48, **IMAGENET}}, (48, None)),
    ],
)
def test_ways_to_write_a_size(
    tmp_path: Path, processor: dict[str, Any], expected: tuple[int, int | None]
) -> None:
    """dinov2 interpolates its positions, so it reads what its folder says and not what it was built for."""
    write(tmp_path, "dinov2", processor)
    pixels = load_tile_encoder(tmp_path, device="cpu").pixels  # type: ignore[attr-defined]
    assert (pixels.tile_px, pixels.crop_px) == expected


def test_pixels_may_be_left_as_they_are(tmp_path: Path) -> None:
    write(tmp_path, processor={"size": 32, "do_normalize": False})
    pixels = load_tile_encoder(tmp_path, device="cpu").pixels  # type: ignore[attr-defined]
    assert (pixels.mean, pixels.std) == ((0.0,) * 3, (1.0,) * 3)


@pytest.mark.parametrize(
    ("processor", "why"),
    [
        ({"size": {"height": 48, "width": 32}, **IMAGENET}, "is no square"),
        ({"size": 48, "rescale_factor": 1 / 127.5, **IMAGENET}, "scaled to 0…1"),
        ({"size": 48, "image_mean": [0.5], "image_std": [0.5]}, "red, green and blue"),
        ({"size": 48, "crop_size": 64, **IMAGENET}, "cannot be cut"),
        ({"size": 48, **IMAGENET}, "cannot read tiles of 48 px"),
    ],
)
def test_preparation_that_cannot_be_is_refused(tmp_path: Path, processor: dict[str, Any], why: str) -> None:
    write(tmp_path, processor=processor)
    with pytest.raises(CheckpointError, match=why):
        load_tile_encoder(tmp_path, device="cpu")


def test_an_assumed_preparation_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path)
    with caplog.at_level(logging.WARNING):
        encoder: Any = load_tile_encoder(tmp_path, device="cpu")
    assert "preprocessor_config.json" in caplog.text
    assert encoder.pixels == TilePixels(32)


def test_missing_weights_are_refused(tmp_path: Path) -> None:
    """transformers would fill them in at random, with a warning."""
    write(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    state.pop("layernorm.weight")
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"layernorm\.weight"):
        load_tile_encoder(tmp_path)


def test_a_network_without_class_token_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "swin"}')
    with pytest.raises(CheckpointError, match=r"no vision transformer.*'swin'.*dinov2_with_registers"):
        load_tile_encoder(tmp_path)


def test_a_folder_whose_weights_are_missing_is_refused(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="transformers cannot load the network"):
        load_tile_encoder(tmp_path)


def test_an_id_of_the_hub_is_an_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "snapshot", processor={"size": 32, **IMAGENET})
    monkeypatch.setattr(hub, "fetch_folder", {"some-lab/vit-s.16": tmp_path / "snapshot"}.__getitem__)
    encoder: Any = load_tile_encoder("some-lab/vit-s.16", device="cpu", mpp=0.25)
    assert (encoder.name, encoder.tile_um) == ("some-lab/vit-s.16", 8.0)
    assert isinstance(encoder, ViTTileEncoder)


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no tile encoder 'uni'.*'gigapath'"):
        load_tile_encoder("uni")
    with pytest.raises(CheckpointError, match=r"no tile encoder './a/b'"):
        load_tile_encoder("./a/b")
    with pytest.raises(CheckpointError, match="no vision transformer"):
        load_tile_encoder(tmp_path)
