"""Turns a model's call into a look: its box in level-0 px, its resolution; or why it is not made.

A call that does not fit its schema becomes a look all the same, with the arguments as they came: the toolbox
refuses it with an observation, as it refuses everybody.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from agent.chat import prompts
from agent.chat.arguments import box_in_fields
from agent.chat.boxes import Numbers, box_from_numbers, sent_image
from agent.chat.regions import frame_px, profile_of, steps_in_context
from agent.chat.schemas import ThoughtArgs, box_fields, look_arguments
from agent.evidence.familiarity import doubts, unread_language
from agent.llm.profiles import Convention
from agent.run.records import Action
from core_model.slides.box import Box
from tools.looks import DIRECTIONS
from tools.records import Observation
from tools.toolbox import TOOLS

if TYPE_CHECKING:
    from agent.chat.reading import RawCall
    from agent.graph.state import AgentContext, AgentState
    from agent.run.records import Step

SAME_PLACE, SAME_MPP = 0.95, 0.1
"""Intersection over union, and relative difference of resolutions, from which two looks are one."""
MAX_REASON = 300


class _Unfit(Exception):
    """Arguments from which no look can be made."""


def plan_look(
    call: RawCall, state: AgentState, context: AgentContext, steps: Sequence[Step], survey: bool
) -> Action:
    """The look that a call means."""
    words = call.args.get("reason")
    reason = " ".join(words.split())[:MAX_REASON] if isinstance(words, str) else ""
    try:
        args = _arguments(call, state, context, steps, survey)
    except (_Unfit, ValidationError, ValueError):
        args = {name: value for name, value in call.args.items() if name not in ThoughtArgs.model_fields}
        if survey and profile_of(context).boxes != "level0":
            args = {"given": args}  # numbers of another convention must not pass for level-0 px
    return Action(tool=call.name, args=args, reason=reason)


def is_unfit(action: Action) -> bool:
    """Whether a look has arguments that its tool cannot take, as a call that could not be understood has."""
    if action.tool not in TOOLS:
        return False
    try:
        TOOLS[action.tool].args.model_validate(action.args)
    except ValidationError:
        return True
    return False


def refusal(
    action: Action, state: AgentState, context: AgentContext, steps: Sequence[Step], survey: bool
) -> Observation | None:
    """Why a look is not made, as an observation; None where it is."""
    tool_names = [*look_arguments(survey, "level0"), "answer"]
    if action.tool in TOOLS and action.tool not in tool_names:
        tools = ", ".join(tool_names)
        return _refused(action, prompts.NOT_OFFERED.format(name=action.tool, tools=tools))
    if why := _doubts(action, state, context):
        return _refused(action, prompts.DOUBTED.format(why="; ".join(why)))
    if (repeat := _repeats(action, context, steps, survey)) is not None:
        return _refused(action, repeat)
    return None


def _refused(action: Action, text: str) -> Observation:
    return Observation(tool=action.tool, ok=False, text=text)


def _arguments(
    call: RawCall, state: AgentState, context: AgentContext, steps: Sequence[Step], survey: bool
) -> dict[str, Any]:
    """The toolbox's arguments for a call. Raises where there are none."""
    convention = profile_of(context).boxes if survey else "level0"
    if call.name == "overview":
        return {}
    call = call._replace(args=box_in_fields(call.args, box_fields(convention)))
    parts = look_arguments(survey, convention).get(call.name)
    if parts is None:
        raise _Unfit
    values = {k: v for part in parts[1:] for k, v in part.model_validate(call.args).model_dump().items()}
    if call.name == "pan":
        return parts[0].model_validate(call.args).model_dump()
    if call.name == "retrieve" and values["text"].strip():
        return {"text": values["text"].strip(), "k": values["k"]}
    box = _box(call, parts[0].model_validate(call.args).model_dump(), convention, context, steps)
    if call.name == "retrieve":
        return {"box": list(box), "k": values["k"]}
    if call.name == "ask_region":
        question = values["question"].strip()
        options = None if question else state.get("options")
        return {"box": list(box), "question": question or state["question"], "options": options}
    finest = context.slide.mpp * max(box.w, box.h, 1) / frame_px(profile_of(context), survey)
    return {"box": list(box), "mpp": values.get("mpp") or max(context.slide.mpp, finest)}


def _box(
    call: RawCall,
    values: dict[str, Any],
    convention: Convention,
    context: AgentContext,
    steps: Sequence[Step],
) -> Box:
    first, second, third, fourth = (values[name] for name in box_fields(convention))
    numbers: Numbers = (first, second, third, fourth)
    if convention == "level0":
        return box_from_numbers(numbers, convention, None)
    step = next((step for step in steps if step.index == values["step"]), None)
    image = sent_image(step, context.folder, context.slide.mpp) if step is not None else None
    if image is None:
        raise _Unfit
    return box_from_numbers(numbers, convention, image)


def _doubts(action: Action, state: AgentState, context: AgentContext) -> list[str]:
    """Why the slide model has nothing to say to this; empty where it has, or is not asked."""
    familiarity = state.get("familiarity")
    consults = action.tool == "ask_region" or (action.tool == "retrieve" and "text" in action.args)
    if not consults or familiarity is None:
        return []
    question = action.args.get("question")
    if (
        action.tool == "ask_region"
        and isinstance(question, str)
        and question.strip()
        and question != state["question"]
    ):
        return doubts({**familiarity, **_question_familiarity(question, context)}, context.model.name)  # type: ignore[typeddict-item]
    return doubts(familiarity, context.model.name)


def _question_familiarity(question: str, context: AgentContext) -> dict[str, Any]:
    """How far the slide model knows a question of the chat model's own; found once and kept."""

    def measured() -> dict[str, Any]:
        value, words = context.model.question_unfamiliarity(question, None)
        return {
            "question_unfamiliarity": float(value),
            "unknown_words": [str(word) for word in words],
            "language": unread_language(question, value, words),
        }

    key = hashlib.sha256(question.encode()).hexdigest()[:12]
    return {"language": None, **context.journal.once("question", key, measured), "option_words": []}


def _repeats(action: Action, context: AgentContext, steps: Sequence[Step], survey: bool) -> str | None:
    """That a look shows what is before the model already; None where it shows something else."""
    if action.tool in ("retrieve", "ask_region"):
        earlier = (s for s in steps if s.observation.ok and s.action.tool == action.tool)
        twin = next((step for step in earlier if step.action.args == action.args), None)
        return prompts.ASKED_BEFORE.format(step=twin.index) if twin else None
    target = _target(action, context, steps, survey)
    if target is None:
        return None
    box, mpp = target
    in_view = steps_in_context(steps, profile_of(context), survey)
    for step in steps:
        image = step.observation
        if step.index in in_view and image.box is not None and image.mpp is not None:
            same_scale = abs(image.mpp - mpp) <= SAME_MPP * max(image.mpp, mpp)
            if same_scale and _iou(box, image.box) > SAME_PLACE:
                return prompts.REPEATED.format(step=step.index)
    return None


def _target(
    action: Action, context: AgentContext, steps: Sequence[Step], survey: bool
) -> tuple[Box, float] | None:
    """Box and resolution that a look would show; None where it would show none."""
    slide, px = context.slide, frame_px(profile_of(context), survey)
    if action.tool == "overview":
        return slide.bounds, slide.overview_mpp(px)
    if action.tool == "pan":
        return _neighbour(action, steps)
    box, mpp = action.args.get("box"), action.args.get("mpp")
    if action.tool != "zoom" or not isinstance(box, list) or not isinstance(mpp, int | float):
        return None
    if len(box) != 4 or not all(isinstance(v, int) for v in box) or min(box[2:]) < 1:
        return None
    return Box(*box), max(slide.effective_mpp(mpp), slide.mpp * max(box[2:]) / px)


def _neighbour(action: Action, steps: Sequence[Step]) -> tuple[Box, float] | None:
    images = [s.observation for s in steps if s.action.tool in ("overview", "zoom", "pan")]
    last = next((image for image in reversed(images) if image.ok and image.box and image.mpp), None)
    way, share = DIRECTIONS.get(str(action.args.get("direction"))), action.args.get("fraction")
    if last is None or way is None or not isinstance(share, int | float):
        return None
    box, mpp = last.box, last.mpp
    assert box is not None
    assert mpp is not None
    dx, dy = (way[0] * max(1, round(box.w * share)), way[1] * max(1, round(box.h * share)))
    return Box(box.x + dx, box.y + dy, box.w, box.h), mpp


def _iou(a: Box, b: Box) -> float:
    common = a.intersect(b)
    return common.area / (a.area + b.area - common.area) if common is not None else 0.0
