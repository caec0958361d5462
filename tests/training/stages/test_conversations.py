"""Where nobody can draw new questions, every written one comes once an epoch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from core_model.language.conversation import Turn
from training.stages.conversations import (
    GROUPED,
    conversations,
    epoch_positions,
    instruction_samples,
    plain_samples,
)
from training.stages.pool import TokenPool


@given(
    count=st.integers(1, 40), first=st.integers(0, 100), wanted=st.integers(0, 100), epochs=st.integers(1, 3)
)
def test_an_epoch_deals_each_once_however_it_is_cut(count: int, first: int, wanted: int, epochs: int) -> None:
    whole = epoch_positions(count, 0, max(first + wanted, count * epochs), [3])
    assert epoch_positions(count, first, wanted, [3]) == whole[first : first + wanted]
    for epoch in range(epochs):
        assert sorted(whole[epoch * count : (epoch + 1) * count]) == list(range(count))


def bare(world: Any) -> Any:
    """The world's cohort without truth maps, with three written questions about each slide."""
    turns = {
        name: tuple(Turn(f"question {k}?", f"answer {k}.") for k in range(3)) for name in world.cohort.train
    }
    return replace(world.cohort, truths={}, turns=turns)


def test_every_written_question_is_seen_once_an_epoch(world: Any) -> None:
    cohort = bare(world)
    names = cohort.train[:8]
    pool = TokenPool(torch.zeros(8, 4, 24), names, (None,) * 8)
    recipe = world.recipe.model_copy(
        update={"stage3": world.recipe.stage3.model_copy(update={"turns": 1, "whole_share": 1.0})}
    )
    written = conversations(cohort, pool, 1)
    assert len(written) == 24
    make = instruction_samples(cohort, pool, world.tokenizer, recipe)
    rng = np.random.default_rng(0)
    each = recipe.stage3.schedule.batch * GROUPED
    seen = [(i, *ids) for turn in range(3) for i, ids, _ in make(rng, turn)]
    assert each == 64
    for epoch in range(len(seen) // 24):
        assert len(set(seen[epoch * 24 : (epoch + 1) * 24])) == 24


def test_every_slide_is_described_once_an_epoch(world: Any) -> None:
    cohort = bare(world)
    pool = TokenPool(torch.zeros(8, 4, 24), cohort.train[:8], (None,) * 8)
    samples = plain_samples(cohort, pool, world.tokenizer, world.recipe)(np.random.default_rng(0), 0)
    for epoch in range(len(samples) // 8):
        assert sorted(i for i, _, _ in samples[epoch * 8 : (epoch + 1) * 8]) == list(range(8))
