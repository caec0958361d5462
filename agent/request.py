"""What a caller may ask for, checked before anything is opened or written."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.records import Settings
from core_model.errors import UsageError

if TYPE_CHECKING:
    from core_model.slide import Slide

MODES = ("agent", "slide")
LATER = "this version has the modes agent and slide, with the search navigator and a local model"
MAX_QUESTION, MAX_OPTION = 10_000, 1_000
"""Characters."""
TOKENS = ".pt"
"""Suffix of a file of stored slide tokens."""
MPP_RANGE = (0.05, 20.0)
"""µm/px that a whole-slide image can have."""


@dataclass(frozen=True)
class Request:
    """One question about one slide, and how to go about it. `checked` makes one that means something."""

    slide: str | Path | Slide
    question: str
    options: list[str] | None
    model: Any
    """`mini`, a checkpoint folder, or a model that is loaded already."""
    settings: Settings
    seed: int
    out: Path | None
    resume: bool

    @property
    def tokens(self) -> Path | None:
        """The file of slide tokens that is asked about in place of a slide."""
        return tokens_file(self.slide)


def tokens_file(slide: object) -> Path | None:
    """The path, if it is one of stored slide tokens."""
    is_one = isinstance(slide, str | Path) and Path(slide).suffix.lower() == TOKENS
    return Path(str(slide)) if is_one else None


def checked(
    slide: str | Path | Slide,
    question: str,
    *,
    options: Sequence[str] | None,
    model: Any,
    mpp: float | None,
    mode: str,
    navigator: str,
    max_steps: int,
    max_cost: float | None,
    seed: int,
    out: str | Path | None,
    resume: bool,
    base_url: str | None,
    bits: int | None,
) -> Request:
    """The request, or `UsageError` in one line."""
    _check_supported(model, mode, navigator, base_url)
    if tokens_file(slide) and mode != "slide":
        raise UsageError("a file of slide tokens has nothing to look around in", fix="Use --mode slide")
    if bits is not None and not isinstance(model, str | Path):
        raise UsageError("a model that is loaded already cannot be packed", fix="Load it with bits")
    if max_steps < 1:
        raise UsageError(f"a budget of {max_steps} steps leaves nothing to look at", fix="Give at least 1")
    if max_cost is not None and not (math.isfinite(max_cost) and max_cost >= 0):
        raise UsageError(f"a spending limit of {max_cost} means nothing", fix="Give 0 or more")
    if mpp is not None and not MPP_RANGE[0] <= mpp <= MPP_RANGE[1]:
        raise UsageError(
            f"{mpp} µm/px is outside {MPP_RANGE[0]} to {MPP_RANGE[1]}", fix="20x is about 0.5 µm/px"
        )
    settings = Settings(
        mode=mode, navigator=navigator, max_steps=max_steps, max_cost=max_cost, mpp=mpp, bits=bits
    )
    return Request(
        slide=slide,
        question=check_question(question),
        options=check_options(options),
        model=model,
        settings=settings,
        seed=seed,
        out=Path(out) if out is not None else None,
        resume=resume,
    )


def check_question(question: str) -> str:
    """The question without outer spaces. Raises `UsageError` where it is empty or endless."""
    text = _readable(question, "the question").strip()
    if not text:
        raise UsageError("the question is empty", fix='Ask something, e.g. "What is the diagnosis?"')
    if len(text) > MAX_QUESTION:
        raise UsageError(f"the question has {len(text):,} characters", fix=f"Use at most {MAX_QUESTION:,}")
    return text


def check_options(options: Sequence[str] | None) -> list[str] | None:
    """The options without outer spaces; None for an open question. Raises `UsageError`."""
    if not options:
        return None
    cleaned = [_readable(option, "an option").strip() for option in options]
    if not all(cleaned):
        raise UsageError("an option is empty", fix="Give every --option a text")
    if any(len(option) > MAX_OPTION for option in cleaned):
        raise UsageError("an option is too long", fix=f"Use at most {MAX_OPTION:,} characters")
    if len(cleaned) == 1:
        raise UsageError("one option is no choice", fix="Give at least two, or none for an open question")
    keys = [option.casefold() for option in cleaned]
    twice = [option for i, option in enumerate(cleaned) if keys[i] in keys[:i]]
    if twice:
        raise UsageError(f"the option '{twice[0]}' is given twice", fix="Give each option once")
    return cleaned


def _readable(text: str, what: str) -> str:
    """The text, if it can be written down: an argument of broken bytes cannot."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{what} is not valid UTF-8", fix="Check the terminal's encoding") from error
    return text


def _check_supported(model: Any, mode: str, navigator: str, base_url: str | None) -> None:
    if mode not in MODES:
        raise UsageError(f"there is no mode '{mode}' here: {LATER}")
    if navigator != "search":
        raise UsageError(f"there is no navigator '{navigator}' here: {LATER}")
    if isinstance(model, str) and ":" in model and not Path(model).exists():
        raise UsageError(f"the model '{model}' cannot be used here: {LATER}")
    if base_url is not None:
        raise UsageError(f"a base URL cannot be used here: {LATER}")
