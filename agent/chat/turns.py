"""Holds what a chat model said, turn by turn, as the state keeps it, and what became of each call it made.

A turn knows how many steps there were when it was said. The steps up to the next turn are its own, and each
is held against the calls of the turn in order, so that which call became which step needs no writing down.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from pydantic import Field

from agent.run.records import Action, Step
from core_model.records import Record

PATIENCE = 3
"""Turns in a row that bring nothing new before the model is told to answer."""


class Call(Record):
    """A call that the model made in a turn."""

    id: str
    name: str
    action: Action | None
    """The look that it means; None where none is to be made."""
    note: str = ""
    """Why it was not made, to be told to the model."""


class ChatTurn(Record):
    """One reply of the model, or (without words) a plan of the navigator's own."""

    name: str
    before: int
    """Steps made when it was said."""
    hints: int = 0
    """Hints of a person told by then."""
    message: str | None = None
    """The message as it came, as JSON text; None where it cannot go back to a provider as it is."""
    text: str = ""
    """The text that goes back in its place then."""
    calls: list[Call] = Field(default_factory=list)
    told: str = ""
    """The faults of the reply, as they are told to the model."""
    final: dict[str, Any] | None = None
    """The arguments of `answer` where the turn gives one."""
    refusal: str = ""
    """The words of a refusal."""
    planned: bool = False
    """Whether the navigator planned it and no model said it."""


class TurnSteps(NamedTuple):
    """A turn with the steps that came of it."""

    turn: ChatTurn
    steps_by_call: Mapping[int, Step]
    """Position of a call in the turn to the step it became."""
    extra_steps: Sequence[Step]
    """Steps of that time that no call of the turn asked for: a person did, or the navigator."""
    steps: Sequence[Step]
    """Both, in order."""


def turns_of(state: Mapping[str, Any]) -> list[ChatTurn]:
    """The turns so far, as records."""
    return [ChatTurn.model_validate(turn) for turn in state.get("turns", [])]


def steps_by_turn(turns: Sequence[ChatTurn], steps: Sequence[Step]) -> list[TurnSteps]:
    """The steps that came of each turn."""
    starts = [*(turn.before for turn in turns), len(steps)]
    parts = [steps[start:end] for start, end in pairwise(starts)]
    return [_steps_of_turn(turn, part) for turn, part in zip(turns, parts, strict=True)]


def _steps_of_turn(turn: ChatTurn, steps: Sequence[Step]) -> TurnSteps:
    steps_by_call: dict[int, Step] = {}
    extra_steps = []
    for step in steps:
        first = max(steps_by_call, default=-1) + 1
        places = (i for i in range(first, len(turn.calls)) if turn.calls[i].action == step.action)
        place = next(places, None)
        if place is None:
            extra_steps.append(step)
        else:
            steps_by_call[place] = step
    return TurnSteps(turn, steps_by_call, extra_steps, steps)


def barren_turns(turns: Sequence[ChatTurn], steps: Sequence[Step], hints: int) -> int:
    """How many of the last turns in a row brought nothing new: no step that succeeded, no hint."""
    count = 0
    for part in reversed(steps_by_turn(turns, steps)):
        if part.turn.planned or any(step.observation.ok for step in part.steps):
            break
        if part.turn.hints < hints:
            break
        count, hints = count + 1, part.turn.hints
    return count
