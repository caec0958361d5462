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
from typing import TYPE_CHECKING

from agent.chat import prompts
from agent.chat.boxes import numbers_from_box, sent_image
from agent.chat.plans import is_unfit
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
from agent.chat.schemas import tool_definitions
from agent.chat.turns import Call, ChatTurn, TurnSteps, steps_by_turn
from agent.evidence.coverage import coverage
from agent.servers import wordings
from agent.servers.blocks import blocks_of, content, text_block
from agent.servers.manner import Manner
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
        manner: Manner,
    ) -> None:
        self.state, self.context, self.turns, self.steps, self.survey = state, context, turns, steps, survey
        self.profile, self.most_turns = profile_of(context), manner.size.turns
        self.in_view = steps_in_context(steps, self.profile, survey, manner.most_images(self.profile))

    def messages(self, ending: str) -> list[BaseMessage]:
        """The whole conversation, ending with where things stand and `ending`."""
        from langchain_core.messages import HumanMessage, SystemMessage

        replies = [part for part in steps_by_turn(self.turns, self.steps) if not part.turn.planned]
        if self.most_turns is not None:  # of older turns their steps stay, as what was seen in them
            replies = replies[max(0, len(replies) - self.most_turns) :]
        before = replies[0].turn.before if replies else len(self.steps)
        first = [text_block(self._task()), *self._unasked(self.steps[:before])]
        messages: list[BaseMessage] = [SystemMessage(self._system()), HumanMessage(content(first))]
        for part in replies:
            messages += self._turn(part)
        last = [text_block(self._status()), text_block(ending)]
        if isinstance(messages[-1], HumanMessage):
            last = [*blocks_of(messages.pop()), *last]
        return [*messages, HumanMessage(content(last))]

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
            width_um=slide.width * slide.mpp_x,
            height_um=slide.height * slide.mpp_y,
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
                rest += [text_block(result), *images]
                continue
            inside = images if self.profile.images == "tool" else []
            said = content([text_block(result), *inside])
            results.append(ToolMessage(said, tool_call_id=call.id, name=call.name))
            if images and not inside:
                assert step is not None
                rest += [text_block(f"Step {step.index}:"), *images]
        if turn.told:
            rest.append(text_block(turn.told))
        if turn.message is None:
            reply: list[BaseMessage] = [AIMessage(turn.text or "(nothing)")]
        else:
            reply = messages_from_dict([json.loads(turn.message)])
        return [*reply, *results, *([HumanMessage(content(rest))] if rest else [])]

    def _result(self, call: Call, step: Step | None) -> str:
        if step is not None:
            return self._words(step)
        if call.name == "answer":
            return prompts.RECEIVED
        return prompts.NOT_MADE.format(why=call.note or prompts.PERSON_CHOSE)

    def _unasked(self, steps: Iterable[Step]) -> Iterable[Block]:
        """Steps that no call asked for: their words, each with its image."""
        for step in steps:
            yield text_block(self._words(step))
            yield from self._image(step)

    def _words(self, step: Step) -> str:
        observation = step.observation
        if not observation.ok:
            foreign = self.survey and self.profile.boxes != "level0"  # refusals speak of level-0 px
            reminder = prompts.BOXES[self.profile.boxes] if foreign else ""
            refused = f"Step {step.index}, {step.action.tool}: {observation.text} {reminder}".rstrip()
            return f"{refused} {self._right_form(step)}" if is_unfit(step.action) else refused
        if not self.survey and observation.box is not None:
            return f"Step {step.index}: box {box_in_words(observation.box)}."
        by = " (a person chose it)" if step.action.by == "person" else ""
        words = [f"Step {step.index}, {step.action.tool}{by}: {observation.text}", self._places(step)]
        if observation.image is not None and step.index not in self.in_view:
            words.append(prompts.GONE)
            words += [prompts.NOTED.format(finding=step.finding)] if has_own_finding(step) else []
        return " ".join(word for word in words if word)

    def _right_form(self, step: Step) -> str:
        """An example of a call that would have been understood."""
        boxes = self.profile.boxes if self.survey else "level0"
        tools = tool_definitions(self.survey, boxes, None, frame_px(self.profile, self.survey))
        tool = next((tool for tool in tools if tool["function"]["name"] == step.action.tool), None)
        return wordings.RIGHT_FORM.format(example=wordings.example_of(tool)) if tool is not None else ""

    def _places(self, step: Step) -> str:
        """Where the tiles found lie in the overview, for a model that cannot use level-0 px."""
        hits, first = step.observation.data.get("hits"), self.steps[0]
        if not hits or self.profile.boxes == "level0":
            return ""
        image = sent_image(first, self.context.folder, self.context.slide.mpp)
        if image is None or first.action.tool != "overview":
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
