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
from agent.chat.plans import plan_look
from agent.chat.reading import ParsedReply, RawCall, parse_reply
from agent.chat.regions import REGIONS, image_block, profile_of
from agent.chat.turns import Call, ChatTurn, barren_turns, turns_of
from agent.graph.state import steps_of
from agent.run.records import Step
from agent.servers import wordings
from agent.servers.asking import Asking, Write
from agent.servers.manner import Manner
from agent.text import first_sentences

if TYPE_CHECKING:
    from agent.graph.state import AgentContext, AgentState
    from agent.llm.client import Reply

DECLINED = 200
"""Characters of a refusal that are repeated, as data."""


class Talk:
    """One node's part of the conversation: the turns so far, and those that it adds."""

    def __init__(self, state: AgentState, context: AgentContext, survey: bool) -> None:
        self.state, self.context, self.survey = state, context, survey
        self.question, self.options = state["question"], state.get("options")
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
    ) -> ChatTurn:
        """Ask the model, and keep what it said as a turn. Raises `OverBudget` and `ProviderError`."""
        name = f"{len(self.turns):03d}-{kind}"

        def write(manner: Manner) -> Sequence[Any]:
            known = (self.state, self.context, self.turns, self.steps, self.survey)
            return Conversation(*known, manner).messages(ending)

        reply = ask_chat_model(self.context, name, write, tools, self.steps, force=force, last=last)
        reading = parse_reply(reply)
        self._note(reading)
        turn = ChatTurn(
            name=name,
            before=len(self.steps),
            hints=len(self.state.get("hints", [])),
            message=json.dumps(reply.message) if reading.whole else None,
            text=_turn_text(reply, reading),
            calls=self._calls(reading, looking=force is None),
            told=_complaint(reading, tools),
            final=reading.final,
            refusal=(reading.refusal or "")[:DECLINED],
        )
        self.turns.append(turn)
        return turn

    @property
    def last(self) -> ChatTurn | None:
        """The turn said last."""
        return self.turns[-1] if self.turns else None

    @property
    def declined(self) -> list[str]:
        """The model's words, each time it refused."""
        return [turn.refusal for turn in self.turns if turn.refusal]

    @property
    def barren(self) -> int:
        """Turns in a row that brought nothing new."""
        return barren_turns(self.turns, self.steps, len(self.state.get("hints", [])))

    @property
    def updates(self) -> dict[str, Any]:
        """The changes that the state has to remember."""
        updates: dict[str, Any] = {
            "turns": [turn.model_dump(mode="json") for turn in self.turns[self._old :]]
        }
        if self._changed:
            updates["steps"] = [step.model_dump(mode="json") for step in self._changed.values()]
        if self._leaning is not None:
            updates["posterior"] = self._leaning
        return updates

    def _note(self, reading: ParsedReply) -> None:
        """Put what the model saw and leans to into the steps it speaks of."""
        for step in self.steps:
            finding = reading.seen.get(step.index)
            if finding is not None and step.observation.ok and step.observation.image is not None:
                self._revise(step.model_copy(update={"finding": _with_slide_model(step, finding)}))
        leaning = leaning_of(reading.leaning, self.options, self.question)
        if leaning is not None and self.steps:
            self._revise(self.steps[-1].model_copy(update={"posterior": leaning}))
            self._leaning = leaning

    def _revise(self, step: Step) -> None:
        if step != self.steps[step.index - 1]:
            self._changed[step.index] = self.steps[step.index - 1] = step

    def _calls(self, reading: ParsedReply, looking: bool) -> list[Call]:
        """Each call with what it means, or with why it is not made."""
        steps_left = self.state["max_steps"] - len(self.steps)
        most = min(steps_left, REGIONS if self.profile.parallel_calls else 1)
        too_many = (
            prompts.TOO_MANY.format(most=most) if self.profile.parallel_calls else prompts.ONE_AT_A_TIME
        )
        calls: list[Call] = []
        for raw_call in reading.calls:
            why = ""
            if reading.final is not None:
                why = prompts.ANSWERED
            elif not looking:
                why = prompts.NO_MORE
            elif sum(call.action is not None for call in calls) >= most:
                why = too_many
            calls.append(self._call(raw_call, why))
        return calls

    def _call(self, raw_call: RawCall, why: str) -> Call:
        action = None if why else plan_look(raw_call, self.state, self.context, self.steps, self.survey)
        return Call(id=raw_call.id, name=raw_call.name, action=action, note=why)


def ask_chat_model(
    context: AgentContext,
    turn: str,
    write: Write,
    tools: Sequence[dict[str, Any]],
    steps: Sequence[Step],
    *,
    force: str | None,
    last: bool,
) -> Reply:
    """One call of the run's chat model, in the manner that its server takes.

    `steps` are those whose images `write` may show. Raises `OverBudget` and `ProviderError`.
    """
    assert context.chat is not None  # a chat navigator is only made for one

    def labels() -> dict[str, str]:
        """What the images of the steps are called on a contact sheet."""
        with_image = [step for step in steps if step.observation.image]
        places = {step.index: context.folder / str(step.observation.image) for step in with_image}
        return {str(image_block(path)["base64"]): f"Step {index}" for index, path in places.items()}

    asking = Asking(context.chat, context.journal, context.run_id, turn, write, tools, force, last, labels)
    return asking.reply()


def leaning_of(
    weights: Mapping[str, float], options: Sequence[str] | None, question: str
) -> dict[str, float] | None:
    """Probabilities that sum to 1, over the options where there are any; None where they mean nothing."""
    shares = dict.fromkeys(options or (), 0.0)
    for name, p in weights.items():
        answer = option_of(name, options, question) if options else name
        if answer is None:
            return None
        shares[answer] = shares.get(answer, 0.0) + p
    total = sum(shares.values())
    return {answer: p / total for answer, p in shares.items()} if total > 0 else None


def _turn_text(reply: Reply, reading: ParsedReply) -> str:
    """The text that goes back to the model where the message itself cannot."""
    if reading.refusal is not None:
        return reading.refusal[:DECLINED]
    return reply.text.strip()


def _complaint(reading: ParsedReply, tools: Sequence[dict[str, Any]]) -> str:
    """The faults of a reply as they are told to the model, with what would be right; empty without any."""
    if reading.refusal is not None:
        return prompts.REFUSED
    if not reading.faults:
        return ""
    example = next((tool for tool in tools if tool["function"]["name"] == "zoom"), tools[-1])
    right_form = wordings.RIGHT_FORM.format(example=wordings.example_of(example))
    return f"{prompts.REPAIR.format(faults=' '.join(reading.faults))} {right_form}"


def _with_slide_model(step: Step, finding: str) -> str:
    """The finding of the chat model, after the words of the slide model where that was asked."""
    if step.action.tool != "ask_region":
        return finding
    return f"The slide model says: {first_sentences(step.observation.text)} Seen: {finding}"
