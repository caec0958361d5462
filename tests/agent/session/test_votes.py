"""Several runs of one question, and what their majority says."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import agent_fakes as fakes
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.evidence.check import check_answer
from agent.graph.control import Control
from agent.run.folder import read_trace
from agent.run.records import (
    Answer,
    Cost,
    RunRecord,
    SlideFacts,
    Step,
    Vote,
)
from agent.session.votes import Ballot, options_of_vote, whole, write_whole
from agent.text import answer_sentence
from core_model.errors import RunError

Run = Callable[..., list[Any]]
OPTIONS = ["a", "b", "c"]


def record(options: list[str] | None, votes: int) -> RunRecord:
    return fakes.run_record(options=options, votes=votes)


def ballot(
    number: int, said: str | None, confidence: float = 0.5, *, cut: bool = False, closed: bool = True
) -> Ballot:
    """A vote for `said`, or an abstention."""
    answer = Answer(
        question="?",
        answer=f"{said}. And more about vote {number}." if said else "No answer is given.",
        choice=said if closed else None,
        confidence=confidence,
        abstained=said is None,
        reason=None if said else f"doubt {number}",
        model="m",
        mode="agent",
        slide=SlideFacts(id="s"),
        cost=Cost(seconds=1.0, regions=2, tokens_in=3, calls=4, usd=0.25),
        run_dir=f"votes/{number}",
    )
    return Ballot(run=f"votes/{number}", seed=number - 1, answer=answer, cut=cut)


def decided(*said: tuple[str | None, float], options: list[str] | None = OPTIONS) -> Answer:
    ballots = [ballot(n, one, p, closed=options is not None) for n, (one, p) in enumerate(said, 1)]
    return whole(record(options, len(said)), "run", ballots)[0]


def test_the_majority_answers_in_the_words_of_its_surest_vote() -> None:
    answer = decided(("a", 0.9), ("b", 0.4), ("b", 0.6))
    assert answer.choice == "b"
    assert answer.answer == "b. And more about vote 3."
    assert answer.agreement == pytest.approx(2 / 3)
    assert answer.confidence == pytest.approx(0.5 * 2 / 3)
    assert [vote.choice for vote in answer.votes] == ["a", "b", "b"]
    assert answer.options == OPTIONS
    assert answer.cost == Cost(seconds=3.0, regions=6, tokens_in=9, calls=12, usd=0.75)


@pytest.mark.parametrize(
    ("said", "choice"),
    [
        ([("b", 0.5), ("a", 0.6)], "a"),  # the larger sum
        ([("b", 0.5), ("a", 0.5)], "a"),  # the given order
        ([("c", 0.3), ("a", 0.9), ("c", 0.3), (None, 0.0), (None, 0.0)], "c"),
        ([(None, 0.9), ("b", 0.1)], "b"),  # half is not most
    ],
)
def test_ties_and_abstentions(said: list[tuple[str | None, float]], choice: str) -> None:
    assert decided(*said).choice == choice


def test_where_most_abstain_so_does_the_whole() -> None:
    answer = decided((None, 0.2), ("a", 0.9), (None, 0.4))
    assert answer.abstained
    assert answer.choice is None
    assert answer.agreement == pytest.approx(2 / 3)
    assert answer.reason == "2 of 3 votes abstained. doubt 3"


def test_open_answers_agree_by_their_first_sentence() -> None:
    answer = decided(("Pink tissue", 0.4), ("Grey", 0.9), ("PINK tissue", 0.5), options=None)
    assert answer.answer.startswith("PINK tissue.")
    assert answer.agreement == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("most", "other"),
    [
        ("HER2-", "HER2+"),
        ("PD-L1 <1%", "PD-L1 ≥1%"),
        ("Grade 1", "Grade 2"),
        ("2 mm", "2 cm"),
        ("ER (-)", "ER (+)"),
    ],
)
def test_answers_that_differ_in_a_sign_or_a_number_do_not_agree(most: str, other: str) -> None:
    answer = decided((most, 0.6), (most, 0.6), (other, 0.9), options=None)
    assert answer.answer.startswith(f"{most}.")
    assert answer.agreement == pytest.approx(2 / 3)


def test_open_answers_agree_whatever_their_confidences() -> None:
    """A local model's first sentence names its confidence, which differs from vote to vote."""
    ballots = []
    for number, p in enumerate((0.4, 0.5), 1):
        vote = ballot(number, "Pink tissue", p, closed=False)
        text = f"{answer_sentence('Pink tissue', p)} The model gave this answer for the whole slide."
        ballots.append(replace(vote, answer=vote.answer.model_copy(update={"answer": text})))
    answer, _ = whole(record(None, 2), "run", ballots)
    assert answer.agreement == 1.0
    assert [vote.answer for vote in answer.votes] == ["Pink tissue."] * 2


def test_a_vote_without_money_has_no_opinion() -> None:
    ballots = [ballot(1, "a"), ballot(2, "b", 0.9, cut=True), ballot(3, None, cut=True)]
    answer, leading = whole(record(OPTIONS, 5), "run", ballots)
    assert leading.run == "votes/2"  # it was cut short, and still came to an answer
    assert answer.reason == "The spending limit was reached after 2 of 5 votes."
    assert [vote.run for vote in answer.votes] == ["votes/1", "votes/2"]
    assert answer.cost.calls == 12  # what was spent in vain was spent
    alone, _ = whole(record(OPTIONS, 5), "run", [ballot(1, None, cut=True)])
    assert alone.abstained
    assert "doubt 1" in (alone.reason or "")


@given(
    st.lists(
        st.tuples(st.sampled_from([*OPTIONS, None]), st.floats(0, 1, allow_nan=False)),
        min_size=1,
        max_size=7,
    )
)
def test_laws_of_the_majority(said: Sequence[tuple[str | None, float]]) -> None:
    answer = decided(*said)
    names = [one for one, _ in said]
    assert answer.abstained == (2 * names.count(None) > len(names))
    if not answer.abstained:
        assert names.count(answer.choice) == max(names.count(option) for option in OPTIONS)
    assert answer.agreement == names.count(answer.choice) / len(names)
    assert 0 <= answer.confidence <= max(p for one, p in said if one == answer.choice) + 1e-12


@given(st.integers(0, 10_000), st.integers(1, 9))
def test_options_keep_their_texts_in_another_order(seed: int, number: int) -> None:
    shuffled = options_of_vote(OPTIONS, seed, number)
    assert shuffled == options_of_vote(OPTIONS, seed, number)
    assert sorted(shuffled or []) == OPTIONS
    assert options_of_vote(None, seed, number) is None
    if number == 1:
        assert shuffled == OPTIONS


# ---- over the fakes ----


def test_votes_are_runs_of_their_own_and_the_whole_is_one_too(run_agent: Run, tmp_path: Path) -> None:
    items = run_agent(options=fakes.OPTIONS, votes=3, seed=7, out=tmp_path / "run", max_steps=6)
    answer, folder = items[-1], tmp_path / "run"
    assert isinstance(answer, Answer)
    votes = [item for item in items if isinstance(item, Vote)]
    assert votes == answer.votes
    assert answer.choice == "pink tissue"
    agreeing = [vote for vote in votes if vote.choice == "pink tissue"]
    assert answer.agreement == len(agreeing) / 3
    orders = []
    for number in (1, 2, 3):
        vote = RunRecord.model_validate_json((folder / "votes" / str(number) / "run.json").read_text())
        assert (vote.seed, vote.status, vote.settings.votes) == (6 + number, "finished", 1)
        orders.append(vote.options)
    assert orders[0] == fakes.OPTIONS
    assert all(sorted(order or []) == sorted(fakes.OPTIONS) for order in orders)
    assert len({tuple(order or []) for order in orders}) > 1
    steps = read_trace(folder)
    leading = max(agreeing, key=lambda vote: vote.confidence)
    assert [step.action for step in steps] == [step.action for step in read_trace(folder / leading.run)]
    assert check_answer(answer, steps) == []
    shown = [step.observation.image for step in steps if step.observation.image]
    assert all(image.startswith(f"{leading.run}/regions/") for image in shown)
    assert all((folder / image).is_file() for image in shown)
    run = json.loads((folder / "run.json").read_text())
    assert (run["status"], run["settings"]["votes"]) == ("finished", 3)
    assert (folder / "report.md").exists()
    assert answer.cost.tokens_in == sum(
        json.loads((folder / vote.run / "answer.json").read_text())["cost"]["tokens_in"] for vote in votes
    )


def test_the_whole_follows_from_the_votes_folders(run_agent: Run, tmp_path: Path) -> None:
    answer = run_agent(options=fakes.OPTIONS, votes=3, out=tmp_path / "run", max_steps=5)[-1]
    folder = tmp_path / "run"
    names = ("answer.json", "trace.jsonl", "run.json", "report.md")
    before = {name: (folder / name).read_bytes() for name in names}
    for name in names[:2]:
        (folder / name).unlink()
    again = write_whole(RunRecord.model_validate_json((folder / "run.json").read_text()), folder)
    assert again == answer
    assert {name: (folder / name).read_bytes() for name in names} == before


@pytest.mark.parametrize("died_in", [1, 2, 3])
def test_votes_resume_at_the_vote_they_were_at(run_agent: Run, tmp_path: Path, died_in: int) -> None:
    given: dict[str, Any] = {"options": fakes.OPTIONS, "votes": 3, "max_steps": 5}
    unbroken = run_agent(**given, out=tmp_path / "whole")
    starts = list[int]()

    def die(when: str, number: int) -> None:
        starts.extend([number] * ((when, number) == ("before", 1)))
        if len(starts) == died_in and number == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_agent(**given, out=tmp_path / "run", tools={"hook": die})
    calls = list[int]()

    def count(when: str, number: int) -> None:
        calls.extend([number] * (when == "before"))

    rest = run_agent(**given, out=tmp_path / "run", resume=True, tools={"hook": count})
    everything = [item for item in unbroken if isinstance(item, Step)]
    assert len(calls) == len(everything) - 5 * (died_in - 1) - 2  # no call of a step that was made
    same = {"cost": Cost(), "run_dir": ""}
    assert rest[-1].model_copy(update=same) == unbroken[-1].model_copy(update=same)
    assert run_agent(**given, out=tmp_path / "run", resume=True)[-1] == rest[-1]


def test_votes_can_be_paused(run_agent: Run, tmp_path: Path) -> None:
    control = Control()

    def pause(when: str, number: int) -> None:
        if (when, number) == ("after", 4):
            control.pause()

    items = run_agent(
        options=fakes.OPTIONS, votes=3, out=tmp_path / "run", control=control, tools={"hook": pause}
    )
    assert all(isinstance(item, Step) for item in items)
    assert control.run == tmp_path / "run"
    answer = run_agent(options=fakes.OPTIONS, votes=3, out=tmp_path / "run", resume=True)[-1]
    assert len(answer.votes) == 3


def test_another_number_of_votes_is_another_run(run_agent: Run, tmp_path: Path) -> None:
    run_agent(options=fakes.OPTIONS, votes=2, max_steps=2, out=tmp_path / "run")
    with pytest.raises(RunError, match="--votes was 2 and is 1"):
        run_agent(options=fakes.OPTIONS, max_steps=2, out=tmp_path / "run", resume=True)
    first, second = (
        Path(run_agent(options=fakes.OPTIONS, votes=n, max_steps=2)[-1].run_dir).name for n in (1, 2)
    )
    assert not second.startswith(first)
