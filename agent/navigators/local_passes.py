"""The local model's patches: the question to single tiles drawn at random, one after another, and their vote.

What `agent.navigators.passes` does with a chat model, a local one does from the features of the tiles.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from agent.evidence.check import cite
from agent.evidence.familiarity import doubts
from agent.graph.state import Draft, Stop, steps_of
from agent.navigators.compose import compose
from agent.navigators.search import SearchNavigator
from agent.navigators.weigh import Looks, ranked
from agent.run.records import Action

if TYPE_CHECKING:
    from agent.graph.state import AgentContext, AgentState


class SlideNavigator(SearchNavigator):
    """Asks about the whole slide and answers."""

    name = "slide"

    def _next(self, state: AgentState, context: AgentContext) -> Action | Stop:
        looks = Looks(steps_of(state), context.slide.box)
        known = state.get("familiarity")
        if looks.whole is not None and not (known and doubts(known, context.model.name)):
            return Stop("a single pass was asked for")
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
        known = state.get("familiarity")
        if known and doubts(known, context.model.name):
            return Stop("asking the model would mean nothing here")
        plan = context.journal.once("plan", "patches", lambda: self._plan(state, context))
        made = len(steps_of(state))
        if made >= len(plan):
            return Stop("a single pass was asked for")
        reason = f"Tile {made + 1} of {len(plan)}, drawn at random."
        args = {"box": plan[made], "question": state["question"], "options": state.get("options")}
        return Action(tool="ask_region", args=args, reason=reason)

    def compose(self, state: AgentState, context: AgentContext, problems: list[str]) -> Draft:
        """The answer that most tiles give, as sure as their share; of equals the more probable one."""
        asked = Looks(steps_of(state), context.slide.box).answered()
        known = state.get("familiarity")
        if not asked or not state.get("posterior") or (known and doubts(known, context.model.name)):
            return compose(state, context, problems)
        leaders = {step.index: ranked(state["scores"][str(step.index)])[0] for step in asked}
        names = list(dict.fromkeys(leader.name for leader in leaders.values()))
        votes = {name: sum(leader.name == name for leader in leaders.values()) for name in names}
        sure = {name: sum(leader.p for leader in leaders.values() if leader.name == name) for name in names}
        winner = max(names, key=lambda name: (votes[name], sure[name]))
        evidence = [
            cite(step, f"{'Supports' if leaders[step.index].name == winner else 'Speaks against'} it."
                 f" {step.finding}")
            for step in asked
        ]  # fmt: skip
        text = f"{winner[:1].upper()}{winner[1:]}. {votes[winner]} of {len(asked)} tiles say so."
        choice = winner if state.get("options") else None
        return Draft(text, choice, votes[winner] / len(asked), evidence)

    def _plan(self, state: AgentState, context: AgentContext) -> list[list[int]]:
        tiles = context.toolbox.features
        dice = random.Random(f"{state['seed']}:patches")
        rows = dice.sample(range(len(tiles)), min(self.count, len(tiles)))
        return [list(tiles.box(row)) for row in rows]
