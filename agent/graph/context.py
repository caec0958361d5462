"""What a navigator is: the one who decides where to look next, and what the looks amount to.

A navigator holds no state of its own. Everything it remembers is in `AgentState`, so that a run killed
between two steps goes on as if nothing had happened.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from agent.run.records import Action, Answer, Claim, Evidence
from tools.records import Observation

if TYPE_CHECKING:
    from agent.graph.state import AgentContext, AgentState


NOTHING: Mapping[str, Any] = MappingProxyType({})


class Stop(NamedTuple):
    """The decision to look no further."""

    why: str
    """One sentence; it becomes part of the answer."""


class Decided(NamedTuple):
    """What a navigator decided, and what else it has come to know."""

    next: Action | Stop
    updates: Mapping[str, Any] = NOTHING
    """Fields of `AgentState` that change: turns of a conversation, actions in the queue, revised steps."""


class Weighed(NamedTuple):
    """What an observation amounts to."""

    finding: str
    """What the step showed, in one or two sentences."""
    updates: dict[str, Any]
    """Fields of `AgentState` that change: hypotheses, scores, posterior."""


class Draft(NamedTuple):
    """An answer before it is checked."""

    text: str
    choice: str | None
    confidence: float
    evidence: list[Evidence]
    abstained: bool = False
    reason: str | None = None
    claims: Sequence[Claim] = ()
    updates: Mapping[str, Any] = NOTHING
    """Fields of `AgentState` that change with it."""


class Navigator(Protocol):
    """Decides, weighs and composes. Called by the graph's nodes only."""

    name: str
    starts_wide: bool
    """Whether its first step is the overview."""
    reads_features: bool
    """Whether it needs the features of the slide's tiles: they are computed before its first decision."""

    def decide(self, state: AgentState, context: AgentContext) -> Decided:
        """The next look, or the reason to stop. The same state and context give the same decision."""
        ...

    def weigh(
        self, state: AgentState, context: AgentContext, action: Action, observation: Observation
    ) -> Weighed:
        """What the observation of `action` says about the question. Failed observations come here too."""
        ...

    def compose(self, state: AgentState, context: AgentContext, problems: list[str]) -> Draft:
        """The answer from what was seen; `problems` says what was wrong with the draft before, if any."""
        ...

    def review(self, state: AgentState, context: AgentContext, answer: Answer) -> Answer:
        """The checked answer after a last look with fresh eyes; the answer itself where there is none."""
        ...
