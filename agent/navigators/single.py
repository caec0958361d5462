"""One look: the slide model alone, asked once about the whole slide. The baseline that `search` must beat."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.evidence.familiarity import doubts
from agent.graph.context import Stop
from agent.graph.state import steps_of
from agent.navigators.looks import Looks
from agent.navigators.search import SearchNavigator
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
