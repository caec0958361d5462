"""What a caller may ask for, checked before anything is opened or written."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from agent.run.records import Settings
from core_model.errors import UsageError

if TYPE_CHECKING:
    from core_model.slides.slide import Slide

LOCAL_MODES = ("agent", "slide", "patches")
CHAT_MODES = ("agent", "thumbnail", "patches", "joint", "blind")
NAVIGATORS, PROFILES = ("search", "chat"), ("survey", "giant")
MAX_PATCHES, MAX_PATCH_PX = 500, 1000
STEPS = {"search": 16, "chat": 20}
"""Default budget of each navigator."""
CHAT_MODEL = "--model provider:name, e.g. openai:gpt-5"
LOCAL_MODEL = "mini"
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
    """`mini`, a checkpoint folder, `provider:name`, or a model that is loaded already."""
    slide_model: Any
    """Beside a chat model: the local model behind `retrieve` and `ask_region`."""
    prices: Path | None
    """The user's price table."""
    settings: Settings
    seed: int
    out: Path | None
    resume: bool

    @property
    def chats(self) -> bool:
        """Whether a chat model answers."""
        return self.settings.navigator == "chat"

    @property
    def tokens(self) -> Path | None:
        """The file of slide tokens that is asked about in place of a slide."""
        return tokens_file(self.slide)


def names_chat_model(model: object) -> bool:
    """Whether `model` is `provider:name`, or a chat model that is open already; a file of that name wins."""
    from agent.llm.client import ChatClient

    if isinstance(model, str):
        provider, colon, name = model.partition(":")
        return bool(provider and colon and name) and not Path(model).exists()
    return isinstance(model, ChatClient)


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
    slide_model: Any,
    mpp: float | None,
    mode: str,
    navigator: str | None,
    profile: str | None,
    votes: int,
    max_steps: int | None,
    max_cost: float | None,
    prices: str | Path | None,
    seed: int,
    out: str | Path | None,
    resume: bool,
    base_url: str | None,
    bits: int | None,
    patches: int | None = None,
    patch_px: int | None = None,
    patch_mpp: float | None = None,
) -> Request:
    """The request, or `UsageError` in one line."""
    chats = names_chat_model(model)
    _check_mode(mode, chats, max_steps, (patches, patch_px, patch_mpp))
    navigator = _navigator(navigator, model, chats)
    if chats:
        _check_chat(model, profile, base_url, prices)
    else:
        _check_local(slide_model, profile, base_url, prices)
    _check_votes(votes, mode)
    if tokens_file(slide) and mode != "slide":
        raise UsageError("a file of slide tokens has nothing to look around in", fix="Use --mode slide")
    if bits is not None and not isinstance(slide_model if chats else model, str | Path):
        raise UsageError("a model that is loaded already cannot be packed", fix="Load it with bits")
    steps = _looks(mode, navigator, patches) if max_steps is None else max_steps
    _check_numbers(steps, max_cost, mpp)
    settings = Settings(
        mode=mode,
        navigator=navigator,
        max_steps=steps,
        max_cost=max_cost,
        mpp=mpp,
        profile=(profile or PROFILES[0]) if chats and mode == "agent" else None,
        patches=patches,
        patch_px=patch_px,
        patch_mpp=patch_mpp,
        votes=votes,
        base_url=base_url,
        bits=bits,
    )
    return Request(
        slide=slide,
        question=check_question(question),
        options=check_options(options),
        model=model,
        slide_model=slide_model,
        prices=Path(prices) if prices is not None else None,
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


def _navigator(asked: str | None, model: Any, chats: bool) -> str:
    """The navigator that fits the model. Raises `UsageError` where another was asked for."""
    fits = "chat" if chats else "search"
    if asked is not None and asked not in NAVIGATORS:
        raise UsageError(f"there is no navigator '{asked}'", fix="Use search or chat, or leave it out")
    if asked not in (None, fits):
        if chats:
            what, fix = "the search navigator is driven by a local model", f"Leave out --navigator {asked}"
        else:
            what, fix = "the chat navigator is driven by a chat model", f"Give {CHAT_MODEL}"
        raise UsageError(f"{what}, and '{getattr(model, 'name', model)}' is none", fix=fix)
    return fits


def _check_mode(mode: str, chats: bool, max_steps: int | None, patches: tuple[float | None, ...]) -> None:
    modes = CHAT_MODES if chats else LOCAL_MODES
    if mode not in modes:
        kind = "a chat model" if chats else "a local model"
        raise UsageError(f"{kind} has no mode '{mode}'", fix=f"It has {', '.join(modes)}")
    if mode not in ("agent", "slide") and max_steps is not None:
        raise UsageError(f"mode '{mode}' takes a number of looks of its own", fix="Leave out --max-steps")
    if mode not in ("patches", "joint") and any(value is not None for value in patches):
        raise UsageError(f"mode '{mode}' has no patches to choose", fix="Use --mode patches or joint")
    if not chats and any(value is not None for value in patches[1:]):
        raise UsageError("a local model reads tiles of its own size", fix="Give --patches alone")
    if any(value is not None and not value > 0 for value in patches):
        raise UsageError("patches have a number, a size and a resolution above 0")
    if (patches[0] or 0) > MAX_PATCHES or (patches[1] or 0) > MAX_PATCH_PX:
        raise UsageError(
            f"at most {MAX_PATCHES} patches of {MAX_PATCH_PX} px can be asked for", fix="Ask for fewer"
        )


def _looks(mode: str, navigator: str, patches: int | None) -> int:
    """The budget of a run that names none: all that its mode needs."""
    if mode in ("agent", "slide"):
        return STEPS[navigator]
    own = {"patches": 30, "joint": 16}.get(mode, 1)
    return (patches or own) + (mode == "joint")


def _check_chat(model: Any, profile: str | None, base_url: str | None, prices: str | Path | None) -> None:
    if not isinstance(model, str) and (base_url is not None or prices is not None):
        raise UsageError("a chat model that is open has its server and price", fix="Give them to open_chat")
    if profile is not None and profile not in PROFILES:
        raise UsageError(f"there is no profile '{profile}'", fix=f"Use {' or '.join(PROFILES)}")
    if base_url is not None:
        _check_url(base_url)


def _check_url(url: str) -> None:
    """The URL is written into run.json, so it may hold nothing secret."""
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise UsageError("--base-url is no URL", fix="e.g. http://127.0.0.1:8000/v1") from None
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise UsageError(  # never quoted: it may hold a password
            "--base-url holds a user name, a password or a query",
            fix="Give scheme, host and path alone; keys come from the environment",
        )
    if not sound:
        raise UsageError(f"--base-url '{url}' is no http or https URL", fix="e.g. http://127.0.0.1:8000/v1")


def _check_local(
    slide_model: Any, profile: str | None, base_url: str | None, prices: str | Path | None
) -> None:
    """What is said of a chat model means nothing where there is none."""
    given = {
        "--profile": profile is not None,
        "--base-url": base_url is not None,
        "--prices": prices is not None,
        "--slide-model": slide_model != LOCAL_MODEL,
    }
    for name, is_given in given.items():
        if is_given:
            raise UsageError(
                f"{name} is for chat models, and this is a local model", fix=f"Give {CHAT_MODEL}"
            )


def _check_votes(votes: int, mode: str) -> None:
    if votes < 1:
        raise UsageError(f"{votes} votes decide nothing", fix="Give at least 1")
    if votes > 1 and mode != "agent":
        raise UsageError(f"every vote of mode '{mode}' would be the same", fix="Use --mode agent, or 1 vote")


def _check_numbers(max_steps: int, max_cost: float | None, mpp: float | None) -> None:
    if max_steps < 1:
        raise UsageError(f"a budget of {max_steps} steps leaves nothing to look at", fix="Give at least 1")
    if max_cost is not None and not (math.isfinite(max_cost) and max_cost >= 0):
        raise UsageError(f"a spending limit of {max_cost} means nothing", fix="Give 0 or more")
    if mpp is not None and not MPP_RANGE[0] <= mpp <= MPP_RANGE[1]:
        raise UsageError(
            f"{mpp} µm/px is outside {MPP_RANGE[0]} to {MPP_RANGE[1]}", fix="20x is about 0.5 µm/px"
        )
