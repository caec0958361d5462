"""What can be done with a slide and a model: look, move, search, ask. Names load when first used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tools.records import Observation as Observation
    from tools.toolbox import Toolbox as Toolbox

_HOME = {"Toolbox": "tools.toolbox", "Observation": "tools.records"}

__all__ = ["Observation", "Toolbox"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'tools' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
