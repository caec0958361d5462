"""Tile encoders: named, deterministic, honest about what they do not have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from core_model import load_tile_encoder
from core_model.encoders.vit import ViTTileEncoder, bind
from core_model.errors import UsageError


def pictures(n: int, side: int = 32) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 255, (side, side, 3), dtype=np.uint8)) for _ in range(n)]


@pytest.fixture
def encoder(tiny_parts: Any, tiny_config: Any) -> ViTTileEncoder:
    return bind(tiny_parts.tile_encoder, "tiny", tiny_config.tile_encoder, "cpu")


@pytest.mark.parametrize("bf16", [False, True])
def test_a_tile_has_one_vector_whatever_else_is_in_its_batch(encoder: ViTTileEncoder, bf16: bool) -> None:
    encoder.bf16 = bf16
    images = pictures(5)
    together, alone = encoder.encode(images), np.concatenate([encoder.encode([image]) for image in images])
    assert together.shape == (5, 12)
    assert together.dtype == np.float32
    np.testing.assert_allclose(together, alone, atol=0.02 if bf16 else 1e-5)
    np.testing.assert_array_equal(encoder.encode(images[::-1])[::-1], together)
    assert np.abs(together[0] - together[1]).max() > 0.05


def test_other_sizes_and_modes_are_brought_to_the_tile(encoder: ViTTileEncoder) -> None:
    large = pictures(1, side=64)[0]
    small = large.resize((32, 32), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(encoder.encode([large]), encoder.encode([small]))
    assert encoder.encode([large.convert("RGBA"), large.convert("L")]).shape == (2, 12)
    assert encoder.encode([]).shape == (0, 12)


def test_pixels_are_normalised_by_channel(encoder: ViTTileEncoder) -> None:
    pixels = encoder.pixels.batch([Image.new("RGB", (32, 32), (255, 0, 51))])
    assert pixels.shape == (1, 3, 32, 32)
    np.testing.assert_allclose(pixels[0, :, 0, 0], [1.0, -1.0, -0.6], rtol=1e-6)


def test_the_fingerprint_follows_the_weights(
    tiny_checkpoint: Path, tiny_parts: Any, tiny_config: Any
) -> None:
    first, second = load_tile_encoder(tiny_checkpoint), load_tile_encoder(tiny_checkpoint)
    assert first.fingerprint == second.fingerprint
    assert (first.name, first.dim, first.tile_px, first.tile_um) == ("tiny", 12, 32, 16.0)
    from core_model.checkpoints.folder import new_model, save_checkpoint

    other = new_model(tiny_config, seed=9, only=("tile_encoder",))
    save_checkpoint(tiny_checkpoint, other, tiny_config)
    assert load_tile_encoder(tiny_checkpoint).fingerprint != first.fingerprint


def test_an_encoder_that_knows_its_resolution_takes_no_other(tiny_checkpoint: Path) -> None:
    assert load_tile_encoder(tiny_checkpoint, mpp=0.5).mpp == 0.5
    with pytest.raises(UsageError, match=r"'tiny' reads tiles at 0\.5 µm per px, not at 1\.0"):
        load_tile_encoder(tiny_checkpoint, mpp=1.0)
    with pytest.raises(UsageError, match="mean nothing"):
        load_tile_encoder(tiny_checkpoint, mpp=0.0)


def test_vectors_do_not_keep_the_tokens_they_were_cut_from(tiny_checkpoint: Path) -> None:
    encoder = load_tile_encoder(str(tiny_checkpoint))
    vectors = encoder.encode([Image.new("RGB", (encoder.tile_px, encoder.tile_px))] * 3)
    assert vectors.base is None
