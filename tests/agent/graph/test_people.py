"""A person takes part: confirms, redirects, hints, pauses, comes back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import agent_fakes as fakes
import pytest

import agent
from agent.graph.control import Control, Said, said_before
from agent.run.folder import read_trace
from agent.run.records import Action, Answer, Step
from core_model.errors import RunError, UsageError
from core_model.slides.box import Box

Run = Callable[..., list[Any]]
LOOK = Said(do="look", box=Box(3000, 2000, 300, 300), mpp=2.0)
GREY = "where is it grey"


class Replies:
    """A person who gives these replies, one to each question, and then accepts everything."""

    def __init__(self, *replies: Said | BaseException | None) -> None:
        self.replies, self.asked = list(replies), list[tuple[Action, int]]()

    def __call__(self, action: Action, step: int) -> Said | None:
        self.asked.append((action, step))
        reply = self.replies.pop(0) if self.replies else Said(do="accept")
        if isinstance(reply, BaseException):
            raise reply
        return reply


def split(items: list[Any]) -> tuple[list[Step], Answer]:
    assert isinstance(items[-1], Answer)
    return items[:-1], items[-1]


def plain(steps: list[Step]) -> list[Any]:
    return [step.model_copy(update={"seconds": 0.0}) for step in steps]


def test_accepting_everything_changes_nothing(run_agent: Run) -> None:
    steps, answer = split(run_agent(options=fakes.OPTIONS))
    person = Replies()
    same, told = split(run_agent(options=fakes.OPTIONS, control=Control(person)))
    assert plain(same) == plain(steps)
    assert told.answer == answer.answer
    assert [(action, number) for action, number in person.asked] == [(s.action, s.index) for s in steps[1:]]


def test_a_place_chosen_instead_is_looked_at_and_asked_about(run_agent: Run) -> None:
    person = Replies(Said(do="accept"), LOOK)
    steps, answer = split(run_agent(options=fakes.OPTIONS, control=Control(person)))
    chosen, asked = steps[2], steps[3]
    assert (chosen.action.by, chosen.action.tool, chosen.observation.box) == ("person", "zoom", LOOK.box)
    assert (asked.action.by, asked.action.tool) == ("navigator", "ask_region")
    assert asked.action.args["box"] == list(LOOK.box or ())
    assert not answer.abstained


def test_a_place_chosen_before_the_slide_was_asked_is_asked_about_after_it(run_agent: Run) -> None:
    steps, _ = split(run_agent(options=fakes.OPTIONS, control=Control(Replies(LOOK))))
    assert [step.action.args.get("box") for step in steps[1:4]] == [
        list(LOOK.box or ()),
        [0, 0, fakes.WIDTH, fakes.HEIGHT],
        list(LOOK.box or ()),
    ]


def test_a_hint_is_searched_for_once_and_looked_at(run_agent: Run) -> None:
    person = Replies(Said(do="accept"), Said(do="hint", text=GREY))
    steps, _ = split(run_agent(options=fakes.OPTIONS, control=Control(person)))
    searches = [step for step in steps if step.action.args.get("text") == GREY]
    assert [step.index for step in searches] == [3]
    looked = steps[3]
    assert looked.action.tool == "ask_region"
    assert looked.action.args["box"][0] < fakes.GREY_SHARE * fakes.WIDTH
    assert len(steps) > 4  # and it goes on


def test_a_person_can_end_the_search(run_agent: Run) -> None:
    steps, answer = split(
        run_agent(options=fakes.OPTIONS, control=Control(Replies(Said(do="accept"), Said(do="stop"))))
    )
    assert len(steps) == 2
    assert answer.choice == "pink tissue"
    assert "a person ended the search" in answer.answer


@pytest.mark.parametrize("reply", [None, KeyboardInterrupt()], ids=["paused", "killed"])
def test_whoever_left_while_being_asked_is_asked_the_same_again(
    run_agent: Run, tmp_path: Path, reply: BaseException | None
) -> None:
    given: dict[str, Any] = {"options": fakes.OPTIONS, "out": tmp_path / "run"}
    person, calls = Replies(Said(do="accept"), LOOK, reply), list[int]()

    def count(when: str, number: int) -> None:
        if when == "before":
            calls.append(number)

    try:
        first = run_agent(**given, control=Control(person), tools={"hook": count})
    except KeyboardInterrupt:
        first = read_trace(tmp_path / "run")
    assert [step.index for step in first] == [1, 2, 3]
    again = Replies()
    rest, answer = split(run_agent(**given, control=Control(again), resume=True, tools={"hook": count}))
    assert again.asked[0] == person.asked[2]
    assert rest[0].index == 4
    assert len(calls) == answer.steps  # no call was made twice
    whole = Replies(Said(do="accept"), LOOK)
    unbroken, told = split(run_agent(options=fakes.OPTIONS, control=Control(whole)))
    assert plain([*first, *rest]) == plain(unbroken)
    assert told.answer == answer.answer
    assert len(whole.asked) == len(person.asked) - 1 + len(again.asked)


def test_a_run_that_was_confirmed_goes_on_without_a_person(run_agent: Run, tmp_path: Path) -> None:
    run_agent(options=fakes.OPTIONS, out=tmp_path / "run", control=Control(Replies(LOOK, None)))
    rest, _ = split(run_agent(options=fakes.OPTIONS, out=tmp_path / "run", resume=True))
    assert rest[0].index == 3


def test_pause_redirect_resume(run_agent: Run, tmp_path: Path) -> None:
    given: dict[str, Any] = {"options": fakes.OPTIONS, "out": tmp_path / "run"}
    control = Control()

    def pause(when: str, number: int) -> None:
        if (when, number) == ("after", 3):
            control.pause()

    steps = run_agent(**given, control=control, tools={"hook": pause})
    assert [step.index for step in steps] == [1, 2, 3]  # the step in hand was finished, and no answer came
    assert control.run == tmp_path / "run"
    after = Control()
    for said in said_before([GREY], LOOK.box):
        after.redirect(said)
    rest, answer = split(run_agent(**given, control=after, resume=True))
    assert (rest[0].action.by, rest[0].observation.box) == ("person", LOOK.box)
    assert [step.action.args.get("text") for step in rest].count(GREY) == 1
    assert answer.steps == steps[-1].index + len(rest)
    assert read_trace(tmp_path / "run") == [*steps, *rest]


def test_what_is_said_from_another_thread_is_heard_in_order(run_agent: Run) -> None:
    control = Control()
    control.redirect(LOOK)
    control.redirect(Said(do="hint", text=GREY))
    control.redirect(LOOK.model_copy(update={"box": Box(100, 100, 300, 300)}))
    control.redirect(Said(do="stop"))
    steps, answer = split(run_agent(options=fakes.OPTIONS, control=control))
    assert [tuple(step.action.args["box"]) for step in steps[1:]] == [LOOK.box, (100, 100, 300, 300)]
    assert answer.steps == 3


def test_a_paused_ask_says_how_to_resume(
    run_agent: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    control = Control()
    control.pause()
    run_agent(options=fakes.OPTIONS, out=tmp_path / "run", control=control)  # sets the fake toolbox too
    with pytest.raises(RunError, match=r"run: the run is paused\. .*--resume") as told:
        agent.ask(
            fakes.fake_slide(),
            "Which tissue is it?",
            options=fakes.OPTIONS,
            model=fakes.FakeModel(),
            out=tmp_path / "run",
            resume=True,
            control=control,
        )
    assert str(tmp_path / "run") in str(told.value)


@pytest.mark.parametrize(("hints", "look"), [([" "], None), ([], (0, 0, 0, 5)), (["x"], (1, 1, 5, -5))])
def test_what_means_nothing_is_not_said(hints: list[str], look: Any) -> None:
    with pytest.raises(UsageError):
        said_before(hints, look)


@pytest.mark.parametrize("asker", [Replies(), None])
def test_nobody_leads_votes(run_agent: Run, tmp_path: Path, asker: Replies | None) -> None:
    control = Control(asker)
    if asker is None:
        control.redirect(LOOK)
    with pytest.raises(UsageError, match="which nobody leads"):
        run_agent(options=fakes.OPTIONS, votes=2, control=control)
    assert list(tmp_path.iterdir()) == []
