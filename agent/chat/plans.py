"""From a model's call to a look: its box in level-0 px, its resolution; or the reason why it is not made.

A call that does not fit its schema becomes a look all the same, with the arguments as they came: the toolbox
refuses it with an observation, as it refuses everybody.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from agent.chat import prompts
from agent.chat.boxes import Numbers, shown, to_level0
from agent.chat.offers import box_fields, looks
from agent.chat.regions import frame_px, in_context, profile_of
from agent.chat.schemas import ThoughtArgs
from agent.evidence.familiarity import doubts
from agent.llm.profiles import Convention
from agent.run.records import Action
from core_model.slides.box import Box
from tools.pan import DIRECTIONS
from tools.records import Observation
from tools.toolbox import TOOLS

if TYPE_CHECKING:
    from agent.chat.reading import Look
    from agent.graph.state import AgentContext, AgentState
    from agent.run.records import Step

SAME_PLACE, SAME_MPP = 0.95, 0.1
"""Intersection over union, and relative difference of resolutions, from which two looks are one."""
MAX_REASON = 300


class _Unfit(Exception):
    """Arguments from which no look can be made."""


def planned(
    look: Look, state: AgentState, context: AgentContext, steps: Sequence[Step], survey: bool
) -> Action:
    """The look that a call means."""
    said = look.args.get("reason")
    reason = " ".join(said.split())[:MAX_REASON] if isinstance(said, str) else ""
    try:
        args = _arguments(look, state, context, steps, survey)
    except (_Unfit, ValidationError, ValueError):
        args = {name: value for name, value in look.args.items() if name not in ThoughtArgs.model_fields}
        if survey and profile_of(context).boxes != "level0":
            args = {"given": args}  # numbers of another convention must not pass for level-0 px
    return Action(tool=look.name, args=args, reason=reason)


def refusal(
    action: Action, state: AgentState, context: AgentContext, steps: Sequence[Step], survey: bool
) -> Observation | None:
    """Why a look is not made, as an observation; None where it is."""
    offered = looks(survey, "level0")
    if action.tool in TOOLS and action.tool not in offered:
        tools = ", ".join([*offered, "answer"])
        return _refused(action, prompts.NOT_OFFERED.format(name=action.tool, tools=tools))
    if why := _doubts(action, state, context):
        return _refused(action, prompts.DOUBTED.format(why="; ".join(why)))
    if (before := _repeats(action, context, steps, survey)) is not None:
        return _refused(action, before)
    return None


def _refused(action: Action, text: str) -> Observation:
    return Observation(tool=action.tool, ok=False, text=text)


def _arguments(
    look: Look, state: AgentState, context: AgentContext, steps: Sequence[Step], survey: bool
) -> dict[str, Any]:
    """The toolbox's arguments for a call. Raises where there are none."""
    convention = profile_of(context).boxes if survey else "level0"
    if look.name == "overview":
        return {}
    parts = looks(survey, convention).get(look.name)
    if parts is None:
        raise _Unfit
    read = {k: v for part in parts[1:] for k, v in part.model_validate(look.args).model_dump().items()}
    if look.name == "pan":
        return parts[0].model_validate(look.args).model_dump()
    if look.name == "retrieve" and read["text"].strip():
        return {"text": read["text"].strip(), "k": read["k"]}
    box = _box(look, parts[0].model_validate(look.args).model_dump(), convention, context, steps)
    if look.name == "retrieve":
        return {"box": list(box), "k": read["k"]}
    if look.name == "ask_region":
        own = read["question"].strip()
        options = None if own else state.get("options")
        return {"box": list(box), "question": own or state["question"], "options": options}
    finest = context.slide.mpp * max(box.w, box.h, 1) / frame_px(profile_of(context), survey)
    return {"box": list(box), "mpp": read.get("mpp") or max(context.slide.mpp, finest)}


def _box(
    look: Look,
    read: dict[str, Any],
    convention: Convention,
    context: AgentContext,
    steps: Sequence[Step],
) -> Box:
    first, second, third, fourth = (read[name] for name in box_fields(convention))
    numbers: Numbers = (first, second, third, fourth)
    if convention == "level0":
        return to_level0(numbers, convention, None)
    named = next((step for step in steps if step.index == read["step"]), None)
    image = shown(named, context.folder, context.slide.mpp) if named is not None else None
    if image is None:
        raise _Unfit
    return to_level0(numbers, convention, image)


def _doubts(action: Action, state: AgentState, context: AgentContext) -> list[str]:
    """Why the slide model has nothing to say to this; empty where it has, or is not asked."""
    known = state.get("familiarity")
    asked = action.tool == "ask_region" or (action.tool == "retrieve" and "text" in action.args)
    if not asked or known is None:
        return []
    own = action.args.get("question")
    if action.tool == "ask_region" and isinstance(own, str) and own.strip() and own != state["question"]:
        return doubts({**known, **_of_question(own, context)}, context.model.name)  # type: ignore[typeddict-item]
    return doubts(known, context.model.name)


def _of_question(question: str, context: AgentContext) -> dict[str, Any]:
    """How far the slide model knows a question of the chat model's own; found once and kept."""

    def compare() -> dict[str, Any]:
        value, words = context.model.question_unfamiliarity(question, None)
        return {"question_unfamiliarity": float(value), "unknown_words": [str(word) for word in words]}

    key = hashlib.sha256(question.encode()).hexdigest()[:12]
    return {**context.journal.once("question", key, compare), "option_words": []}


def _repeats(action: Action, context: AgentContext, steps: Sequence[Step], survey: bool) -> str | None:
    """That a look shows what is before the model already; None where it shows something else."""
    if action.tool in ("retrieve", "ask_region"):
        same = (s for s in steps if s.observation.ok and s.action.tool == action.tool)
        found = next((step for step in same if step.action.args == action.args), None)
        return prompts.ASKED_BEFORE.format(step=found.index) if found else None
    wanted = _target(action, context, steps, survey)
    if wanted is None:
        return None
    kept = in_context(steps, profile_of(context), survey)
    for step in steps:
        seen = step.observation
        if step.index in kept and seen.box is not None and seen.mpp is not None:
            alike = abs(seen.mpp - wanted[1]) <= SAME_MPP * max(seen.mpp, wanted[1])
            if alike and _iou(wanted[0], seen.box) > SAME_PLACE:
                return prompts.REPEATED.format(step=step.index)
    return None


def _target(
    action: Action, context: AgentContext, steps: Sequence[Step], survey: bool
) -> tuple[Box, float] | None:
    """Box and resolution that a look would show; None where it would show none."""
    slide, px = context.slide, frame_px(profile_of(context), survey)
    if action.tool == "overview":
        return slide.box, max(slide.mpp, slide.mpp * max(slide.width, slide.height) / px)
    if action.tool == "pan":
        return _panned(action, steps)
    box, mpp = action.args.get("box"), action.args.get("mpp")
    if action.tool != "zoom" or not isinstance(box, list) or not isinstance(mpp, int | float):
        return None
    if len(box) != 4 or not all(isinstance(v, int) for v in box) or min(box[2:]) < 1:
        return None
    return Box(*box), max(slide.effective_mpp(mpp), slide.mpp * max(box[2:]) / px)


def _panned(action: Action, steps: Sequence[Step]) -> tuple[Box, float] | None:
    shown_before = [s.observation for s in steps if s.action.tool in ("overview", "zoom", "pan")]
    last = next((seen for seen in reversed(shown_before) if seen.ok and seen.box and seen.mpp), None)
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
