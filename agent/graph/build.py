"""The graph that every run follows.

    look ──> decide ──> (confirm) ──> act ──> weigh ─┐
                ▲  │        │                        │
                └──┼────────┴────────────────────────┘
                   └─ stop ──> answer ──> check ──> review ──> END
                                  ▲         │
                                  └─ once ──┘

`confirm` is gone through where a person takes part: the run waits there for a word (LangGraph's interrupt).

Nothing is built at import: `build` compiles the graph for one run, with that run's checkpointer.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from langgraph.runtime import Runtime

from agent.graph import nodes
from agent.graph.context import AgentContext
from agent.graph.state import AgentState

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.base import BaseCheckpointSaver
    from langgraph.checkpoint.sqlite import SqliteSaver
    from langgraph.graph.state import CompiledStateGraph

CHECKPOINT = "checkpoint.sqlite"
THREAD = "run"
"""A run folder holds one run, so its checkpoints need no other name."""


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
    refused = state.get("observed")  # nothing will be shown, so there is nothing to approve
    return "confirm" if nodes.person_takes_part(runtime.context) and not refused else "act"


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
