"""The training bench runs a small model on any device and counts its work as the formula says."""

from __future__ import annotations

import pytest
import torch

from core_model.config import LanguageModelConfig
from core_model.devices import matmul_rate
from training.bench import bench_stage, random_batch, random_llava, step_flops
from training.recipes import make_recipe
from training.settings import Recipe


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    small = ["n_tokens=4", "feature_dim=24", "stage3.rank=4", "slide_encoder.embed_dim=24"]
    small += [f"language.model.{key}={value}" for key, value in DIMENSIONS.items()]
    return make_recipe("wsi-llava-7b", [*small, "slide_encoder.heads=2"])


DIMENSIONS = {
    "embed_dim": 32,
    "depth": 2,
    "heads": 2,
    "kv_heads": 2,
    "ffn_dim": 64,
    "vocab_size": 50,
    "image_id": 50,
}


@pytest.mark.parametrize("stage", [2, 3])
def test_a_stage_is_timed_with_what_it_trains(recipe: Recipe, stage: int) -> None:
    found = bench_stage(recipe, stage, batch=2, length=12, steps=1, device="cpu")
    assert found.trained < found.parameters
    assert found.tokens_per_second == pytest.approx(24 / found.step_seconds)
    assert found.mfu == pytest.approx(found.model_flops / found.matmul_flops)
    assert found.peak_gb > 0


def test_operations_are_those_of_the_formula(recipe: Recipe) -> None:
    lm = LanguageModelConfig(**recipe.language.model.model_dump())
    llava = random_llava(recipe.model, "cpu").requires_grad_(False)
    batch = random_batch(recipe.model, 2, 12, "cpu")
    asked = int((batch["labels"][:, 1:] != -100).sum())
    layers = 2 * (4 * 32 * 32 + 3 * 32 * 64)
    by_hand = 24 * (4 * layers + 3 * 2 * 4 * 32 * 12 / 2) + 4 * 32 * 50 * asked
    by_hand += 6 * (24 * 32 + 32 * 32) * 2 * 4
    assert step_flops(recipe.model, llava, 2, 12, batch["labels"], 2) == pytest.approx(by_hand)
    assert lm.depth == 2


def test_the_rate_of_a_product_is_of_the_type_asked_for() -> None:
    assert matmul_rate("cpu", torch.float32, side=128) > 1e6
