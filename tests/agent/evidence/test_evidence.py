"""The evidence contract, on answers made by hand."""

from __future__ import annotations

import math
from typing import Any

import agent_fakes as fakes
import pytest

from agent.evidence import check as evidence
from agent.evidence.claims import cited_steps
from agent.run.records import Action, Answer, Evidence, SlideFacts, Step
from core_model.slides.box import Box
from tools.records import Observation

BOX = Box(10, 20, 300, 400)


def step(index: int = 1, ok: bool = True, tool: str = "zoom") -> Step:
    seen = Observation(tool=tool, ok=ok, text="Seen.", box=BOX, mpp=0.5, image="regions/a.jpg")
    return Step(index=index, action=Action(tool=tool), observation=seen, finding="Glands.")


def cited(**changes: Any) -> Evidence:
    told = {"step": 1, "tool": "zoom", "box": BOX, "mpp": 0.5, "finding": "Glands.", "image": "regions/a.jpg"}
    return Evidence.model_validate(told | changes)


def answer(**changes: Any) -> Answer:
    told = {
        "question": "What is it?",
        "answer": "Glands, see step 1.",
        "confidence": 0.9,
        "evidence": [cited()],
        "coverage": {"0.5": 0.2},
        "model": "m",
        "mode": "agent",
        "slide": SlideFacts(id="s", width=1000, height=1000, mpp=0.5),
        "run_dir": "run",
    }
    return Answer.model_validate(told | changes)


def test_a_true_citation_stands() -> None:
    assert evidence.check_answer(answer(), [step()]) == []


@pytest.mark.parametrize(
    ("citation", "says"),
    [
        ({"step": 7}, "does not exist"),
        ({"box": Box(10, 20, 300, 401)}, "showed box (10, 20, 300, 400)"),
        ({"box": None}, "not none"),
        ({"mpp": 0.25}, "0.5 µm/px, not 0.25"),
        ({"mpp": None}, "not None"),
        ({"tool": "ask_region"}, "a call of zoom"),
        ({"image": "regions/b.jpg"}, "regions/a.jpg"),
    ],
)
def test_a_citation_that_differs_from_its_step_fails(citation: dict[str, Any], says: str) -> None:
    problems = evidence.check_answer(answer(evidence=[cited(**citation)]), [step()])
    assert len(problems) == 1
    assert says in problems[0]


def test_a_failed_look_supports_nothing() -> None:
    assert "did not succeed" in evidence.check_answer(answer(), [step(ok=False)])[0]


def test_an_answer_needs_evidence_but_an_abstention_needs_a_reason() -> None:
    assert evidence.check_answer(answer(evidence=[]), [step()]) == ["The answer cites no step."]
    silent = answer(evidence=[], abstained=True)
    assert evidence.check_answer(silent, [step()]) == ["The answer abstains without a reason."]
    assert evidence.check_answer(silent.model_copy(update={"reason": "Unknown stain."}), [step()]) == []


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan, math.inf])
def test_confidence_and_coverage_are_shares(value: float) -> None:
    assert "confidence" in evidence.check_answer(answer(confidence=value), [step()])[0]
    assert "coverage at 0.5" in evidence.check_answer(answer(coverage={"0.5": value}), [step()])[0]


def test_the_choice_is_one_of_the_options() -> None:
    two = answer(options=["yes", "maybe"], choice="perhaps")
    assert "none of the options" in evidence.check_answer(two, [step()])[0]
    assert "chooses" in evidence.check_answer(answer(choice="yes", abstained=True, reason="r"), [step()])[0]


@pytest.mark.parametrize("claim", ["no tumour", "Absent.", "benign tissue", "free of mitoses", "None", "no"])
def test_absence_is_claimed_with_coverage(claim: str) -> None:
    bare = answer(answer=claim)
    assert "absent" in evidence.check_answer(bare, [step()])[0]
    assert evidence.check_answer(answer(answer=f"{claim}; 20 % of the tissue was seen"), [step()]) == []
    assert evidence.check_answer(answer(answer=f"{claim}; 20 % seen", coverage={}), [step()])


def test_presence_needs_no_coverage() -> None:
    assert not evidence.claims_absence("grade 3 adenocarcinoma with focal necrosis")
    assert evidence.check_answer(answer(coverage={}), [step()]) == []


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("steps 2, 5 and 7", [2, 5, 7]),
        ("See step 12.", [12]),
        ("two steps back", []),
        ("step 3; step 1", [1, 3]),
    ],
)
def test_steps_named_in_the_text_are_found(text: str, numbers: list[int]) -> None:
    assert cited_steps(text) == numbers


def test_a_step_named_in_the_text_must_exist() -> None:
    assert evidence.check_answer(answer(answer="As step 4 shows."), [step()]) == [
        "The text cites step 4, which does not exist."
    ]


def test_what_stays_unsupported_is_marked() -> None:
    wrong = answer(confidence=math.nan)
    marked = evidence.mark(wrong, evidence.check_answer(wrong, [step()]), [step()])
    assert "Unsupported:" in marked.answer
    assert marked.confidence == 0.0


def test_the_search_navigator_makes_claims_of_its_looks(run_agent: Any) -> None:
    *steps, made = run_agent(options=fakes.OPTIONS, model=fakes.FakeModel(sharpness=1.0))
    assert evidence.check_answer(made, steps) == []
    leading, *others = made.claims
    assert leading.text == "Pink tissue."
    assert not leading.against
    assert all(claim.against for claim in others)
    asked = [step.index for step in steps if step.action.tool == "ask_region"]
    assert sorted(index for claim in made.claims for index in claim.steps) == asked
    assert all(claim.unsupported is None for claim in made.claims)
