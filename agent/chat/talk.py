"""The conversation of one node: says something to the model, reads the reply, keeps the turn.

A node works on a copy of what the state remembers; `updates` is what it has to hand back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from agent.chat import prompts
from agent.chat.final import option_of
from agent.chat.messages import Conversation
from agent.chat.plans import planned
from agent.chat.reading import Look, Reading, read
from agent.chat.regions import REGIONS, profile_of
from agent.chat.turns import Call, Turn, barren, turns_of
from agent.graph.state import steps_of
from agent.run.records import Step
from agent.text import first_sentences

if TYPE_CHECKING:
    from agent.graph.state import AgentContext, AgentState
    from agent.llm.client import Reply

DECLINED = 200
"""Characters of a refusal that are repeated, as data."""


class Talk:
    """What was said so far, and what is said now."""

    def __init__(self, state: AgentState, context: AgentContext, survey: bool) -> None:
        self.state, self.context, self.survey = state, context, survey
        self.options = state.get("options")
        self.profile = profile_of(context)
        self.turns, self.steps = turns_of(state), steps_of(state)
        self._old = len(self.turns)
        self._changed: dict[int, Step] = {}
        self._leaning: dict[str, float] | None = None

    def say(
        self,
        kind: str,
        ending: str,
        tools: Sequence[dict[str, Any]],
        *,
        force: str | None = None,
        last: bool = False,
    ) -> Turn:
        """Ask the model, and keep what it said as a turn. Raises `OverBudget` and `ProviderError`."""
        name = f"{len(self.turns):03d}-{kind}"
        messages = Conversation(self.state, self.context, self.turns, self.steps, self.survey).messages(
            ending
        )
        reply = ask(self.context, name, messages, tools, force=force, last=last)
        reading = read(reply)
        self._note(reading)
        turn = Turn(
            name=name,
            before=len(self.steps),
            hints=len(self.state.get("hints", [])),
            message=json.dumps(reply.message) if reading.whole else None,
            text=_in_words(reply, reading),
            calls=self._calls(reading, looking=force is None),
            told=_told(reading),
            final=reading.final,
            refusal=(reading.refusal or "")[:DECLINED],
        )
        self.turns.append(turn)
        return turn

    @property
    def last(self) -> Turn | None:
        """The turn said last."""
        return self.turns[-1] if self.turns else None

    @property
    def declined(self) -> list[str]:
        """The model's words, each time it refused."""
        return [turn.refusal for turn in self.turns if turn.refusal]

    @property
    def barren(self) -> int:
        """Turns in a row that brought nothing new."""
        return barren(self.turns, self.steps, len(self.state.get("hints", [])))

    @property
    def updates(self) -> dict[str, Any]:
        """What the state has to remember of it."""
        found: dict[str, Any] = {"turns": [turn.model_dump(mode="json") for turn in self.turns[self._old :]]}
        if self._changed:
            found["steps"] = [step.model_dump(mode="json") for step in self._changed.values()]
        if self._leaning is not None:
            found["posterior"] = self._leaning
        return found

    def _note(self, reading: Reading) -> None:
        """Put what the model saw and leans to into the steps it speaks of."""
        for step in self.steps:
            finding = reading.seen.get(step.index)
            if finding is not None and step.observation.ok and step.observation.image is not None:
                self._revise(step.model_copy(update={"finding": _in_both_words(step, finding)}))
        leaning = leaning_of(reading.leaning, self.options)
        if leaning is not None and self.steps:
            self._revise(self.steps[-1].model_copy(update={"posterior": leaning}))
            self._leaning = leaning

    def _revise(self, step: Step) -> None:
        if step != self.steps[step.index - 1]:
            self._changed[step.index] = self.steps[step.index - 1] = step

    def _calls(self, reading: Reading, looking: bool) -> list[Call]:
        """Each call with what it means, or with why it is not made."""
        left = self.state["max_steps"] - len(self.steps)
        most = min(left, REGIONS if self.profile.parallel_calls else 1)
        over = prompts.TOO_MANY.format(most=most) if self.profile.parallel_calls else prompts.ONE_AT_A_TIME
        calls: list[Call] = []
        for look in reading.calls:
            why = ""
            if reading.final is not None:
                why = prompts.ANSWERED
            elif not looking:
                why = prompts.NO_MORE
            elif sum(call.action is not None for call in calls) >= most:
                why = over
            calls.append(self._call(look, why))
        return calls

    def _call(self, look: Look, why: str) -> Call:
        action = None if why else planned(look, self.state, self.context, self.steps, self.survey)
        return Call(id=look.id, name=look.name, action=action, note=why)


def ask(
    context: AgentContext,
    turn: str,
    messages: Sequence[Any],
    tools: Sequence[dict[str, Any]],
    *,
    force: str | None,
    last: bool,
) -> Reply:
    """One call of the run's chat model."""
    assert context.chat is not None  # a chat navigator is only made for one
    return context.chat.ask(context.journal, context.run_id, turn, messages, tools, force=force, last=last)


def leaning_of(said: Mapping[str, float], options: Sequence[str] | None) -> dict[str, float] | None:
    """Probabilities that sum to 1, over the options where there are any; None where they mean nothing."""
    found = dict.fromkeys(options or (), 0.0)
    for name, p in said.items():
        known = option_of(name, options) if options else name
        if known is None:
            return None
        found[known] = found.get(known, 0.0) + p
    total = sum(found.values())
    return {name: p / total for name, p in found.items()} if total > 0 else None


def _in_words(reply: Reply, reading: Reading) -> str:
    """What goes back where the message cannot: its text, or that there was none."""
    if reading.refusal is not None:
        return reading.refusal[:DECLINED]
    return reply.text.strip()


def _told(reading: Reading) -> str:
    if reading.refusal is not None:
        return prompts.REFUSED
    return prompts.REPAIR.format(faults=" ".join(reading.faults)) if reading.faults else ""


def _in_both_words(step: Step, finding: str) -> str:
    """What the model saw; after what the slide model said, where it was asked."""
    if step.action.tool != "ask_region":
        return finding
    return f"The slide model says: {first_sentences(step.observation.text)} Seen: {finding}"
