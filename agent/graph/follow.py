"""Follow the graph from the last checkpoint to the answer, and write down what happens on the way."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from langgraph.runtime import Runtime

from agent.evidence.check import not_checked
from agent.graph import nodes
from agent.graph.nodes import cost
from agent.graph.state import QUALITY, AgentContext, AgentState
from agent.run.folder import ANSWER, RUN, append_step, rebuild_trace
from agent.run.journal import seal
from agent.run.records import Action, Answer, RunRecord, Step, Unreadable
from core_model.errors import RunError
from core_model.files import disk_trouble, write_json

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.base import BaseCheckpointSaver
    from langgraph.checkpoint.sqlite import SqliteSaver
    from langgraph.graph.state import CompiledStateGraph

    from core_model.slides.box import Box


CHECKPOINT = "checkpoint.sqlite"


THREAD = "run"
"""A run folder holds one run, so its checkpoints need no other name."""


def follow(record: RunRecord, context: AgentContext) -> Iterator[Step | Answer]:
    """Take the run from its last checkpoint to its answer, and write down both.

    A step is yielded when it is made, and again where the navigator has put into words what it showed. Where
    the run is paused by its `Control`, the steps end without an answer.
    """
    folder, config = context.folder, run_config(record.most_steps)
    try:
        with checkpoints(folder) as saver:
            graph = build(saver)
            before = graph.get_state(config)
            steps = [Step.model_validate(step) for step in before.values.get("steps", [])]
            rebuild_trace(folder, steps)
            context.toolbox.last_shown = last_shown(steps)
            # Nothing is next at the end, but also where the run died before its first node.
            is_finished = "answer" in before.values and not before.next
            if not is_finished:
                start = None if before.created_at else initial_state(record)
                steps_by_index = {step.index: step for step in steps}
                for step in _steps(graph, start, config, context):
                    _write_step(folder, step, steps_by_index)
                    yield step
            after = graph.get_state(config)
            if after.next:  # paused
                return
            state = after.values
    except sqlite3.Error as error:
        trouble = disk_trouble(error)
        fix = "Make room and repeat with --resume" if trouble else "Start anew with another --out"
        raise RunError(
            f"its checkpoint cannot be used ({trouble or error})", where=folder, fix=fix
        ) from error
    yield finish(record, state, context)


def initial_state(record: RunRecord) -> AgentState:
    """The state before the first node."""
    return AgentState(
        question=record.question,
        options=record.options,
        seed=record.seed,
        max_steps=record.first_steps,
    )


def last_shown(steps: Sequence[Step]) -> tuple[Box, float] | None:
    """Box and resolution wished for of the last look: where a resumed run pans from."""
    last: tuple[Box, float] | None = None
    for step in steps:
        observation, wish = step.observation, step.action.args.get("mpp")
        if (
            step.action.tool in ("overview", "zoom", "pan")
            and observation.ok
            and observation.box
            and observation.mpp
        ):
            if step.action.tool == "pan" and last is not None:
                wish = last[1]
            last = (observation.box, float(wish or observation.mpp))
    return last


def finish(record: RunRecord, state: Any, context: AgentContext) -> Answer:
    """The answer with its cost; the folder is left as a finished one."""
    familiarity = state.get("familiarity") or {"tiles": None, "failed": []}
    answer = Answer.model_validate(state["answer"]).model_copy(update={"cost": cost(state, context)})
    record = record.model_copy(
        update={
            "tiles": familiarity["tiles"],
            "unreadable": [Unreadable(box=box, why=why) for box, why in familiarity["failed"]],
            "unsupported": list(state.get("problems", [])),
            **_focus(context),
            "server_notices": context.journal.notices(),
        }
    )
    write_finished(context.folder, record, [Step.model_validate(step) for step in state["steps"]], answer)
    return answer


def _focus(context: AgentContext) -> dict[str, Any]:
    """What run.json says of focus, where the run has measured it."""
    quality = context.quality if context.journal.has(QUALITY) else None
    if quality is None:
        return {}
    boxes = quality.blurred.boxes() if quality.blurred.mask.any() else []
    return {"out_of_focus": round(quality.blurred_share, 4), "blurred": boxes}


def write_finished(folder: Path, record: RunRecord, steps: Sequence[Step], answer: Answer) -> None:
    """Write the trace, the answer, the record and the reports, and last that the run is finished."""
    from agent.report.pages import write_reports

    rebuild_trace(folder, steps)
    write_json(folder / ANSWER, answer)
    record = record.model_copy(update={"sealed": seal(folder), "unchecked": not_checked(answer)})
    write_json(folder / RUN, record)
    write_reports(folder)
    write_json(folder / RUN, record.model_copy(update={"status": "finished"}))


def _write_step(folder: Path, step: Step, steps_by_index: dict[int, Step]) -> None:
    """Add a step to the trace, or put it in the place of what it revises."""
    is_revision = step.index in steps_by_index
    steps_by_index[step.index] = step
    if is_revision:
        rebuild_trace(folder, [steps_by_index[index] for index in sorted(steps_by_index)])
    else:
        append_step(folder, step)


def _steps(graph: Any, start: Any, config: Any, context: AgentContext) -> Iterator[Step]:
    """Run the graph; each step as soon as the node that recorded it has ended, and again where revised."""
    from langgraph.types import Command

    request: dict[str, Any] | None = None
    while True:
        for node, changes in _updates(graph, start, config, context):
            if node == "__interrupt__":
                request = changes[0].value
            elif not node.startswith("__"):
                for step in (changes or {}).get("steps", []):
                    yield Step.model_validate(step)
        control = context.control
        if request is None or control is None or control.paused or control.confirm is None:
            return
        reply = control.confirm(Action.model_validate(request["action"]), request["step"])
        if reply is None:
            return
        start, request = Command(resume=reply.model_dump(mode="json")), None


def _updates(graph: Any, start: Any, config: Any, context: AgentContext) -> Iterator[tuple[str, Any]]:
    """What each node changed, as it ends; LangGraph's own notes have names that begin with "__"."""
    from langgraph.errors import GraphRecursionError
    from langsmith import tracing_context

    parts = graph.stream(start, config, context=context, stream_mode="updates", durability="sync")
    try:
        while True:
            # A question about a patient's slide goes to the model and to nobody else, whatever the
            # environment says about tracing. Entered anew for each part: a caller may go on in other threads.
            with tracing_context(enabled=False):
                part = next(parts, None)
            if part is None:
                return
            yield from part.items()
    except GraphRecursionError as error:
        raise RunError("the run went in circles and was ended", where=context.folder) from error


def build(checkpointer: BaseCheckpointSaver[Any] | None = None) -> CompiledStateGraph[Any, Any, Any, Any]:
    """Compile the graph."""
    from langgraph.graph import END, START, StateGraph

    graph = StateGraph(AgentState, context_schema=AgentContext)
    for node in (nodes.look, nodes.decide, nodes.confirm, nodes.act, nodes.weigh):
        graph.add_node(node.__name__, node)
    for node in (nodes.answer, nodes.check, nodes.review):
        graph.add_node(node.__name__, node)
    graph.add_edge(START, "look")
    graph.add_edge("look", "decide")
    graph.add_conditional_edges("decide", after_decide, ["confirm", "act", "answer"])
    graph.add_conditional_edges("confirm", after_confirm, ["decide", "act", "answer"])
    graph.add_edge("act", "weigh")
    graph.add_edge("weigh", "decide")
    graph.add_edge("answer", "check")
    graph.add_conditional_edges("check", after_check, ["answer", "review"])
    graph.add_edge("review", END)
    return graph.compile(checkpointer=checkpointer)


def after_decide(state: AgentState, runtime: Runtime[AgentContext]) -> Literal["confirm", "act", "answer"]:
    """To the tools with a look, by way of the person where one takes part; else to the answer."""
    if not state.get("pending"):
        return "answer"
    refusal = state.get("observed")  # nothing will be shown, so there is nothing to approve
    return "confirm" if nodes.person_takes_part(runtime.context) and not refusal else "act"


def after_confirm(state: AgentState) -> Literal["decide", "act", "answer"]:
    """To the tools with what the person approved; back where they only gave a hint; or to the answer."""
    if state.get("pending"):
        return "act"
    return "answer" if state.get("stop") else "decide"


def after_check(state: AgentState) -> Literal["answer", "review"]:
    """Back once with a faulty answer."""
    return "answer" if state.get("problems") and state.get("revisions", 0) < 2 else "review"


def recursion_limit(max_steps: int) -> int:
    """Node runs that a budget of `max_steps` can need: at most seven a step where a person gives hints."""
    return 7 * max_steps + 16


def run_config(max_steps: int) -> RunnableConfig:
    """LangGraph's configuration of a run; its own limit is only a backstop behind the step budget."""
    return {"configurable": {"thread_id": THREAD}, "recursion_limit": recursion_limit(max_steps)}


@contextmanager
def checkpoints(folder: Path) -> Iterator[SqliteSaver]:
    """The SQLite checkpointer of a run folder; it reads back plain data only, in any environment."""
    from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
    from langgraph.checkpoint.sqlite import SqliteSaver

    with closing(sqlite3.connect(folder / CHECKPOINT, check_same_thread=False)) as connection:
        # With the write-ahead log that the saver turns on, this loses nothing when the process dies; a power
        # cut may cost the last step, never the file.
        connection.execute("PRAGMA synchronous=NORMAL")
        yield SqliteSaver(connection, serde=JsonPlusSerializer(allowed_msgpack_modules=None))
