"""What the graph remembers between nodes, and what it is given for one run.

`AgentState` is plain data (lists, dicts, strings, numbers) so that every checkpoint is small and can be read
back under LANGGRAPH_STRICT_MSGPACK. The slide, the model and the toolbox are not data: they travel in
`AgentContext`, LangGraph's runtime context, and are opened anew when a run resumes.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

from agent.evidence.familiarity import Familiarity
from agent.run.records import Action, Step

if TYPE_CHECKING:
    pass


class Spent(TypedDict):
    """What the run has used so far; adds up over resumed runs."""

    seconds: float
    tokens_in: int
    tokens_out: int


def add_spent(left: Spent | None, right: Spent) -> Spent:
    """Reducer of `AgentState.spent`: each node reports only what it used itself."""
    if not left:
        return right
    return Spent(
        seconds=left["seconds"] + right["seconds"],
        tokens_in=left["tokens_in"] + right["tokens_in"],
        tokens_out=left["tokens_out"] + right["tokens_out"],
    )


def merge_steps(left: list[dict[str, Any]] | None, right: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Reducer of `AgentState.steps`: new steps are added, known ones replaced."""
    by_index = {step["index"]: step for step in left or []} | {step["index"]: step for step in right}
    return [by_index[index] for index in sorted(by_index)]


class AgentState(TypedDict, total=False):
    """The state of one run. `steps` grows; everything else is replaced by the node that writes it."""

    question: str
    options: list[str] | None
    seed: int
    max_steps: int
    steps: Annotated[list[dict[str, Any]], merge_steps]
    """`Step` records as JSON values, in order. One written again with its index replaces the earlier."""
    familiarity: Familiarity | None
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
