"""The agent: looks around a slide until it can answer a question, and leaves evidence behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agent.people import Control, Said
    from agent.records import Answer, Step, Vote
    from agent.session import ask, stream
    from agent.session_async import aask, astream

__all__ = ["Answer", "Control", "Said", "Step", "Vote", "aask", "ask", "astream", "stream"]

_HOMES = {
    "agent.session": ("ask", "stream"),
    "agent.session_async": ("aask", "astream"),
    "agent.people": ("Control", "Said"),
    "agent.records": ("Answer", "Step", "Vote"),
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
