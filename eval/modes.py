"""How a question can be put to the model. Every mode gives the same `Answer`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core_model.errors import UsageError
from eval.questions import Question

if TYPE_CHECKING:
    from agent.records import Answer
    from core_model.slide import Slide

MODES = {
    "agent": "looks around the slide before it answers",
    "slide": "reads the whole slide at once",
}


@dataclass(frozen=True)
class Budget:
    """What is the same for every question of an evaluation."""

    max_steps: int = 16
    seed: int = 0


def check_modes(text: str) -> list[str]:
    """Mode names from a comma-separated list. Raises `UsageError`."""
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in MODES:
            raise UsageError(f"there is no mode '{name}'", fix=f"There are {', '.join(MODES)}")
    return list(dict.fromkeys(names))


def put(question: Question, slide: Slide, model: Any, mode: str, budget: Budget, folder: Path) -> Answer:
    """The answer of a mode; the run is left in `folder`. Raises `GiantError`."""
    from agent import ask

    return ask(
        slide,
        question.question,
        options=list(question.options) if question.options else None,
        model=model,
        mode=mode,
        max_steps=budget.max_steps,
        seed=budget.seed,
        out=folder,
    )
