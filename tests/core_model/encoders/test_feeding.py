"""Tiles that are prepared by other threads and fed step by step: the features of `encode`, to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from core_model.encoders import feeding
from core_model.encoders.feeding import run_queued, run_steps, step_tiles
from core_model.encoders.vit import ViTTileEncoder, bind


@pytest.fixture
def encoder(tiny_parts: Any, tiny_config: Any) -> ViTTileEncoder:
    return bind(tiny_parts.tile_encoder, "tiny", tiny_config.tile_encoder, "cpu")


def pictures(n: int) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)) for _ in range(n)]


@pytest.mark.parametrize("bf16", [False, True])
def test_parts_of_steps_give_what_whole_images_do(encoder: ViTTileEncoder, bf16: bool) -> None:
    encoder.bf16, images = bf16, pictures(9)
    cuts = [[(0, 3), (3, 6)], [(6, 7), (7, 9)]]
    steps = [[encoder.prepare(images[a:b]) for a, b in step] for step in cuts]
    found = encoder.encode_prepared(steps)
    for features, (first, last) in zip(found, ((0, 6), (6, 9)), strict=True):
        assert features.dtype == np.float32
        np.testing.assert_array_equal(features, encoder.encode(images[first:last]))


def test_steps_in_a_queue_give_the_same(encoder: ViTTileEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU the program waits once, after all steps; pinned memory is all that is missing here."""
    images, events = pictures(8), list[str]()
    steps = [[encoder.prepare(images[:4])], [encoder.prepare(images[4:6]), encoder.prepare(images[6:])]]

    def forward(pixels: torch.Tensor) -> torch.Tensor:
        events.append(f"step of {len(pixels)}")
        return encoder.features(pixels)

    monkeypatch.setattr(feeding, "wait_for_device", lambda device: events.append("waited"))
    found = run_queued(forward, steps, "cpu", pinned=False)
    for features, wanted in zip(found, run_steps(encoder.features, steps, "cpu"), strict=True):
        np.testing.assert_array_equal(features, wanted)
    assert events == ["step of 4", "step of 4", "waited"]


def test_the_step_belongs_to_the_kind_of_device(encoder: ViTTileEncoder) -> None:
    assert [step_tiles(device) for device in ("cpu", "cuda", "cuda:3", "xpu")] == [32, 128, 128, 32]
    assert encoder.step == 32
    encoder.bf16 = True
    assert encoder.arithmetic == "cpu bf16"
    encoder.device, encoder.bf16 = "cuda:1", False
    assert encoder.arithmetic == "cuda float32"


def test_a_network_is_compiled_only_where_that_is_asked(
    encoder: ViTTileEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[Any] = []

    def compile_(function: Any) -> Any:
        compiled.append(function)
        return lambda pixels: function(pixels) + 1

    monkeypatch.setattr(torch, "compile", compile_)
    images = pictures(2)
    before = encoder.encode(images)
    assert compiled == []
    encoder.compile()
    np.testing.assert_allclose(encoder.encode(images), before + 1, rtol=1e-5)
    assert len(compiled) == 1
