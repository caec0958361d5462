"""The second look with fresh eyes: what it is shown, and what its verdict does to the answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import chat_fakes as chat
import pytest
from langchain_core.messages import AIMessage

from agent.chat import review
from agent.llm.client import OverBudget

Ask = Callable[..., chat.Ran]
FEW = {"max_steps": 5}


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plain_reports: None) -> Ask:
    return chat.asker(tmp_path, monkeypatch)


def looked_again(ask: Ask, *verdicts: AIMessage, **given: Any) -> chat.Ran:
    """A run that looks once, says what it saw, and cites it for and against."""
    seen = [{"step": 1, "finding": "Two pieces."}, {"step": 3, "finding": "Dark dots."}]
    final = chat.answer(
        text="CONCLUSION of pink tissue.",
        seen=seen,
        claims=[
            {"text": "CLAIM of pink tissue.", "steps": [1], "against": False, "section": ""},
            {"text": "CLAIM of dark tissue.", "steps": [3], "against": True, "section": ""},
        ],
    )
    return ask(chat.line(chat.calls(final), *verdicts), **(FEW | given))


def test_it_sees_the_evidence_and_not_the_conclusion(ask: Ask) -> None:
    ran = looked_again(ask, chat.verdict())
    asked = ran.way.asked[-1]
    words = chat.text_of(asked)
    assert chat.images(asked) == 2
    for told in (
        "Which tissue is it?",
        "- grey tissue",
        "Two pieces.",
        "Dark dots.",
        "Tissue seen: 0.0% at 0.5",
    ):
        assert told in words
    for hidden in ("CONCLUSION", "CLAIM", "0.8", "navigator"):
        assert hidden not in words
    assert ran.way.tools[-1] == ["verdict"]


@pytest.mark.parametrize(("second", "kept"), [(0.6, 0.6), (0.95, 0.8)])
def test_agreement_keeps_the_lower_confidence(ask: Ask, second: float, kept: float) -> None:
    ran = looked_again(ask, chat.verdict("B", second))
    assert (ran.answer.choice, ran.answer.confidence, ran.answer.reason) == ("pink tissue", kept, None)


def test_none_of_these_is_none_of_the_above() -> None:
    candidates = ["pink tissue", "grey tissue", "None of the above"]
    assert review._candidate_of("none of these", candidates, "") == "None of the above"
    assert review._candidate_of("None", candidates, "") == "None of the above"
    assert review._candidate_of("none of these", candidates[:2], "") == "none of these"
    assert review._candidate_of("none of these", ["None", "Mild"], "") == "none of these"
    assert review._candidate_of("HER2-", ["HER2+", "HER2-"], "") == "HER2-"


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (chat.verdict("grey tissue", 0.5), "grey tissue (0.50)"),
        (chat.verdict("none of these", 0.9), "none of these (0.90)"),
        (chat.verdict("pink tissue", 0.9, conflict=True), "the evidence conflicts"),
    ],
)
def test_conflict_or_a_likelier_answer_ends_in_an_abstention(ask: Ask, said: AIMessage, why: str) -> None:
    answer = looked_again(ask, said).answer
    assert (answer.abstained, answer.choice) == (True, None)
    assert why in str(answer.reason)
    assert "It is pink." in str(answer.reason)
    assert "Before it the answer was: pink tissue (0.80)" in answer.answer
    assert answer.evidence


def test_a_weak_objection_lowers_the_confidence(ask: Ask) -> None:
    answer = looked_again(ask, chat.verdict("grey tissue", 0.4)).answer
    assert (answer.choice, answer.confidence) == ("pink tissue", pytest.approx(0.6))
    assert "leaned to grey tissue (0.40)" in str(answer.reason)


@pytest.mark.parametrize(
    "bad",
    [
        AIMessage("It is fine."),
        AIMessage(""),
        chat.verdict("blue tissue"),
        chat.verdict(confidence="high"),  # type: ignore[arg-type]
        chat.calls(("zoom", {"x": 0})),
        AIMessage("", additional_kwargs={"refusal": "no"}),
    ],
)
def test_a_verdict_is_asked_for_twice_and_then_done_without(ask: Ask, bad: AIMessage) -> None:
    ran = looked_again(ask, bad, chat.verdict(confidence=0.5))
    assert (ran.answer.confidence, ran.answer.reason) == (0.5, None)
    ran = looked_again(ask, bad)
    assert len(ran.way.asked) == 3
    assert (ran.answer.choice, ran.answer.confidence) == ("pink tissue", 0.8)
    assert "No second look confirmed it" in str(ran.answer.reason)


def test_without_money_the_answer_stands_unconfirmed(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    def broke(*args: Any, **more: Any) -> None:
        raise OverBudget("nothing is left")

    monkeypatch.setattr(review, "ask_chat_model", broke)
    answer = looked_again(ask, chat.verdict()).answer
    assert (answer.choice, answer.confidence) == ("pink tissue", 0.8)
    assert "no money left" in str(answer.reason)


def test_an_open_answer_is_one_among_those_that_were_considered(ask: Ask) -> None:
    shares = [("pink", 0.6), ("violet", 0.3), ("grey", 0.1)]
    leaning = [{"answer": name, "probability": p} for name, p in shares]
    look = chat.zoom(100, 100, 200, 200, leaning=leaning)
    final = chat.answer(text="Pink tissue throughout.", choice="Pink")
    way = chat.line(chat.calls(look), chat.calls(final), chat.verdict("pink", 0.7))
    ran = ask(way, options=None, **FEW)
    words = chat.text_of(way.asked[-1])
    assert "- Pink\n- grey\n- violet\n- none of these" in words
    assert "Pink tissue throughout" not in words
    assert (ran.answer.answer, ran.answer.confidence) == ("Pink tissue throughout.", 0.7)
    way = chat.line(chat.calls(look), chat.calls(final), chat.verdict("violet", 0.7))
    assert ask(way, options=None, **FEW).answer.abstained
