"""What the graph remembers between nodes, and what it is given for one run.

`AgentState` is plain data (lists, dicts, strings, numbers) so that every checkpoint is small and can be read
back under LANGGRAPH_STRICT_MSGPACK. The slide, the model and the toolbox are not data: they travel in
`AgentContext`, LangGraph's runtime context, and are opened anew when a run resumes.
"""

from __future__ import annotations

import operator
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Protocol, TypedDict

from agent.evidence.familiarity import FamiliarityRecord
from agent.run.records import Action, Answer, Claim, Evidence, Step
from tools.records import Observation

if TYPE_CHECKING:
    from agent.graph.control import Control
    from agent.llm.client import ChatClient
    from agent.run.journal import Journal
    from core_model.slides.slide import Slide
    from core_model.slides.tissue import TissueMask
    from core_model.specimen.quality import Quality


QUALITY = "quality"
"""Kind of the journal's entry on what is out of focus."""


class Weights(NamedTuple):
    """Weights from the slide model's calibration, with which an answer is pooled."""

    slide: float
    """Weight of what it says of the whole slide."""
    region: float
    """Weight of what it says of regions, all together."""
    abstain_below: float
    """Least confidence of an answer."""


@dataclass
class Meter:
    """Measures what one node used: wall time and the model's tokens since the last reading."""

    model: Any
    started: float
    """`time.perf_counter()` from which the first lap counts, so that loading is part of it."""
    _last: Spent = field(init=False)

    def __post_init__(self) -> None:
        self._last = self._total() | {"seconds": self.started}

    def _total(self) -> Spent:
        usage = self.model.usage
        return Spent(
            seconds=time.perf_counter(), tokens_in=int(usage.tokens_in), tokens_out=int(usage.tokens_out)
        )

    def lap(self) -> Spent:
        """What was used since the last lap, or since the meter was made."""
        total, last = self._total(), self._last
        self._last = total
        return Spent(
            seconds=total["seconds"] - last["seconds"],
            tokens_in=total["tokens_in"] - last["tokens_in"],
            tokens_out=total["tokens_out"] - last["tokens_out"],
        )


@dataclass
class AgentContext:
    """What the nodes work with: opened for one run, never stored."""

    slide: Slide
    model: Any
    """A `core_model.WsiLlava`, or anything with its methods."""
    toolbox: Any
    """A `tools.Toolbox`, or anything with its methods."""
    navigator: Navigator
    folder: Path
    mode: str
    meter: Meter
    journal: Journal
    name: str
    """The model that answers: the local one, or `provider:name`."""
    run_id: str = ""
    chat: ChatClient | None = None
    """The chat model; None where the local model answers."""
    max_cost: float | None = None
    """Spending limit, USD."""
    max_steps: int | None = None
    """The budget of steps as it is now; None where the state's own counts, as in a replay."""
    control: Control | None = None
    """The person who takes part, if any."""

    @property
    def shown_folder(self) -> str:
        """The run folder as the answer names it: of a slide under a pseudonym within its batch alone."""
        if getattr(self.slide, "alias", None) is None:
            return str(self.folder)
        return str(Path(self.folder.parent.name, self.folder.name))

    @cached_property
    def tissue(self) -> TissueMask:
        """Where the slide's tissue is; kept in the journal, so that a replay measures coverage without it."""
        from agent.evidence.coverage import packed, unpacked

        return unpacked(self.journal.once("tissue", "mask", lambda: packed(self.toolbox.tissue)))

    @cached_property
    def quality(self) -> Quality | None:
        """Which tissue is out of focus; kept in the journal likewise. None where it was not measured."""
        from agent.evidence.coverage import packed, unpacked
        from core_model.specimen.quality import Quality, nothing_of

        def measured() -> dict[str, Any] | None:
            blurred = self.toolbox.quality.blurred
            return packed(blurred) if blurred.mask.any() else None

        if self.journal.replaying and not self.journal.has(QUALITY):
            return None
        kept = self.journal.once(QUALITY, "focus", measured)
        return Quality(self.tissue, unpacked(kept) if kept else nothing_of(self.tissue))

    @cached_property
    def weights(self) -> Weights:
        """The slide model's calibration, kept in the journal likewise."""

        def read() -> list[float]:
            calibration = self.model.config.calibration
            return [
                float(calibration.slide_weight),
                float(calibration.region_weight),
                float(calibration.abstain_below),
            ]

        return Weights(*self.journal.once("calibration", "model", read))


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


class Spent(TypedDict):
    """What the run has used so far; adds up over resumed runs."""

    seconds: float
    tokens_in: int
    tokens_out: int


def add_spent(total: Spent | None, right: Spent) -> Spent:
    """Reducer of `AgentState.spent`: each node reports only what it used itself."""
    if not total:
        return right
    return Spent(
        seconds=total["seconds"] + right["seconds"],
        tokens_in=total["tokens_in"] + right["tokens_in"],
        tokens_out=total["tokens_out"] + right["tokens_out"],
    )


def merge_steps(steps: list[dict[str, Any]] | None, right: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Reducer of `AgentState.steps`: new steps are added, known ones replaced."""
    by_index = {step["index"]: step for step in steps or []} | {step["index"]: step for step in right}
    return [by_index[index] for index in sorted(by_index)]


class AgentState(TypedDict, total=False):
    """The state of one run. `steps` grows; everything else is replaced by the node that writes it."""

    question: str
    options: list[str] | None
    seed: int
    max_steps: int
    steps: Annotated[list[dict[str, Any]], merge_steps]
    """`Step` records as JSON values, in order. One written again with its index replaces the earlier."""
    familiarity: FamiliarityRecord | None
    pending: dict[str, Any] | None
    """The `Action` decided on and not yet recorded as a step."""
    queue: list[dict[str, Any]]
    """`Action`s decided on together with `pending`, to be made after it, in order."""
    turns: Annotated[list[dict[str, Any]], operator.add]
    """What a chat model said so far, turn by turn, as the chat navigator keeps it."""
    hints: list[str]
    """What a person asked to consider."""
    moments: int
    """How often it was decided what to do: the name under which is kept what a person said then."""
    observed: dict[str, Any] | None
    """The observation of `pending`, with the seconds it took; None until the tool has answered."""
    stop: str | None
    """Why no further look is taken; None while looking."""
    hypotheses: list[str]
    """The answers under comparison: the options, or what the model itself said of the slide and regions."""
    scores: dict[str, dict[str, float]]
    """Step index (as text) to the probability of each hypothesis at that place alone."""
    said: dict[str, float]
    """Open questions: hypothesis to the model's mean token probability when it said it."""
    posterior: dict[str, float] | None
    """Pooled probability of each hypothesis."""
    answer: dict[str, Any] | None
    """The `Answer` drafted last."""
    problems: list[str]
    """What the evidence check found wrong with `answer`."""
    revisions: int
    """How often an answer was sent back."""
    reviewed: bool
    """Whether the answer was looked at with fresh eyes."""
    spent: Annotated[Spent, add_spent]


def steps_of(state: AgentState) -> list[Step]:
    """The steps so far, as records."""
    return [Step.model_validate(step) for step in state.get("steps", [])]


def pending_of(state: AgentState) -> Action:
    """The action decided on; asking for it when there is none is a bug."""
    return Action.model_validate(state["pending"])
