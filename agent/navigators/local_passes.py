"""Single passes of a local model: one question about the whole slide, or the vote of tiles drawn at random.

They need no search and are the baselines that it must beat. `agent.navigators.chat_passes` does the same with
a chat model.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from agent.evidence.check import cite
from agent.evidence.familiarity import doubts
from agent.graph.state import Draft, Stop, steps_of
from agent.navigators.compose import SINGLE_PASS, UNKNOWN_TO_MODEL, compose_answer, seen_in_words
from agent.navigators.search import SearchNavigator
from agent.navigators.weigh import Looks, ranked
from agent.run.records import Action
from agent.text import answer_sentence, share_in_words

if TYPE_CHECKING:
    from agent.graph.state import AgentContext, AgentState


class SlideNavigator(SearchNavigator):
    """Asks about the whole slide and answers."""

    name = "slide"

    def _next(self, state: AgentState, context: AgentContext) -> Action | Stop:
        looks = Looks(steps_of(state), context.slide.box)
        familiarity = state.get("familiarity")
        if looks.whole is not None and not (familiarity and doubts(familiarity, context.model.name)):
            return Stop(SINGLE_PASS)
        return super()._next(state, context)


COUNT = 30
"""Tiles asked, as published with GIANT."""


class PatchesNavigator(SearchNavigator):
    """Asks tiles at random; each has one vote."""

    name = "patches"
    starts_wide = False

    def __init__(self, count: int | None = None) -> None:
        self.count = count or COUNT

    def _next(self, state: AgentState, context: AgentContext) -> Action | Stop:
        familiarity = state.get("familiarity")
        if familiarity and doubts(familiarity, context.model.name):
            return Stop(UNKNOWN_TO_MODEL)
        plan = context.journal.once("plan", "patches", lambda: self._plan(state, context))
        count = len(steps_of(state))
        if count >= len(plan):
            return Stop(SINGLE_PASS)
        reason = f"Tile {count + 1} of {len(plan)}, drawn at random."
        args = {"box": plan[count], "question": state["question"], "options": state.get("options")}
        return Action(tool="ask_region", args=args, reason=reason)

    def compose(self, state: AgentState, context: AgentContext, problems: list[str]) -> Draft:
        """The answer that most tiles give, as sure as their share; of equals the more probable one."""
        steps = Looks(steps_of(state), context.slide.box).answered()
        familiarity = state.get("familiarity")
        if (
            not steps
            or not state.get("posterior")
            or (familiarity and doubts(familiarity, context.model.name))
        ):
            return compose_answer(state, context, problems)
        leaders = {step.index: ranked(state["scores"][str(step.index)])[0] for step in steps}
        names = list(dict.fromkeys(leader.name for leader in leaders.values()))
        votes = {name: sum(leader.name == name for leader in leaders.values()) for name in names}
        sure = {name: sum(leader.p for leader in leaders.values() if leader.name == name) for name in names}
        order = sorted(names, key=lambda name: (-votes[name], -sure[name]))
        winner, share = order[0], votes[order[0]] / len(steps)
        evidence = [
            cite(
                step,
                f"{'Supports' if leaders[step.index].name == winner else 'Speaks against'} the answer."
                f" {step.finding}",
            )
            for step in steps
        ]
        sentences = [
            answer_sentence(winner, share),
            f"It was the most probable answer for {share_in_words(votes[winner], len(steps)).lower()} tiles.",
            *seen_in_words(state, context),
        ]
        return Draft(" ".join(sentences), winner if state.get("options") else None, share, evidence)

    def _plan(self, state: AgentState, context: AgentContext) -> list[list[int]]:
        tiles = context.toolbox.tiles_in(context.slide.box)
        dice = random.Random(f"{state['seed']}:patches")
        rows = dice.sample(range(len(tiles)), min(self.count, len(tiles)))
        return [list(tiles.box(row)) for row in rows]
