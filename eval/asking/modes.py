"""How a question can be put: every mode has the same question, the same reading of the answer, one purse.

A question without options but with a scale of labels (an ISUP grade from 0 to 5) has its labels as options,
in every mode; the answer then is a label. A question without either is open.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from core_model.errors import UsageError
from eval.asking.baselines import CONSTANT
from eval.benchmarks.questions import Question

BLIND = "blind"
MODES = {
    "agent": "looks around the slide before it answers",
    "thumbnail": "a chat model sees the whole slide in one image",
    "patches": "patches of tissue drawn at random, a call each; the majority answers",
    "joint": "a chat model sees the whole slide and patches of tissue in one call",
    "slide": "the local model reads the whole slide at once",
    BLIND: "a chat model is asked without any image",
    CONSTANT: "the best answer that is the same throughout a task, chosen with the right answers known",
}


@dataclass(frozen=True)
class Budget:
    """What is the same for every question of an evaluation. None: what the mode has by itself."""

    max_steps: int | None = None
    """Of the modes agent and slide."""
    votes: int = 1
    """Runs of mode agent whose majority answers."""
    seed: int = 0
    profile: str | None = None
    patches: int | None = None
    patch_px: int | None = None
    patch_mpp: float | None = None
    base_url: str | None = None

    def options(self, mode: str) -> dict[str, Any]:
        """What of it `agent.ask` is told in a mode."""
        arguments: dict[str, Any] = {"mode": mode, "seed": self.seed}
        if mode in ("agent", "slide"):
            arguments["max_steps"] = self.max_steps
        if mode == "agent":
            arguments |= {"votes": self.votes, "profile": self.profile}
        if mode in ("patches", "joint"):
            arguments |= {"patches": self.patches, "patch_px": self.patch_px, "patch_mpp": self.patch_mpp}
        return arguments


def parse_modes(text: str) -> list[str]:
    """Mode names from a comma-separated list. Raises `UsageError`."""
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in MODES:
            raise UsageError(f"there is no mode '{name}'", fix=f"There are {', '.join(MODES)}")
    return list(dict.fromkeys(names))


def check_askable(
    modes: Sequence[str],
    model: Any,
    slide_model: Any,
    budget: Budget,
    max_cost: float | None,
    prices: Path | None,
) -> None:
    """Raise `UsageError`, or another `GiantError`, where a mode could not be asked of this model at all."""
    from agent.session.options import LOCAL_MODEL, AskOptions
    from agent.session.request import checked, names_chat_model

    model_modes = [mode for mode in modes if mode != CONSTANT]
    chats = names_chat_model(model)
    _check_budget(model_modes, budget, chats, max_cost)
    for mode in model_modes:
        is_open = chats and not isinstance(model, str)
        options = AskOptions(
            model=model,
            slide_model=slide_model if mode == "agent" else LOCAL_MODEL,
            max_cost=max_cost,
            prices=None if is_open else prices,
            base_url=None if is_open else budget.base_url,
            **budget.options(mode),
        )
        checked("", "?", options)
    if model_modes and chats and isinstance(model, str):
        from agent.llm.client import open_chat

        open_chat(model, base_url=budget.base_url, max_cost=max_cost, prices=prices)


def choices(question: Question) -> list[str] | None:
    """What a question lets choose from: its options, else its scale of labels."""
    return list(question.options or question.labels or ()) or None


def model_identity(model: Any) -> str:
    """What tells one model from another without loading it: a checkpoint's manifest, a chat model's name."""
    import hashlib

    from agent.session.request import names_chat_model
    from core_model.models.tile_encoders import MINI

    if not isinstance(model, str | Path) or names_chat_model(model):
        return str(getattr(model, "name", model))
    manifest = (MINI if str(model) == "mini" else Path(model)) / "manifest.json"
    return hashlib.sha256(manifest.read_bytes()).hexdigest()[:16] if manifest.is_file() else str(model)


def conditions(modes: Sequence[str], model: Any, slide_model: Any, budget: Budget) -> dict[str, Any]:
    """What the answers depend on: the best constant answer on nothing; a server's address may change."""
    if set(modes) <= {CONSTANT}:
        return {}
    from agent.session.request import names_chat_model

    record = {"weights": model_identity(model), **asdict(budget)}
    del record["base_url"]
    if names_chat_model(model):
        record["slide_weights"] = model_identity(slide_model)
    return record


def _check_budget(model_modes: Sequence[str], budget: Budget, chats: bool, max_cost: float | None) -> None:
    if budget.votes != 1 and "agent" not in model_modes:
        raise UsageError("only mode agent is voted on", fix="Add agent to --mode, or leave out --votes")
    if budget.profile is not None and "agent" not in model_modes:
        raise UsageError("only mode agent has a profile", fix="Add agent to --mode, or leave out --profile")
    patch_options = (budget.patches, budget.patch_px, budget.patch_mpp)
    if any(value is not None for value in patch_options) and not {"patches", "joint"} & {*model_modes}:
        raise UsageError("no mode asked for has patches to choose", fix="Add patches or joint to --mode")
    if budget.max_steps is not None and not {"agent", "slide"} & {*model_modes}:
        raise UsageError("no mode asked for takes a number of looks", fix="Leave out --max-steps")
    if max_cost is not None and not (chats and model_modes):
        raise UsageError("a spending limit is for chat models", fix="Leave out --max-cost")
    if max_cost is not None and not (math.isfinite(max_cost) and max_cost >= 0):
        raise UsageError(f"a spending limit of {max_cost} means nothing", fix="Give 0 or more")
