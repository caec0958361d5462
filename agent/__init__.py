"""The agent: looks around a slide until it can answer a question, and leaves evidence behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agent.session import ask, stream

__all__ = ["ask", "stream"]


def __getattr__(name: str) -> Any:
    """Load `ask` and `stream` when they are first used, so that importing the package costs nothing."""
    if name in __all__:
        from agent import session

        return getattr(session, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
