"""Each stage learns, and changes exactly the tensors that are its to change."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core_model.conversation import Turn
from core_model.parts import Parts, new_model
from training.conversations import GROUPED, SampleBatches, instruction_samples, plain_samples
from training.corpus import truth_document
from training.fit import read_log
from training.language_model import pretrain_language_model
from training.pool import TokenPool, make_pool
from training.stage1_align import AlignmentData, align
from training.stage2_project import project
from training.stage3_instruct import instruct

State = dict[str, torch.Tensor]


def fresh(world: Any) -> Parts:
    config = world.recipe.model.for_tokenizer(world.tokenizer)
    return new_model(config, world.tokenizer, seed=1)


@pytest.fixture(scope="module")
def llama(world: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A language model that has read a little: a random one has nothing to say better."""
    rng = np.random.default_rng(3)
    truths = [truth.describe() for truth in world.cohort.truths.values()]
    texts = [truth_document(truths[i % len(truths)], rng) for i in range(240)]
    settings = replace(world.recipe.language, steps=60, batch=8, learning_rate=1e-2, max_length=96)
    return pretrain_language_model(
        texts, world.tokenizer, tmp_path_factory.mktemp("llama"), settings=settings
    )


def talking(world: Any, llama: Any) -> Parts:
    parts = fresh(world)
    assert parts.llava is not None
    parts.llava.take_language_model(llama)
    return parts


def snapshot(parts: Parts) -> State:
    return {
        f"{part}.{name}": value.detach().clone()
        for part, state in parts.states().items()
        for name, value in state.items()
    }


def changed(before: State, after: State) -> set[str]:
    assert set(before) == set(after)
    return {name for name in before if not torch.equal(before[name], after[name])}


def fell(folder: Path) -> bool:
    """Medians, since batches of long answers stand out."""
    losses = [row["loss"] for row in read_log(folder)]
    third = len(losses) // 3
    return float(np.median(losses[-third:])) < 0.98 * float(np.median(losses[:third]))


@pytest.fixture(scope="module")
def pool(world: Any) -> TokenPool:
    return make_pool(fresh(world), world.cohort, world.features, world.recipe)


def test_stage_1_aligns_and_leaves_the_rest(world: Any, tmp_path: Path) -> None:
    parts = fresh(world)
    before = snapshot(parts)
    figures = align(parts, world.cohort, world.features, world.recipe, tmp_path / "stage1")
    moved = changed(before, snapshot(parts))
    assert {name.split(".")[0] for name in moved} == {"slide_encoder", "alignment"}
    still = {name for name in before if name.startswith(("slide_encoder.", "alignment."))} - moved
    assert all("cls_token" in name or "k_proj.bias" in name or "key.bias" in name for name in still), still
    assert fell(tmp_path / "stage1")
    assert 0 <= figures["retrieval"] <= 1


def test_stage_2_moves_the_projector_alone(world: Any, pool: TokenPool, llama: Any, tmp_path: Path) -> None:
    parts = talking(world, llama)
    before = snapshot(parts)
    project(parts, world.cohort, pool, world.recipe, tmp_path / "stage2")
    moved = changed(before, snapshot(parts))
    assert moved == {name for name in before if name.startswith("projector.")}
    assert fell(tmp_path / "stage2")


def test_stage_3_moves_projector_and_linear_layers_of_the_language_model(
    world: Any, pool: TokenPool, llama: Any, tmp_path: Path
) -> None:
    parts = talking(world, llama)
    before = snapshot(parts)
    instruct(parts, world.cohort, pool, world.recipe, tmp_path / "stage3")
    after = snapshot(parts)  # the same names: LoRA is merged and gone
    moved = changed(before, after)
    linear = {
        name
        for name, value in before.items()
        if name.startswith("language_model.") and value.ndim == 2 and "embed" not in name
    }
    assert moved == linear | {name for name in before if name.startswith("projector.")}
    assert fell(tmp_path / "stage3")


def test_batches_are_functions_of_their_number(world: Any, pool: TokenPool) -> None:
    """The same whether asked for in order or out of it: this is what makes resuming exact."""

    def makers() -> tuple[Any, Any, Any]:
        pad = world.tokenizer.pad_token_id
        plain = plain_samples(world.cohort, pool, world.tokenizer, world.recipe)
        asked = instruction_samples(world.cohort, pool, world.tokenizer, world.recipe)
        return (
            AlignmentData(world.cohort, world.features, world.tokenizer, world.recipe).batch,
            SampleBatches(pool, plain, 8, [1], pad).batch,
            SampleBatches(pool, asked, 8, [2], pad).batch,
        )

    for once, again in zip(makers(), makers(), strict=True):
        late = once(GROUPED + 3)
        again(0)
        for a, b in zip(tensors(late), tensors(again(GROUPED + 3)), strict=True):
            assert torch.equal(a, b)


def tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors(item)


def test_the_pool_holds_what_the_slide_encoder_says_of_its_regions(
    world: Any, pool: TokenPool, tmp_path: Path
) -> None:
    parts, config = fresh(world), world.recipe.model
    assert parts.slide_encoder is not None
    pool.save(tmp_path / "pool")
    again = TokenPool.load(tmp_path / "pool")
    assert again.slides == pool.slides
    assert again.boxes == pool.boxes
    i = int(pool.windows[0])
    box = again.boxes[i]
    assert box is not None
    shown = world.features[again.slides[i]].inside(box, 0.99)
    with torch.inference_mode():
        tokens = parts.slide_encoder.slide_tokens(
            torch.from_numpy(shown.features)[None],
            torch.from_numpy(shown.coords).float()[None],
            config.n_tokens,
            config.feature_dim,
        )[0]
    assert torch.allclose(again.tokens[[i]][0].float(), tokens, atol=5e-3)


def test_a_cohort_without_truth_maps_trains_on_reports_and_conversations(world: Any, tmp_path: Path) -> None:
    turns = {name: (Turn("What is seen?", "Tissue."),) for name in world.cohort.paths}
    bare = replace(world.cohort, truths={}, turns=turns)
    recipe = world.recipe.model_copy(
        update={
            "stage1": world.recipe.stage1.model_copy(
                update={"schedule": world.recipe.stage1.schedule.model_copy(update={"steps": 2})}
            )
        }
    )
    parts = fresh(world)
    figures = align(parts, bare, world.features, recipe, tmp_path / "stage1")
    assert 0 <= figures["retrieval"] <= 1
    pool = make_pool(parts, bare, world.features, recipe)
    assert len(pool) == len(bare.train)
    make = instruction_samples(bare, pool, world.tokenizer, recipe)
    words = {world.tokenizer.decode(ids) for _, ids, _ in make(np.random.default_rng(0))}
    assert all("tissue" in text for text in words)
