"""The agent: looks around a slide until it can answer a question, and leaves evidence behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agent.graph.control import Control, Said
    from agent.run.records import Answer, Step, Vote
    from agent.session.aio import aask, astream
    from agent.session.ask import ask, stream

__all__ = ["Answer", "Control", "Said", "Step", "Vote", "aask", "ask", "astream", "stream"]

_HOMES = {
    "agent.session.ask": ("ask", "stream"),
    "agent.session.aio": ("aask", "astream"),
    "agent.graph.control": ("Control", "Said"),
    "agent.run.records": ("Answer", "Step", "Vote"),
}


def __getattr__(name: str) -> Any:
    """Load a name when it is first used, so that importing the package costs nothing."""
    from importlib import import_module

    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(home), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
