"""Writes the conversation with a chat model, rebuilt from the state for every call.

    system
    user       the question, the slide, the overview and what was surveyed
    assistant  a turn as it came            ┐
    tool       the result of each call       │ for every turn
    user       the images that came of it    ┘
    user       where things stand, and what to do now (joined with the last user message)

Every call of the model gets exactly one result, also where it was not made. A turn that cannot go back as it
came (garbled calls, two with one id) goes back in words, with its results in the user message. Of the images
only the overview and the last few stay; the others are there as what the model noted about them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from agent.chat import prompts
from agent.chat.boxes import numbers_from_box, sent_image
from agent.chat.regions import (
    Block,
    frame_px,
    has_own_finding,
    image_block,
    profile_of,
    region_line,
    steps_in_context,
    tissue_text,
)
from agent.chat.turns import Call, ChatTurn, TurnSteps, steps_by_turn
from agent.evidence.coverage import coverage
from agent.text import box_in_words
from core_model.slides.box import Box, magnification

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

    from agent.graph.state import AgentContext, AgentState
    from agent.run.records import Step


class Conversation:
    """Turns and steps as messages for one model. It holds nothing that the state does not."""

    def __init__(
        self,
        state: AgentState,
        context: AgentContext,
        turns: Sequence[ChatTurn],
        steps: Sequence[Step],
        survey: bool,
    ) -> None:
        self.state, self.context, self.turns, self.steps, self.survey = state, context, turns, steps, survey
        self.profile = profile_of(context)
        self.in_view = steps_in_context(steps, self.profile, survey)

    def messages(self, ending: str) -> list[BaseMessage]:
        """The whole conversation, ending with where things stand and `ending`."""
        from langchain_core.messages import HumanMessage, SystemMessage

        replies = [part for part in steps_by_turn(self.turns, self.steps) if not part.turn.planned]
        before = replies[0].turn.before if replies else len(self.steps)
        first = [_text(self._task()), *self._unasked(self.steps[:before])]
        messages: list[BaseMessage] = [SystemMessage(self._system()), HumanMessage(_content(first))]
        for part in replies:
            messages += self._turn(part)
        last = [_text(self._status()), _text(ending)]
        if isinstance(messages[-1], HumanMessage):
            content = messages.pop().content
            last = [*([_text(content)] if isinstance(content, str) else content), *last]
        return [*messages, HumanMessage(_content(last))]

    def _system(self) -> str:
        template = prompts.SYSTEM if self.survey else prompts.SYSTEM_GIANT
        boxes = prompts.BOXES[self.profile.boxes if self.survey else "level0"]
        return template.format(boxes=boxes, data=prompts.DATA, px=frame_px(self.profile, self.survey))

    def _task(self) -> str:
        slide, pieces = self.context.slide, tissue_text(self.steps)
        template = prompts.TASK if self.survey else prompts.TASK_GIANT
        return template.format(
            question=self.state["question"],
            options=prompts.options_text(self.state.get("options")),
            width=slide.width,
            height=slide.height,
            mpp=slide.mpp,
            magnification=magnification(slide.mpp),
            width_um=slide.width * slide.mpp,
            height_um=slide.height * slide.mpp,
            tissue=pieces,
            looks=self.state["max_steps"] - (not self.survey),
        )

    def _turn(self, part: TurnSteps) -> list[BaseMessage]:
        """One turn as messages: the reply, the result of each of its calls, and the images."""
        from langchain_core.messages import AIMessage, HumanMessage, ToolMessage, messages_from_dict

        turn, rest = part.turn, list(self._unasked(part.extra_steps))
        results: list[BaseMessage] = []
        for place, call in enumerate(turn.calls):
            step = part.steps_by_call.get(place)
            result = self._result(call, step)
            images = self._image(step) if step else []
            if turn.message is None:
                rest += [_text(result), *images]
                continue
            inside = images if self.profile.images == "tool" else []
            content = _content([_text(result), *inside])
            results.append(ToolMessage(content, tool_call_id=call.id, name=call.name))
            if images and not inside:
                assert step is not None
                rest += [_text(f"Step {step.index}:"), *images]
        if turn.told:
            rest.append(_text(turn.told))
        if turn.message is None:
            reply: list[BaseMessage] = [AIMessage(turn.text or "(nothing)")]
        else:
            reply = messages_from_dict([json.loads(turn.message)])
        return [*reply, *results, *([HumanMessage(_content(rest))] if rest else [])]

    def _result(self, call: Call, step: Step | None) -> str:
        if step is not None:
            return self._words(step)
        if call.name == "answer":
            return prompts.RECEIVED
        return prompts.NOT_MADE.format(why=call.note or prompts.PERSON_CHOSE)

    def _unasked(self, steps: Iterable[Step]) -> Iterable[Block]:
        """Steps that no call asked for: their words, each with its image."""
        for step in steps:
            yield _text(self._words(step))
            yield from self._image(step)

    def _words(self, step: Step) -> str:
        observation = step.observation
        if not observation.ok:
            foreign = self.survey and self.profile.boxes != "level0"  # refusals speak of level-0 px
            reminder = prompts.BOXES[self.profile.boxes] if foreign else ""
            return f"Step {step.index}, {step.action.tool}: {observation.text} {reminder}".rstrip()
        if not self.survey and observation.box is not None:
            return f"Step {step.index}: box {box_in_words(observation.box)}."
        by = " (a person chose it)" if step.action.by == "person" else ""
        words = [f"Step {step.index}, {step.action.tool}{by}: {observation.text}", self._places(step)]
        if observation.image is not None and step.index not in self.in_view:
            words.append(prompts.GONE)
            words += [prompts.NOTED.format(finding=step.finding)] if has_own_finding(step) else []
        return " ".join(word for word in words if word)

    def _places(self, step: Step) -> str:
        """Where the tiles found lie in the overview, for a model that cannot use level-0 px."""
        hits, first = step.observation.data.get("hits"), self.steps[0]
        if not hits or self.profile.boxes == "level0":
            return ""
        image = sent_image(first, self.context.folder, self.context.slide.mpp)
        if image is None or image.box != self.context.slide.box:
            return ""
        boxes = [numbers_from_box(Box(*hit["box"]), self.profile.boxes, image) for hit in hits]
        listed_boxes = "; ".join("(" + ", ".join(f"{number:.0f}" for number in box) + ")" for box in boxes)
        return f"In the image of step {first.index} these are (x0, y0, x1, y1): {listed_boxes}."

    def _image(self, step: Step) -> list[Block]:
        if step.index not in self.in_view:
            return []
        assert step.observation.image is not None
        return [image_block(self.context.folder / step.observation.image)]

    def _status(self) -> str:
        steps_left = self.state["max_steps"] - len(self.steps)
        hints = prompts.hints_text(self.state.get("hints", []))
        if not self.survey:
            return prompts.STATUS_GIANT.format(left=steps_left, hints=hints)
        regions = [step for step in self.steps if step.index in self.in_view]
        return prompts.STATUS.format(
            regions="\n".join(map(region_line, regions)) or "none",
            coverage=prompts.coverage_text(coverage(self.context.tissue, self.steps)),
            left=steps_left,
            hints=hints,
        )


def _text(text: str) -> Block:
    return {"type": "text", "text": text}


def _content(blocks: Sequence[Block]) -> Any:
    """Blocks with texts that follow each other joined, and words alone as words: small servers want it so."""
    parts: list[str | dict[str, Any]] = []
    for block in blocks:
        last = parts[-1] if parts else None
        if isinstance(last, dict) and last["type"] == block["type"] == "text":
            parts[-1] = _text(f"{last['text']}\n{block['text']}")
        else:
            parts.append(block)
    only = parts[0] if len(parts) == 1 else None
    return only["text"] if isinstance(only, dict) and only["type"] == "text" else parts
