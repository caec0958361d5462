"""How good the answers are: benchmarks, modes, metrics, and how fast they come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eval.benchmarks.registry import load_benchmark

__all__ = ["load_benchmark"]


def __getattr__(name: str) -> Any:
    """Load what is asked for when it is first used, so that importing the package costs nothing."""
    if name in __all__:
        from eval.benchmarks import registry as benchmarks

        return getattr(benchmarks, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
