"""The words of an answer, and when a search counts as settled."""

from __future__ import annotations

from typing import Any

import agent_fakes as fakes
import numpy as np
import pytest

from agent.evidence.coverage import LEVELS, coverage, coverage_in_words
from agent.navigators.weigh import UNANIMOUS, Looks
from agent.run.records import Action, Step
from agent.text import answer_sentence, answer_words, no_answer
from core_model.slides.box import Box
from core_model.slides.tissue import TissueMask
from tools.records import Observation

SLIDE = Box(0, 0, 4000, 3000)


def look(index: int, box: Box, posterior: dict[str, float] | None = None, mpp: float = 1.0) -> Step:
    return Step(
        index=index,
        action=Action(tool="ask_region", args={"box": list(box)}),
        observation=Observation(tool="ask_region", text="Asked.", box=box, mpp=mpp, image="a.jpg"),
        finding="Asked.",
        posterior=posterior,
    )


def looks(*shares: float) -> Looks:
    """The whole slide and then regions, each with the probability of "a" after it."""
    boxes = [SLIDE, *(Box(100 * i, 0, 50, 50) for i in range(len(shares) - 1))]
    pairs = enumerate(zip(boxes, shares, strict=True), 1)
    return Looks([look(i, box, {"a": p, "b": 1 - p}) for i, (box, p) in pairs], SLIDE)


@pytest.mark.parametrize(
    ("shares", "settled"),
    [
        ((0.9, 0.9, 0.9), False),  # two regions, where three are required
        ((0.9, 0.9, 0.9, 0.9), True),
        ((0.95, 0.3, 0.8, 0.8), False),  # one look changed 0.65, the lead is 0.6
        ((0.75, 0.25, 0.75, 0.75), False),  # a lead no larger than a change is no lead
    ],
)
def test_a_search_is_settled_by_enough_regions_and_a_lead_that_no_look_can_undo(
    shares: tuple[float, ...], settled: bool
) -> None:
    assert (looks(*shares).settled(3) is not None) is settled


def test_one_answer_everywhere_is_settled() -> None:
    steps = [look(i, Box(100 * i, 0, 50, 50), {"a": 1.0}) for i in range(1, 4)]
    assert Looks(steps, SLIDE).settled(3) == UNANIMOUS


def test_an_open_answer_says_first_what_and_how_surely_then_why_then_what_was_seen(run_agent: Any) -> None:
    *_, answer = run_agent(max_steps=16)
    shown = answer.coverage["2.0"]
    assert answer.answer == (
        "Pink tissue, confidence 0.80. The model gave this answer for the whole slide and for all 3 regions"
        " it was asked about (steps 2, 5, 6 and 8); no other answer came first anywhere. Of the tissue, 100 %"
        f" was shown at 8 µm/px or finer, {shown * 100:.0f} % at 2 µm/px or finer and 0 % at 0.5 µm/px or"
        " finer. All 910 tiles were read by the slide model."
    )


def no_search(tool: str, box: Box) -> bool:
    return tool == "retrieve"


def test_what_came_first_elsewhere_is_named(run_agent: Any) -> None:
    tiles = fakes.all_features()
    tiles.features[:] = tiles.coords[:, :1] < 1000  # a quarter is grey: some regions are grey throughout
    model, tools = fakes.FakeModel(sharpness=1.0), {"features": tiles, "broken": no_search}
    *_, answer = run_agent(options=fakes.OPTIONS, model=model, tools=tools)
    assert answer.choice == "pink tissue"
    against = [index for claim in answer.claims if claim.against for index in claim.steps]
    assert against
    assert all(f"step {index} (" in answer.answer for index in against)
    assert "grey tissue came first at step" in answer.answer
    sides = {item.step: item.finding.split(" the answer.")[0] for item in answer.evidence}
    assert {index for index, side in sides.items() if side == "Speaks against"} == set(against)
    assert set(sides.values()) == {"Supports", "Speaks against"}


def test_an_abstention_begins_with_its_reason(run_agent: Any) -> None:
    *_, answer = run_agent(options=fakes.OPTIONS, model=fakes.FakeModel(slide_unfamiliarity=1.7))
    assert answer.answer.startswith("No answer: the model 'fake' does not know this kind of slide")
    assert "The model was therefore not asked. Steps 1, 2 and 3 show the slide." in answer.answer


@pytest.mark.parametrize(
    ("answer", "sentence", "words"),
    [
        ("grade 2", "Grade 2, confidence 0.95.", "Grade 2."),
        ("It is a tumour. It is large.", "It is a tumour. It is large. Confidence 0.95.", "It is a tumour."),
    ],
)
def test_the_first_sentence_and_its_words(answer: str, sentence: str, words: str) -> None:
    assert answer_sentence(answer, 0.951) == sentence
    assert answer_words(f"{sentence} And why.", 0.951) == words
    assert no_answer("the model declined.") == "No answer: the model declined."


@pytest.mark.parametrize(
    ("shares", "words"),
    [
        ({"0.5": 0.064, "2.0": 0.47, "8.0": 1.0}, "100 % was shown at 8 µm/px or finer, 47 % at 2 µm/px"),
        ({"0.5": 0.0, "2.0": 1.0, "8.0": 1.0}, "100 % was shown at 2 µm/px or finer and 0 % at 0.5 µm/px"),
        ({"0.5": 0.0, "2.0": 0.0, "8.0": 0.999}, "over 99 % was shown at 8 µm/px or finer and 0 % at 2 µm"),
        ({}, "not known"),
    ],
)
def test_coverage_in_words(shares: dict[str, float], words: str) -> None:
    assert words in coverage_in_words(shares)


def test_a_20x_scan_a_hair_coarser_than_its_name_counts_as_20x() -> None:
    mask = np.ones((30, 40), dtype=bool)
    tissue = TissueMask(mask, np.zeros_like(mask), 100.0, SLIDE, 1.0)
    for level in LEVELS:
        assert coverage(tissue, [look(1, SLIDE, mpp=level * 1.009)])[str(level)] == 1.0
        assert coverage(tissue, [look(1, SLIDE, mpp=level * 1.02)])[str(level)] == 0.0
