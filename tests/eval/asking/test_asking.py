"""What becomes of a chat model's words, and of its money, in an evaluation."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import eval_runs as runs
import pytest
from chat_server import ChatServer, Served, calls, refused, say

from agent.session.options import AskOptions
from core_model.errors import GiantError, UsageError
from eval.asking.results import Result
from eval.asking.runner import Outcome, ask_all
from eval.benchmarks.questions import Question

OPTIONS = ("low", "medium", "high", "none")


def question(number: int, **more: Any) -> Question:
    given: dict[str, Any] = {"options": OPTIONS, "answer": "high", "metric": "accuracy"} | more
    text = f"Question {number}: how high is it?"
    return Question(
        benchmark="demo", id=str(number), slide=f"s{number}.svs", question=text, prompt=text, **given
    )


def answer(choice: str = "high", **more: Any) -> Served:
    said = {
        "choice": choice,
        "text": "Words.",
        "confidence": 0.6,
        "abstain": False,
        "reason": "",
        "claims": [],
    }
    return calls(("answer", said | more))


def asked(
    root: Path,
    script: Callable[[dict[str, Any], int], Served],
    questions: list[Question],
    modes: list[str],
    **more: Any,
) -> tuple[Outcome, ChatServer]:
    if not (root / "slides").exists():
        runs.draw_slides(root / "slides", [q.slide for q in questions])
    with ChatServer(script) as server:
        return ask_all(runs.plan(root, server.url, questions, modes, **more), resume=True), server


def heard(root: Path, reply: Served, mode: str = "blind", **more: Any) -> Result:
    base_options = AskOptions(patches=2, patch_px=60) if mode == "patches" else AskOptions()
    (result,) = asked(root, lambda *_: reply, [question(1, **more)], [mode], base_options=base_options)[
        0
    ].results
    return result


@pytest.mark.parametrize("mode", ["blind", "thumbnail", "patches"])
def test_words_are_read_alike_in_every_mode(tmp_path: Path, mode: str) -> None:
    result = heard(tmp_path / "1", say('I think of glands.\n```json\n{"answer": 3}\n```'), mode)
    assert (result.said, result.unread, result.abstained) == ("high", False, False)
    assert "glands" in (result.reply or "")
    result = heard(tmp_path / "2", say("It may be low or medium."), mode)
    assert (result.said, result.unread, result.abstained) == (None, True, False)
    assert (result.reply, result.confidence) == ("It may be low or medium.", None)


def test_a_choice_that_is_none_is_read_once_more(tmp_path: Path) -> None:
    result = heard(tmp_path / "1", answer("Option C (high)"))
    assert (result.said, result.unread, result.calls) == ("high", False, 1)
    result = heard(tmp_path / "2", answer("a grade of its own"))
    assert (result.said, result.unread, result.calls) == (None, True, 2)


def test_refusals_are_replies_without_an_answer_and_abstentions_are_not(tmp_path: Path) -> None:
    result = heard(tmp_path / "1", refused("I cannot help with that."))
    assert (result.said, result.unread, result.abstained) == (None, True, False)
    assert "cannot help" in (result.reply or "")
    result = heard(tmp_path / "2", answer(abstain=True, reason="too blurred"))
    assert (result.said, result.unread, result.abstained) == (None, False, True)
    result = heard(tmp_path / "3", answer(abstain=True, reason="too blurred"), "patches")
    assert (result.said, result.unread, result.abstained) == (None, False, True)


def test_grades_and_open_answers_come_as_words(tmp_path: Path) -> None:
    grade: dict[str, Any] = {
        "options": None, "labels": tuple("012345"), "answer": "0", "answer_key": "isup_grade"
    }  # fmt: skip
    assert heard(tmp_path / "1", say('{"isup_grade": null}'), **grade).said == "0"
    assert heard(tmp_path / "2", answer("4"), **grade).said == "4"
    words: dict[str, Any] = {"options": None, "metric": "text", "answer": "Glands."}
    assert heard(tmp_path / "3", say("Fused glands."), **words).said == "Fused glands."


def test_without_a_slide_only_blind_can_be_asked(tmp_path: Path) -> None:
    with ChatServer(lambda *_: answer()) as server:
        plan = runs.plan(
            tmp_path, server.url, [question(1)], ["blind", "constant"], base_options=AskOptions()
        )
        results = ask_all(type(plan)(**vars(plan) | {"slides": None})).results
    assert [(r.mode, r.said, r.error) for r in results] == [
        ("blind", "high", None),
        ("constant", "high", None),
    ]


def priced(root: Path) -> Path:
    path = root / "prices.json"
    path.write_text(json.dumps({"openai:scripted": {"in": 1, "out": 10_000}}))
    return path


def spend(*_: Any) -> Served:
    """A reply of 1 USD."""
    reply = answer()
    assert isinstance(reply.body, dict)
    usage = {"prompt_tokens": 0, "completion_tokens": 100, "total_tokens": 100}
    return Served({**reply.body, "usage": usage})


@pytest.mark.parametrize("workers", [1, 2])
def test_the_limit_is_that_of_the_whole_evaluation(tmp_path: Path, workers: int) -> None:
    """A call may cost up to 45 USD (4,500 tokens of reply) and then costs 1: with 50 it is made six times."""
    questions = [question(n) for n in range(12)]
    money: dict[str, Any] = {"prices": priced(tmp_path), "workers": workers, "base_options": AskOptions()}
    dearest = run_one(tmp_path / "once", money)
    limit = dearest + 5.5
    outcome, server = asked(tmp_path, spend, questions, ["blind"], max_cost=limit, **money)
    assert outcome.left == 12 - len(outcome.results) > 0
    assert len(outcome.results) == 6
    assert sum(r.usd or 0 for r in outcome.results) <= limit
    paid = server.completed()
    assert len(paid) == len(set(paid)) == 6
    money["workers"] = 1
    more, server = asked(tmp_path, spend, questions, ["blind"], max_cost=dearest + 20, **money)
    assert more.left == 0
    assert len(server.completed()) == 6
    assert {r.said for r in more.results} == {"high"}


def run_one(root: Path, money: dict[str, Any]) -> float:
    """The least limit under which one call is made: the most that it may cost."""
    from agent.llm.profiles import profile_for

    root.mkdir()
    return profile_for("openai:scripted").max_tokens * 0.01 + 0.01


def test_a_question_cut_short_is_no_result_and_what_it_paid_is_kept(tmp_path: Path) -> None:
    from agent.llm.profiles import profile_for

    money: dict[str, Any] = {"prices": priced(tmp_path), "base_options": AskOptions(patches=4, patch_px=60)}
    dearest = profile_for("openai:scripted").max_tokens * 0.01
    outcome, server = asked(tmp_path, spend, [question(1)], ["patches"], max_cost=dearest + 1.5, **money)
    assert (outcome.left, outcome.results) == (1, [])
    first = len(server.completed())
    assert 0 < first < 4
    outcome, server = asked(tmp_path, spend, [question(1)], ["patches"], max_cost=dearest + 9, **money)
    assert outcome.left == 0
    assert first + len(server.completed()) == outcome.results[0].calls == 4
    assert outcome.results[0].usd == pytest.approx(4, abs=0.01)


def test_a_limit_needs_a_price(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="price"):
        asked(tmp_path, spend, [question(1)], ["blind"], max_cost=1.0, base_options=AskOptions())
    assert not (tmp_path / "out").exists()


def test_a_failure_costs_what_it_cost_and_goes_on_where_it_failed(tmp_path: Path) -> None:
    from chat_server import error

    def script(request: dict[str, Any], number: int) -> Served:
        return answer() if number < 3 else error(401, "no such key")

    base_options = AskOptions(patches=4, patch_px=60)
    outcome, _ = asked(tmp_path, script, [question(1)], ["patches"], base_options=base_options)
    (failed,) = outcome.results
    assert failed.error is not None
    assert (failed.calls, failed.said) == (2, None)
    outcome, server = asked(
        tmp_path, lambda *_: answer(), [question(1)], ["patches"], base_options=base_options
    )
    assert (outcome.results[0].said, outcome.results[0].calls) == ("high", 4)
    assert len(server.completed()) == 2


def test_votes_agree_or_not(tmp_path: Path) -> None:
    def script(request: dict[str, Any], number: int) -> Served:
        return answer("high" if number % 3 else "low")

    base_options = AskOptions(votes=3, profile="giant", max_steps=2)
    outcome, _ = asked(tmp_path, script, [question(1)], ["agent"], base_options=base_options)
    (result,) = outcome.results
    assert (result.said, result.agreement) == ("high", pytest.approx(2 / 3))


def test_kept_runs_are_linked_from_the_page(tmp_path: Path) -> None:
    from eval.scores.scoring import score_folder

    asked(
        tmp_path,
        lambda *_: answer(),
        [question(1)],
        ["thumbnail", "blind"],
        base_options=AskOptions(),
        keep_runs=True,
    )
    score_folder(tmp_path / "out", lambda line: None)
    page = (tmp_path / "out" / "index.html").read_text()
    assert 'href="runs/thumbnail/demo/1/report.html"' in page
    assert 'href="runs/blind/demo/1/"' in page
    assert (tmp_path / "out" / "runs" / "thumbnail" / "demo" / "1" / "report.html").is_file()


def test_a_missing_key_ends_it_before_anything_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_API_BASE"):
        monkeypatch.delenv(name, raising=False)
    plan = runs.plan(tmp_path, "", [question(1)], ["blind"], base_options=AskOptions())
    plan = type(plan)(**vars(plan) | {"base_options": AskOptions()})
    with pytest.raises(GiantError, match="OPENAI_API_KEY"):
        ask_all(plan)
    assert not (tmp_path / "out").exists()
