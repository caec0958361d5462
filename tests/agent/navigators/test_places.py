"""Which window is looked at next."""

from __future__ import annotations

import random

import agent_fakes as fakes
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.navigators.search import choose, discrimination, grid, scales, seen_shares, window_around
from core_model.slides.box import Box
from core_model.slides.tissue import TissueMask

SLIDE = Box(0, 0, 4000, 3000)


def tissue(right_half_only: bool = False) -> TissueMask:
    mask = np.ones((300, 400), dtype=bool)
    mask[:, :200] = not right_half_only
    return TissueMask(mask, np.zeros_like(mask), 10.0, SLIDE, 1.0)


@settings(deadline=None)
@given(st.integers(-500, 5000), st.integers(-500, 5000), st.integers(1, 6000))
def test_windows_lie_on_the_slide(x: int, y: int, side: int) -> None:
    box = window_around((x, y), side, SLIDE)
    assert box.intersect(SLIDE) == box
    assert (box.w, box.h) == (min(side, 4000), min(side, 3000))


@settings(deadline=None)
@given(st.integers(150, 5000))
def test_a_grid_covers_its_area(side: int) -> None:
    boxes = grid(side, SLIDE)
    assert all(box.intersect(SLIDE) == box for box in boxes)
    for x, y in ((0, 0), (3999, 2999), (2000, 1500), (3999, 0)):
        assert any(box.contains(x, y) for box in boxes)


def test_a_grid_of_a_huge_slide_is_thinned() -> None:
    assert 2000 < len(grid(100, Box(0, 0, 100_000, 100_000))) <= 4096


def test_scales_follow_the_slide() -> None:
    coarse, fine = scales(fakes.fake_slide())
    assert (coarse.side, coarse.mpp) == (900, 2.0)
    assert (fine.side, fine.mpp) == (450, 1.0)  # the slide has nothing finer than 1 µm/px


def test_a_tile_that_only_one_search_found_counts_against_the_others_worst() -> None:
    first = [{"box": [0, 0, 10, 10], "score": 0.9}, {"box": [10, 0, 10, 10], "score": 0.5}]
    second = [{"box": [10, 0, 10, 10], "score": 0.4}]
    worth = discrimination(first, second)
    assert worth[Box(0, 0, 10, 10)] == 0.9 - 0.4
    assert abs(worth[Box(10, 0, 10, 10)] - 0.1) < 1e-9


def test_the_most_discriminating_place_is_chosen_until_it_was_seen() -> None:
    worth = {Box(3000, 2000, 100, 100): 0.8, Box(200, 200, 100, 100): 0.3}
    first = choose(900, SLIDE, worth, [], tissue(), random.Random(0))
    assert first is not None
    assert first.retrieved
    assert first.box.contains(3050, 2050)
    second = choose(900, SLIDE, worth, [first.box], tissue(), random.Random(0))
    assert second is not None
    assert second.box.contains(250, 250)
    third = choose(900, SLIDE, worth, [first.box, second.box], tissue(), random.Random(0))
    assert third is not None
    assert not third.retrieved


def test_glass_is_never_chosen_and_the_search_ends() -> None:
    seen: list[Box] = []
    while (choice := choose(900, SLIDE, {}, seen, tissue(True), random.Random(0))) is not None:
        assert tissue(True).share(choice.box) >= 0.1
        assert seen_shares([choice.box], seen)[0] < 0.5
        seen.append(choice.box)
    assert tissue(True).covered(seen) > 0.8


def test_ties_fall_by_seed() -> None:
    def pick(seed: int) -> Box:
        choice = choose(900, SLIDE, {}, [], tissue(), random.Random(seed))
        assert choice is not None
        return choice.box

    assert pick(1) == pick(1)
    assert len({pick(seed) for seed in range(20)}) > 1
