"""Prov-GigaPath's tile encoder: the reference's outputs, strict names, its preprocessing, lean loading."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file

from core_model import load_tile_encoder
from core_model.checkpoints.folder import new_model, save_checkpoint
from core_model.config import ModelConfig, SlideEncoderConfig, TileEncoderConfig
from core_model.encoders import gigapath, hub
from core_model.encoders.vit import TilePixels, ViTTileEncoder, bind, build_tile_encoder
from core_model.errors import CheckpointError, GiantError

State = dict[str, torch.Tensor]


def tiles(n: int = 3, side: int = 54) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 255, (side, side, 3), dtype=np.uint8)) for _ in range(n)]


def torchvision_on_pillow(image: Image.Image, size: int, crop: int) -> np.ndarray:
    """Resize(size, BICUBIC), CenterCrop(crop), ToTensor, Normalize(ImageNet), from their documentation."""
    width, height = image.size
    short, long = sorted((width, height))
    scaled = int(size * long / short)
    image = image.convert("RGB").resize(
        (size, scaled) if width <= height else (scaled, size), Image.Resampling.BICUBIC
    )
    left, top = int(round((image.width - crop) / 2.0)), int(round((image.height - crop) / 2.0))  # noqa: RUF046
    pixels = np.asarray(image, dtype=np.float32)[top : top + crop, left : left + crop] / np.float32(255)
    mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    return ((pixels - mean) / std).transpose(2, 0, 1)


# ---- the network ----


def test_features_and_embedding_are_the_references(shared: Path) -> None:
    golden = load_file(shared / "goldens" / "gigapath_tile.safetensors")
    state = {name.removeprefix("param."): x for name, x in golden.items() if name.startswith("param.")}
    network, config = gigapath.network_of(state, heads=3)
    assert (config.embed_dim, config.depth, config.ffn_dim, config.crop_px) == (48, 3, 128, 224)
    with torch.inference_mode():
        features = network(pixel_values=golden["in.pixels"]).last_hidden_state
    torch.testing.assert_close(features, golden["out.features"], atol=1e-4, rtol=0)
    torch.testing.assert_close(features[:, 0], golden["out.embedding"], atol=1e-4, rtol=0)


def test_the_full_network_has_the_published_size() -> None:
    with torch.device("meta"):
        network = build_tile_encoder(TileEncoderConfig.gigapath())
    assert sum(p.numel() for p in network.parameters()) == 1_134_953_984


def test_every_tensor_is_used_once(timm_state: State) -> None:
    ours = gigapath.from_timm(timm_state)
    assert sum(x.numel() for x in ours.values()) == sum(x.numel() for x in timm_state.values())
    storages = {x.untyped_storage().data_ptr() for x in timm_state.values()}
    assert {x.untyped_storage().data_ptr() for x in ours.values()} == storages, "views, not copies"


@pytest.mark.parametrize("name", ["cls_token", "norm.bias", "blocks.0.mlp.fc2.weight", "blocks.1.ls2.gamma"])
def test_a_missing_key_is_named(timm_state: State, name: str) -> None:
    del timm_state[name]
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        gigapath.from_timm(timm_state)


def test_a_renamed_or_misshapen_key_is_named(timm_state: State) -> None:
    renamed = dict(timm_state)
    renamed["blocks.1.attn.qkw.bias"] = renamed.pop("blocks.1.attn.qkv.bias")
    with pytest.raises(CheckpointError, match=r"lack blocks\.1\.attn\.qkv\.bias"):
        gigapath.from_timm(renamed)
    with pytest.raises(CheckpointError, match=r"unexpected head\.weight"):
        gigapath.from_timm(timm_state | {"head.weight": torch.zeros(2, 2)})
    with pytest.raises(
        CheckpointError, match=r"blocks\.0\.attn\.qkv\.bias has shape \(383,\), expected \(384,\)"
    ):
        gigapath.from_timm(timm_state | {"blocks.0.attn.qkv.bias": torch.zeros(383)})
    with pytest.raises(CheckpointError, match="no ViT has"):
        gigapath.from_timm(timm_state | {"cls_token": torch.zeros(())})


def test_a_width_that_dinov2_cannot_have_is_refused() -> None:
    config = TileEncoderConfig.gigapath().model_copy(update={"ffn_dim": 4097})
    with pytest.raises(CheckpointError, match="4097"):
        build_tile_encoder(config)


# ---- preprocessing ----


@settings(max_examples=40, deadline=None)
@given(st.integers(20, 90), st.integers(20, 90), st.integers(0, 9))
def test_pixels_are_those_of_torchvision_on_pillow(width: int, height: int, seed: int) -> None:
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image = Image.fromarray(values)
    ours = TilePixels(
        64, 51, TileEncoderConfig.gigapath().mean, TileEncoderConfig.gigapath().std
    )  # an odd difference: the half is rounded to even
    np.testing.assert_array_equal(ours.batch([image])[0], torchvision_on_pillow(image, 64, 51))


@pytest.mark.parametrize("size", [(256, 256), (300, 256), (256, 301), (97, 130)])
def test_its_pixels_at_full_size(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    image = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    pixels = TilePixels.of(TileEncoderConfig.gigapath())
    np.testing.assert_array_equal(pixels.batch([image])[0], torchvision_on_pillow(image, 256, 224))


def test_without_a_crop_pixels_are_a_plain_square() -> None:
    """The embedded model's preparation, spelled out."""
    images = tiles(2, 224) + tiles(1, 100)
    half = np.full(3, 0.5, dtype=np.float32)
    square = [image.resize((224, 224), Image.Resampling.BICUBIC) for image in images]
    expected = (np.stack([np.asarray(image) for image in square]).astype(np.float32) / 255 - half) / half
    found = TilePixels.of(TileEncoderConfig()).batch(images)
    np.testing.assert_array_equal(found, expected.transpose(0, 3, 1, 2))
    assert (found.dtype, found.flags["C_CONTIGUOUS"]) == (np.float32, True)


def test_a_crop_larger_than_the_tile_is_refused() -> None:
    with pytest.raises(CheckpointError, match="224 px cannot be cut from tiles of 200 px"):
        TilePixels(200, 224)


# ---- loading ----


def as_zip(state: State, folder: Path) -> Path:
    torch.save(state, folder / "pytorch_model.bin")
    return folder / "pytorch_model.bin"


def as_legacy(state: State, folder: Path) -> Path:
    torch.save(state, folder / "old.pth", _use_new_zipfile_serialization=False)
    return folder / "old.pth"


def as_safetensors(state: State, folder: Path) -> Path:
    save_file(state, folder / "model.safetensors")
    return folder / "model.safetensors"


@pytest.mark.parametrize("write", [as_zip, as_legacy, as_safetensors])
def test_every_kind_of_file_loads(
    timm_state: State, tmp_path: Path, write: Callable[[State, Path], Path]
) -> None:
    encoder = load_tile_encoder(write(timm_state, tmp_path), device="cpu")
    assert (encoder.name, encoder.dim, encoder.tile_px, encoder.mpp) == ("gigapath", 128, 54, 0.5)
    expected, config = gigapath.network_of(timm_state)
    reference = bind(expected, "reference", config, "cpu")
    np.testing.assert_array_equal(encoder.encode(tiles()), reference.encode(tiles()))
    assert encoder.fingerprint == reference.fingerprint


def test_its_tiles_are_128_um() -> None:
    config = TileEncoderConfig.gigapath()
    assert (config.tile_px, config.image_px, config.tile_px * config.mpp) == (256, 224, 128.0)


@pytest.mark.parametrize("given_as", ["folder", "variable", "hub"])
def test_its_name_finds_the_weights(
    timm_state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given_as: str
) -> None:
    monkeypatch.delenv(gigapath.VARIABLE, raising=False)
    file = as_zip(timm_state, tmp_path)
    if given_as == "folder":
        encoder = load_tile_encoder(tmp_path)
    elif given_as == "variable":
        monkeypatch.setenv(gigapath.VARIABLE, str(tmp_path))
        encoder = load_tile_encoder("gigapath")
    else:
        asked: list[tuple[str, str]] = []
        monkeypatch.setattr(hub, "fetch", lambda *what, **_: asked.append(what) or file)
        encoder = load_tile_encoder("gigapath")
        assert asked == [("prov-gigapath/prov-gigapath", "pytorch_model.bin")]
    assert (encoder.name, encoder.dim) == ("gigapath", 128)


def test_weights_that_are_not_there_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(gigapath.VARIABLE, str(tmp_path / "nowhere.bin"))
    with pytest.raises(GiantError, match=r"nowhere\.bin: there is no such file or folder.*in GIANT_GIGAPATH"):
        load_tile_encoder("gigapath")
    with pytest.raises(GiantError, match=r"holds no pytorch_model\.bin or model\.safetensors"):
        gigapath.load_gigapath(tmp_path)


class Dangerous:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return print, ("executed",)


@pytest.mark.parametrize("content", [b"no weights", Dangerous(), [1, 2], {"model": {}}])
def test_a_file_that_is_no_state_dict_is_refused(tmp_path: Path, content: object, capfd: object) -> None:
    path = tmp_path / "pytorch_model.bin"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin"):
        load_tile_encoder(path)
    assert "executed" not in capfd.readouterr().out  # type: ignore[attr-defined]


def test_errors_of_the_weights_name_their_file(timm_state: State, tmp_path: Path) -> None:
    del timm_state["norm.bias"]
    with pytest.raises(CheckpointError, match=r"model\.safetensors: the weights lack norm\.bias"):
        load_tile_encoder(as_safetensors(timm_state, tmp_path))


@pytest.mark.parametrize("bf16", [True, False])
def test_compact_matrices_give_the_same_features(timm_state: State, bf16: bool) -> None:
    def encoder(compact: bool) -> ViTTileEncoder:
        network, config = gigapath.network_of(timm_state)
        pixels = TilePixels.of(config)
        return ViTTileEncoder(
            network, name="", pixels=pixels, mpp=0.5, device="cpu", bf16=bf16, compact=compact
        )

    wide, compact = encoder(False), encoder(True)
    np.testing.assert_array_equal(compact.encode(tiles()), wide.encode(tiles()))
    assert compact.fingerprint == wide.fingerprint, "of the weights as they came"
    kinds = {name.split(".")[-2]: p.dtype for name, p in compact.network.named_parameters()}
    assert kinds["q_proj"] is (torch.bfloat16 if bf16 else torch.float32)
    assert kinds["layernorm"] is torch.float32


def test_a_checkpoint_folder_with_it_loads(timm_state: State, tmp_path: Path) -> None:
    config = gigapath.tile_config_of(timm_state)
    model = ModelConfig(
        name="lab",
        dtype="float32",
        tile_encoder=config,
        slide_encoder=SlideEncoderConfig(in_chans=128),
    )
    parts = new_model(model, only=("tile_encoder",))
    assert parts.tile_encoder is not None
    parts.tile_encoder.load_state_dict(gigapath.from_timm(timm_state))
    save_checkpoint(tmp_path / "lab", parts, model)
    encoder = load_tile_encoder(tmp_path / "lab", device="cpu")
    assert (encoder.name, encoder.tile_px, encoder.dim) == ("lab", 54, 128)
    expected = bind(parts.tile_encoder, "", config, "cpu").encode(tiles())
    np.testing.assert_array_equal(encoder.encode(tiles()), expected)
