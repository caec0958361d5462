"""The modes in which a question can be put. All share the question, the reading of its answer, and one purse.

A question without options but with a scale of labels (an ISUP grade from 0 to 5) has its labels as options,
in every mode; the answer then is a label. A question without either is open.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent.session.options import LOCAL_MODEL, AskOptions
from core_model.errors import UsageError
from eval.asking.baselines import CONSTANT
from eval.asking.reading import READER
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


FITTING_MODES = {
    "max_steps": ("agent", "slide"),
    "votes": ("agent",),
    "profile": ("agent",),
    "patches": ("patches", "joint"),
    "patch_px": ("patches", "joint"),
    "patch_mpp": ("patches", "joint"),
}
"""Options of a question that mean something in some modes only."""
CONDITION_OPTIONS = ("max_steps", "votes", "seed", "profile", "patches", "patch_px", "patch_mpp")
"""Options that the answers depend on."""


def options_in(mode: str, base_options: AskOptions) -> AskOptions:
    """The options of a question in one mode: those of the shared options that fit this mode."""
    fitting = {name: getattr(base_options, name) for name, modes in FITTING_MODES.items() if mode in modes}
    return AskOptions(mode=mode, seed=base_options.seed, **fitting)


def parse_modes(text: str) -> list[str]:
    """Mode names from a comma-separated list. Raises `UsageError`."""
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in MODES:
            raise UsageError(f"there is no mode '{name}'", fix=f"Choose among {', '.join(MODES)}")
    return list(dict.fromkeys(names))


def check_askable(
    modes: Sequence[str],
    model: Any,
    slide_model: Any,
    base_options: AskOptions,
    max_cost: float | None,
    prices: Path | None,
) -> None:
    """Raise `UsageError`, or another `GiantError`, where a mode could not be asked of this model at all."""
    from agent.session.request import checked, names_chat_model

    model_modes = [mode for mode in modes if mode != CONSTANT]
    chats = names_chat_model(model)
    _check_fitting(model_modes, base_options, chats, max_cost)
    for mode in model_modes:
        is_open = chats and not isinstance(model, str)
        options = replace(
            options_in(mode, base_options),
            model=model,
            slide_model=slide_model if mode == "agent" else LOCAL_MODEL,
            max_cost=max_cost,
            prices=None if is_open else prices,
            base_url=None if is_open else base_options.base_url,
            timeout=None if is_open else base_options.timeout,
        )
        checked("", "?", options)
    if model_modes and chats and isinstance(model, str):
        from agent.llm.client import open_chat

        server, timeout = base_options.base_url, base_options.timeout
        open_chat(model, base_url=server, max_cost=max_cost, prices=prices, timeout=timeout)


def choices(question: Question) -> list[str] | None:
    """The answers that a question lets choose from: its options, else its scale of labels."""
    return list(question.options or question.labels or ()) or None


def model_identity(model: Any) -> str:
    """A text that tells one model from another without loading it, from its manifest or its name."""
    import hashlib

    from agent.session.request import names_chat_model
    from core_model.models.tile_encoders import MINI

    if not isinstance(model, str | Path) or names_chat_model(model):
        return str(getattr(model, "name", model))
    manifest = (MINI if str(model) == "mini" else Path(model)) / "manifest.json"
    return hashlib.sha256(manifest.read_bytes()).hexdigest()[:16] if manifest.is_file() else str(model)


def conditions(
    modes: Sequence[str], model: Any, slide_model: Any, base_options: AskOptions
) -> dict[str, Any]:
    """The conditions that answers depend on; empty for mode constant alone. A server's address is none."""
    if set(modes) <= {CONSTANT}:
        return {}
    from agent.session.request import names_chat_model

    record = {"weights": model_identity(model), "reader": READER} | {
        name: getattr(base_options, name) for name in CONDITION_OPTIONS
    }
    if names_chat_model(model):
        record["slide_weights"] = model_identity(slide_model)
    return record


def _check_fitting(
    model_modes: Sequence[str], base_options: AskOptions, chats: bool, max_cost: float | None
) -> None:
    if base_options.votes != 1 and "agent" not in model_modes:
        raise UsageError("votes are for mode agent only", fix="Add agent to --mode, or leave out --votes")
    if base_options.profile is not None and "agent" not in model_modes:
        raise UsageError(
            "a profile is for mode agent only", fix="Add agent to --mode, or leave out --profile"
        )
    patch_options = (base_options.patches, base_options.patch_px, base_options.patch_mpp)
    if any(value is not None for value in patch_options) and not {"patches", "joint"} & {*model_modes}:
        raise UsageError(
            "options of patches are for the modes patches and joint only",
            fix="Add patches or joint to --mode",
        )
    if base_options.max_steps is not None and not {"agent", "slide"} & {*model_modes}:
        raise UsageError(
            "a number of looks is for the modes agent and slide only", fix="Leave out --max-steps"
        )
    if max_cost is not None and not (chats and model_modes):
        raise UsageError("a spending limit is for chat models only", fix="Leave out --max-cost")
    if max_cost is not None and not (math.isfinite(max_cost) and max_cost >= 0):
        raise UsageError(f"a spending limit of {max_cost} means nothing", fix="Give 0 or more")
