"""One pass without navigation: what a chat model makes of looks that were chosen before it saw anything.

    thumbnail   the whole slide in one image
    joint       the whole slide and patches of tissue at low power, all in one call
    patches     patches of tissue, each in a call of its own; the majority answers
    blind       no image at all

These are the baselines that navigation must beat. They end in the same form of answer, by the same reading
and the same money, as every other run; none of them repairs an answer for the evidence check.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from agent.chat import prompts
from agent.chat.conclude import ABSTAINED, DECLINED, LIMIT, UNUSABLE
from agent.chat.final import Final, read_final
from agent.chat.reading import parse_reply
from agent.chat.regions import image_block, profile_of, region_line, tool_words
from agent.chat.schemas import answer_tool
from agent.chat.sight import with_sight
from agent.chat.talk import ask_chat_model
from agent.evidence.check import cite
from agent.evidence.coverage import coverage, coverage_in_words
from agent.graph.state import Decided, Draft, Stop, Weighed, steps_of
from agent.llm.client import OverBudget
from agent.navigators.compose import SINGLE_PASS
from agent.run.records import Action, Answer, Step
from agent.servers.manner import Manner
from agent.text import answer_sentence, first_upper, same_words, share_in_words

if TYPE_CHECKING:
    from agent.graph.state import AgentContext, AgentState
    from agent.run.records import Settings
    from tools.records import Observation

NO_PATCH = "no patch gave an answer"
LEAST_TISSUE = 0.5
"""Share of a patch that is tissue; where the slide has no such place, the best there is."""
TRIES = 50
"""Places drawn for each patch that is wanted."""


class Patches(NamedTuple):
    """How many patches a mode looks at, how large and at which resolution."""

    number: int
    px: int
    mpp: float


DEFAULTS: dict[str, Patches | None] = {
    "thumbnail": None,
    "joint": Patches(16, 512, 2.0),
    "patches": Patches(30, 224, 0.5),
    "blind": None,
}
"""The patches of each mode; `patches` is as published with GIANT, at 20x."""


def patches_of(settings: Settings) -> Patches | None:
    """The patches of a run: those asked for, else the mode's own."""
    default = DEFAULTS.get(settings.mode)
    if default is None:
        return None
    return Patches(
        settings.patches or default.number,
        settings.patch_px or default.px,
        settings.patch_mpp or default.mpp,
    )


class PassNavigator:
    """Looks at what was planned, then asks once, or once for each patch."""

    name = "chat"
    reads_features = False

    def __init__(self, mode: str, patches: Patches | None) -> None:
        self.mode, self.patches = mode, patches
        self.starts_wide = mode == "joint"

    def decide(self, state: AgentState, context: AgentContext) -> Decided:
        """The next look of the plan; then stop."""
        if self.mode == "thumbnail" and not state.get("steps"):
            return Decided(Action(tool="overview", reason="The only look of this mode."))
        if self.patches is None:
            return Decided(Stop(SINGLE_PASS))
        count = sum(step.action.tool == "zoom" for step in steps_of(state))
        plan = context.journal.once("plan", self.mode, lambda: self._plan(state, context))
        if count >= len(plan):
            return Decided(Stop(SINGLE_PASS))
        args = {"box": plan[count], "mpp": self.patches.mpp}
        reason = f"Patch {count + 1} of {len(plan)}, drawn at random from the tissue."
        return Decided(Action(tool="zoom", args=args, reason=reason))

    def weigh(
        self, state: AgentState, context: AgentContext, action: Action, observation: Observation
    ) -> Weighed:
        """What the tool said: the model has not seen it yet."""
        return Weighed(tool_words(observation), {})

    def compose(self, state: AgentState, context: AgentContext, problems: list[str]) -> Draft:
        """The answer of the one call, or of the majority of calls. A draft is not put right: it stands."""
        images = [s for s in steps_of(state) if s.observation.ok and s.observation.image is not None]
        try:
            if self.mode == "patches":
                return _majority(self._each(state, context, images), state, context)
            return _single(self._ask(state, context, images, "answer"), images, state)
        except OverBudget:
            return _abstention(f"{LIMIT.format(limit=context.max_cost or 0)}", images)

    def review(self, state: AgentState, context: AgentContext, answer: Answer) -> Answer:
        """The answer as it is, saying where it is not known whether the model sees."""
        return with_sight(answer, context.journal)

    def _plan(self, state: AgentState, context: AgentContext) -> list[list[int]]:
        """Boxes of patches drawn at random from the tissue; found once and kept."""
        assert self.patches is not None
        slide = context.slide
        side = max(1, round(self.patches.px * max(self.patches.mpp, slide.mpp) / slide.mpp))
        w, h = min(side, slide.width), min(side, slide.height)
        dice = random.Random(f"{state['seed']}:{self.mode}")
        count = TRIES * self.patches.number
        corners = np.array(
            [(dice.randint(0, slide.width - w), dice.randint(0, slide.height - h)) for _ in range(count)]
        )  # (T, 2)
        shares, quality = context.tissue.shares(corners, w, h), context.quality  # (T,)
        if quality is not None:
            shares = np.where(quality.are_blurred(corners, w, h), 0.0, shares)
        good = np.flatnonzero(shares >= LEAST_TISSUE)
        order = good if len(good) >= self.patches.number else np.argsort(-shares, kind="stable")
        room = profile_of(context).max_images - 1 if self.mode == "joint" else self.patches.number
        return [[int(x), int(y), w, h] for x, y in corners[order[: min(self.patches.number, room)]]]

    def _each(
        self, state: AgentState, context: AgentContext, images: list[Step]
    ) -> list[tuple[Step, Final | None]]:
        return [(step, self._ask(state, context, [step], f"patch{step.index:03d}")[0]) for step in images]

    def _ask(
        self, state: AgentState, context: AgentContext, images: list[Step], name: str
    ) -> tuple[Final | None, list[str]]:
        """One conversation: the question with these images, and once more where the answer is unusable."""
        from langchain_core.messages import HumanMessage

        def write(manner: Manner) -> list[Any]:
            most = manner.most_images(profile_of(context))
            shown = images if len(images) <= most else [images[0], *images[len(images) - most + 1 :]]
            return [*_messages(state, context, shown), *more]

        more: list[Any] = []
        options = state.get("options")
        wrong: list[str] = []
        for kind in (name, f"{name}-repair"):
            tools = [answer_tool(options, True)]
            reply = ask_chat_model(context, f"pass-{kind}", write, tools, images, force="answer", last=True)
            reading = parse_reply(reply)
            if reading.refusal is not None:
                return None, [f"{DECLINED}: “{reading.refusal[:200]}”"]
            final, wrong = read_final(reading.final, options, state["question"])
            if final is not None:
                return final, []
            problems = "\n".join(f"- {problem}" for problem in wrong)
            more = [*more, HumanMessage(prompts.REPAIR_ANSWER.format(problems=problems))]
        return None, [f"{UNUSABLE}: {' '.join(wrong)}"]


def _messages(state: AgentState, context: AgentContext, images: list[Step]) -> list[Any]:
    from langchain_core.messages import HumanMessage, SystemMessage

    task = prompts.PASS_TASK.format(
        question=state["question"],
        options=prompts.options_text(state.get("options")),
        shown=prompts.PASS_SHOWN if images else prompts.PASS_BLIND,
    )
    blocks: list[str | dict[str, Any]] = [{"type": "text", "text": task}]
    for step in images:
        blocks.append({"type": "text", "text": region_line(step)})
        blocks.append(image_block(context.folder / str(step.observation.image)))
    content = blocks if images else task
    return [SystemMessage(prompts.PASS_SYSTEM.format(data=prompts.DATA)), HumanMessage(content)]


def _single(reply: tuple[Final | None, list[str]], images: list[Step], state: AgentState) -> Draft:
    final, problems = reply
    if final is None:
        return _abstention(problems[0], images)
    if final.abstain:
        return _abstention(final.reason or final.text or "the model gave no reason", images)
    indices = {index for claim in final.claims for index in claim.steps}
    evidence = [cite(step) for step in images if step.index in indices]
    choice = final.choice if state.get("options") else None
    reason = final.reason or None
    return Draft(final.text, choice, final.confidence, evidence, reason=reason, claims=final.claims)


def _majority(replies: list[tuple[Step, Final | None]], state: AgentState, context: AgentContext) -> Draft:
    """The answer of most patches; of equals the one with more confidence. It is as sure as its share."""
    answers = [(step, final) for step, final in replies if final is not None and not final.abstain]
    if not answers:
        return _abstention(NO_PATCH, [step for step, _ in replies])
    names: list[str] = []
    for _, final in answers:
        if not any(same_words(final.choice, name) for name in names):
            names.append(final.choice)
    votes = Counter(_name_of(final.choice, names) for _, final in answers)
    sure = {
        name: sum(f.confidence for _, f in answers if _name_of(f.choice, names) == name) for name in names
    }
    winner = max(names, key=lambda name: (votes[name], sure[name], -names.index(name)))
    evidence = [
        cite(
            step,
            f"{'Supports' if _name_of(final.choice, names) == winner else 'Speaks against'} the answer:"
            f" {final.choice}.",
        )
        for step, final in answers
    ]
    share = votes[winner] / len(replies)
    sentences = [
        answer_sentence(winner, share),
        f"{share_in_words(votes[winner], len(replies))} patches gave this answer.",
        coverage_in_words(coverage(context.tissue, steps_of(state))),
    ]
    return Draft(" ".join(sentences), winner if state.get("options") else None, share, evidence)


def _name_of(choice: str, names: list[str]) -> str:
    return next(name for name in names if same_words(choice, name))


def _abstention(why: str, images: list[Step]) -> Draft:
    reason = f"{first_upper(why).rstrip('.')}."
    evidence = [cite(step) for step in images]
    return Draft(f"{ABSTAINED} {reason}", None, 0.0, evidence, abstained=True, reason=reason)
