"""Each stage learns, and changes exactly the tensors that are its to change."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core_model.checkpoints.parts import Parts, new_model
from core_model.language.conversation import Turn
from training.cohort.corpus import truth_document
from training.cohort.regions import Region, whole_slide
from training.engine.fit import read_log
from training.engine.shares import BatchShare
from training.language.pretrain import pretrain_language_model
from training.stages.align import AlignmentData, AlignmentTask, align, stack_tiles
from training.stages.conversations import (
    GROUPED,
    LlavaTask,
    SampleBatches,
    instruction_samples,
    plain_samples,
)
from training.stages.instruct import add_lora, instruct
from training.stages.pool import TokenPool, make_pool
from training.stages.project import project

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


@pytest.mark.parametrize(("pooling", "read"), [("mean", "global_pool"), ("class", "class_token")])
def test_stages_see_the_one_token_that_the_recipe_asks_for(world: Any, pooling: str, read: str) -> None:
    parts = fresh(world)
    assert parts.slide_encoder is not None
    recipe = world.recipe.model_copy(update={"pooling": pooling, "n_tokens": 1})
    assert recipe.model.pooling == pooling
    tokens = make_pool(parts, world.cohort, world.features, recipe).tokens[[0]]
    tiles, places = stack_tiles(world.features, *alone(world), recipe)
    with torch.inference_mode():
        wanted = getattr(parts.slide_encoder, read)(tiles, places)
        task = AlignmentTask(parts, 1, pooling=pooling)
        in_stage_1 = task.embed([(tiles, places)])
        head = task.alignment.head(wanted[:, None])
    torch.testing.assert_close(tokens[:, 0].float(), wanted, rtol=0, atol=2e-3)  # the pool is float16
    torch.testing.assert_close(in_stage_1, head)


def alone(world: Any) -> tuple[list[Region], list[Any]]:
    """The first training slide, whole."""
    name = world.cohort.train[0]
    region = whole_slide(name, world.features[name])
    return [region], [region.tiles]


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


def in_float32(world: Any, **schedule: Any) -> Any:
    """The recipe for exact comparisons: no dropout, few steps."""
    recipe, changes = world.recipe, {"precision": "float32", "steps": 4} | schedule
    stages = {
        name: (settings := getattr(recipe, name)).model_copy(
            update={"schedule": settings.schedule.model_copy(update=changes)}
        )
        for name in ("stage1", "stage2", "stage3")
    }
    stages["stage3"] = stages["stage3"].model_copy(update={"dropout": 0.0})
    alignment = recipe.alignment.model_copy(update={"dropout": 0.0})
    return recipe.model_copy(update=stages | {"alignment": alignment})


@pytest.mark.parametrize(("count", "micro_batch"), [(1, 4), (2, 2), (3, 2), (5, None)])
def test_processes_and_micro_batches_share_the_loss_of_a_step(
    world: Any, pool: TokenPool, llama: Any, count: int, micro_batch: int | None
) -> None:
    """Mean over processes and parts: loss and gradients of the whole batch, divided evenly or not."""
    recipe = in_float32(world)
    make = instruction_samples(world.cohort, pool, world.tokenizer, recipe)
    llava = talking(world, llama).llava
    assert llava is not None
    task = LlavaTask(llava)
    weight = llava.model.multi_modal_projector.linear_1.weight

    def learned(rank: int, world_size: int, at_once: int | None) -> tuple[float, torch.Tensor]:
        share = BatchShare(rank, world_size, at_once)
        batches = SampleBatches(pool, make, 8, [2], world.tokenizer.pad_token_id, share)
        weight.grad, found = None, []
        for part in range(batches.parts):
            batch = batches.batch(3 * batches.parts + part)
            assert batch.pop("counts")["samples"] == 8
            loss = task(**batch)["loss"] / batches.parts
            loss.backward()
            found.append(loss.item())
        assert weight.grad is not None
        return sum(found), weight.grad.clone()

    whole = learned(0, 1, None)
    shared = [learned(rank, count, micro_batch) for rank in range(count)]
    assert sum(loss for loss, _ in shared) / count == pytest.approx(whole[0], abs=1e-6)
    mean = torch.stack([grad for _, grad in shared]).mean(dim=0)
    assert torch.allclose(mean, whole[1], atol=1e-6)


def test_slide_tokens_may_lie_in_files(world: Any, pool: TokenPool) -> None:
    """A pool is asked for the rows of this process's samples, and for no others."""
    asked: list[int] = []

    class Files:
        def __getitem__(self, rows: list[int]) -> torch.Tensor:
            asked.extend(rows)
            return pool.tokens[rows]

    make = plain_samples(world.cohort, pool, world.tokenizer, world.recipe)
    batches = SampleBatches(replace(pool, tokens=Files()), make, 8, [1], 0, BatchShare(1, 2, 2))
    plain = SampleBatches(pool, make, 8, [1], 0, BatchShare(1, 2, 2))
    assert torch.equal(batches.batch(5)["slide_features"], plain.batch(5)["slide_features"])
    assert len(asked) == 2


def test_processes_share_the_regions_and_texts_of_a_step(world: Any) -> None:
    whole = AlignmentData(world.cohort, world.features, world.tokenizer, world.recipe).batch(7)
    shares = [
        AlignmentData(world.cohort, world.features, world.tokenizer, world.recipe, BatchShare(rank, 3)).batch(
            7
        )
        for rank in range(3)
    ]
    regions = [tiles for share in shares for call, _ in share["groups"] for tiles in call]
    (places,) = {tuple(share["places"].tolist()) for share in shares}
    for tiles, place in zip([t for call, _ in whole["groups"] for t in call], places, strict=True):
        assert torch.equal(tiles, regions[place])
    for kind in ("long", "short"):
        texts = torch.cat([share[kind]["ids"] for share in shares])
        assert torch.equal(texts[shares[1][kind]["places"]], whole[kind]["ids"])
        assert all(torch.equal(share[kind]["fits"], whole[kind]["fits"]) for share in shares)
    assert whole["counts"] == shares[2]["counts"]


@pytest.mark.parametrize("turns", [1, 2])
def test_a_sample_has_as_many_questions_as_the_recipe_says(world: Any, pool: TokenPool, turns: int) -> None:
    stage3 = world.recipe.stage3.model_copy(update={"turns": turns, "max_length": 500})
    recipe = world.recipe.model_copy(update={"stage3": stage3})
    make = instruction_samples(world.cohort, pool, world.tokenizer, recipe)
    texts = [world.tokenizer.decode(ids) for _, ids, _ in make(np.random.default_rng(0))]
    assert {text.count("assistant:") for text in texts} == {turns}


def test_short_texts_weigh_as_the_recipe_says_and_the_scale_has_a_limit(world: Any) -> None:
    batch = AlignmentData(world.cohort, world.features, world.tokenizer, world.recipe).batch(0)
    inputs = {key: value for key, value in batch.items() if key != "counts"}
    parts = fresh(world)

    def loss(short_weight: float) -> float:
        task = AlignmentTask(parts, world.recipe.n_tokens, short_weight).eval()
        with torch.no_grad():
            return float(task(**inputs)["loss"])

    long, both, doubled = (loss(weight) for weight in (0.0, 1.0, 2.0))
    assert both > long > 0
    assert doubled - long == pytest.approx(2 * (both - long), rel=1e-4)
    assert parts.alignment is not None
    losses = []
    for scale in (100.0, 1e4):
        parts.alignment.logit_scale.data.fill_(float(np.log(scale)))
        losses.append(loss(1.0))
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)  # CLIP's limit


@pytest.mark.parametrize("changes", [{"micro_batch": 3}, {"recompute": True}])
def test_stages_learn_the_same_whatever_is_computed_at_a_time(
    world: Any, pool: TokenPool, llama: Any, tmp_path: Path, changes: dict[str, Any]
) -> None:
    found = []
    for number, recipe in enumerate((in_float32(world), in_float32(world, **changes))):
        parts = new_model(recipe.model.for_tokenizer(world.tokenizer), world.tokenizer, seed=1)
        assert parts.llava is not None
        parts.llava.take_language_model(llama)
        folder = tmp_path / str(number)
        align(parts, world.cohort, world.features, recipe, folder / "stage1")
        project(parts, world.cohort, pool, recipe, folder / "stage2")
        instruct(parts, world.cohort, pool, recipe, folder / "stage3")
        found.append([row["loss"] for n in (1, 2, 3) for row in read_log(folder / f"stage{n}")])
    assert found[0] == pytest.approx(found[1], abs=1e-5)


def test_lora_begins_the_same_whatever_was_drawn_before(world: Any) -> None:
    first = []
    for seed in (1, 2):
        llava = fresh(world).llava
        torch.manual_seed(seed)
        add_lora(llava, world.recipe.stage3, seed=5)
        assert torch.initial_seed() == seed
        first.append({name: p.clone() for name, p in llava.named_parameters() if "lora_A" in name})
    assert first[0]
    assert all(torch.equal(value, first[1][name]) for name, value in first[0].items())
