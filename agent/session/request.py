"""Checks a question and its options before anything is opened or written."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.llm.network import checked_server, checked_timeout
from agent.run.records import Settings
from agent.session.options import LOCAL_MODEL, AskOptions
from core_model.errors import UsageError

if TYPE_CHECKING:
    from agent.session.options import SlideSource
    from core_model.slides.slide import Slide

LOCAL_MODES = ("agent", "slide", "patches")
CHAT_MODES = ("agent", "thumbnail", "patches", "joint", "blind")
NAVIGATORS, PROFILES = ("search", "chat"), ("survey", "giant")
MAX_PATCHES, MAX_PATCH_PX = 500, 1000
STEPS = {"search": 16, "chat": 20}
"""Default budget of each navigator."""
CHAT_MODEL = "--model provider:name, e.g. openai:gpt-5"
MAX_QUESTION, MAX_OPTION = 10_000, 1_000
"""Characters."""
SIGHT_VARIABLE = "GIANT_SIGHT_CHECK"
_ON, _OFF = ("", "on", "1", "yes", "true"), ("off", "0", "no", "false")
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
    sight_check: bool
    """Whether a chat model must show that it sees images."""
    seed: int
    regions: Any
    """The file of annotated regions, or these once it is read; None for the whole slide."""
    index: Path | None
    """The store of other slides whose tiles `retrieve` names too."""
    isolate: bool
    """Whether a child process reads the slide."""
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
    if isinstance(model, str | Path):
        provider, colon, name = str(model).partition(":")
        return isinstance(model, str) and bool(provider and colon and name) and not Path(model).exists()
    from agent.llm.client import ChatClient

    return isinstance(model, ChatClient)


def tokens_file(slide: object) -> Path | None:
    """The path, if it is one of stored slide tokens."""
    is_one = isinstance(slide, str | Path) and Path(slide).suffix.lower() == TOKENS
    return Path(str(slide)) if is_one else None


def checked(slide: SlideSource, question: str, options: AskOptions) -> Request:
    """The request, with defaults filled in. Raises `UsageError` where the options contradict each other."""
    chats = names_chat_model(options.model)
    _check_mode(options, chats)
    navigator = _navigator(options, chats)
    if chats:
        _check_chat(options)
    else:
        _check_local(options)
    _check_votes(options)
    if tokens_file(slide) and options.mode != "slide":
        raise UsageError("a file of slide tokens has nothing to look around in", fix="Use --mode slide")
    if options.bits is not None and not isinstance(
        options.slide_model if chats else options.model, str | Path
    ):
        raise UsageError("a model that is loaded already cannot be packed", fix="Load it with bits")
    steps = (
        _looks(options.mode, navigator, options.patches) if options.max_steps is None else options.max_steps
    )
    _check_numbers(steps, options.max_cost, options.mpp, options.mpp_override)
    names = (
        *("mode", "max_cost", "mpp", "mpp_override", "patches", "patch_px", "patch_mpp", "votes"),
        *("base_url", "timeout", "bits"),
    )
    settings = Settings(
        navigator=navigator,
        max_steps=steps,
        profile=(options.profile or PROFILES[0]) if chats and options.mode == "agent" else None,
        regions=_regions_digest(options, chats, bool(tokens_file(slide))),
        index=_index_digest(options),
        **{name: getattr(options, name) for name in names},
    )
    return Request(
        slide=slide,
        question=check_question(question),
        options=check_options(options.options),
        model=options.model,
        slide_model=options.slide_model,
        prices=Path(options.prices) if options.prices is not None else None,
        settings=settings,
        sight_check=chats and options.mode != "blind" and checks_sight(options.sight_check),
        seed=options.seed,
        regions=Path(options.regions) if options.regions is not None else None,
        index=Path(options.index) if options.index is not None else None,
        isolate=bool(options.isolate),
        out=Path(options.out) if options.out is not None else None,
        resume=options.resume,
    )


def _regions_digest(options: AskOptions, chats: bool, from_tokens: bool) -> str | None:
    """What tells annotated regions from others, where there are any. Raises `UsageError`."""
    if options.regions is None:
        return None
    if chats:
        raise UsageError(
            "a chat model looks where it likes, not in regions alone", fix="Use a local model with --regions"
        )
    if from_tokens:
        raise UsageError("slide tokens have no places, so no regions", fix="Give the slide itself")
    try:
        content = Path(options.regions).read_bytes()
    except OSError as error:
        raise UsageError(
            f"the regions cannot be read ({error.strerror or error})", where=options.regions
        ) from error
    return hashlib.sha256(content).hexdigest()[:16]


def _index_digest(options: AskOptions) -> str | None:
    """What tells an index of other slides from others, where there is one. Raises `UsageError`."""
    if options.index is None:
        return None
    if options.mode != "agent" or options.profile == "giant":
        raise UsageError(
            "an index is for a run that can retrieve", fix="Leave out --index, or use --mode agent"
        )
    from tools.cohort.update import digest_of_store

    digest = digest_of_store(Path(options.index))
    if digest is None:
        fix = f"Make one: giant index SLIDE… --out {options.index}"
        raise UsageError("the folder has no index of a cohort", where=options.index, fix=fix)
    return digest


def checks_sight(wish: bool | None) -> bool:
    """Whether sight is checked: as wished, else as the environment says. Raises `UsageError`."""
    word = os.environ.get(SIGHT_VARIABLE, "").strip().casefold()
    if word not in _ON and word not in _OFF:
        raise UsageError(f"{SIGHT_VARIABLE} is {word!r}", fix="Set it to on or off, or leave it out")
    return word in _ON if wish is None else wish


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
    texts = [_readable(option, "an option").strip() for option in options]
    if not all(texts):
        raise UsageError("an option is empty", fix="Give every --option a text")
    if any(len(option) > MAX_OPTION for option in texts):
        raise UsageError("an option is too long", fix=f"Use at most {MAX_OPTION:,} characters")
    if len(texts) == 1:
        raise UsageError(
            "a single option leaves nothing to choose", fix="Give at least two, or none for an open question"
        )
    keys = [option.casefold() for option in texts]
    doubles = [option for i, option in enumerate(texts) if keys[i] in keys[:i]]
    if doubles:
        raise UsageError(f"the option '{doubles[0]}' is given twice", fix="Give each option once")
    return texts


def _readable(text: str, subject: str) -> str:
    """The text, if it can be written down: an argument of broken bytes cannot.

    In an ASCII locale the bytes of other letters come in as halves of characters: they are UTF-8.
    """
    try:
        text.encode()
        return text
    except UnicodeEncodeError:
        pass
    try:
        return os.fsencode(text).decode()
    except UnicodeError as error:
        raise UsageError(f"{subject} is not valid UTF-8", fix="Check the terminal's encoding") from error


def _navigator(options: AskOptions, chats: bool) -> str:
    """The navigator that fits the model. Raises `UsageError` where another was asked for."""
    name, fitting = options.navigator, "chat" if chats else "search"
    if name is not None and name not in NAVIGATORS:
        raise UsageError(f"there is no navigator '{name}'", fix="Use search or chat, or leave it out")
    if name not in (None, fitting):
        if chats:
            fault, fix = "the search navigator is driven by a local model", f"Leave out --navigator {name}"
        else:
            fault, fix = "the chat navigator is driven by a chat model", f"Give {CHAT_MODEL}"
        raise UsageError(f"{fault}, and '{getattr(options.model, 'name', options.model)}' is none", fix=fix)
    return fitting


def _check_mode(options: AskOptions, chats: bool) -> None:
    mode, modes = options.mode, CHAT_MODES if chats else LOCAL_MODES
    patches = (options.patches, options.patch_px, options.patch_mpp)
    if mode not in modes:
        kind = "a chat model" if chats else "a local model"
        raise UsageError(f"{kind} has no mode '{mode}'", fix=f"It has {', '.join(modes)}")
    if mode not in ("agent", "slide") and options.max_steps is not None:
        raise UsageError(f"mode '{mode}' takes a number of looks of its own", fix="Leave out --max-steps")
    if mode not in ("patches", "joint") and any(value is not None for value in patches):
        raise UsageError(f"mode '{mode}' has no patches to choose", fix="Use --mode patches or joint")
    if not chats and any(value is not None for value in patches[1:]):
        raise UsageError("a local model reads tiles of its own size", fix="Give --patches alone")
    if any(value is not None and not value > 0 for value in patches):
        raise UsageError("the number, size and resolution of patches must be above 0")
    if (options.patches or 0) > MAX_PATCHES or (options.patch_px or 0) > MAX_PATCH_PX:
        raise UsageError(
            f"at most {MAX_PATCHES} patches of {MAX_PATCH_PX} px can be asked for", fix="Ask for fewer"
        )


def _looks(mode: str, navigator: str, patches: int | None) -> int:
    """The budget of a run that names none: all that its mode needs."""
    if mode in ("agent", "slide"):
        return STEPS[navigator]
    default = {"patches": 30, "joint": 16}.get(mode, 1)
    return (patches or default) + (mode == "joint")


def _check_chat(options: AskOptions) -> None:
    of_opening = (options.base_url, options.prices, options.timeout)
    if not isinstance(options.model, str) and any(value is not None for value in of_opening):
        fault = "a chat model that is open has its server, its price and its time limit"
        raise UsageError(fault, fix="Give them to open_chat")
    if options.profile is not None and options.profile not in PROFILES:
        raise UsageError(f"there is no profile '{options.profile}'", fix=f"Use {' or '.join(PROFILES)}")
    if options.base_url is not None:
        checked_server(options.base_url, "--base-url")
    if options.timeout is not None:
        checked_timeout(options.timeout)


def _check_local(ask_options: AskOptions) -> None:
    """Refuse options that are only for chat models."""
    flags = {
        "--profile": ask_options.profile is not None,
        "--base-url": ask_options.base_url is not None,
        "--prices": ask_options.prices is not None,
        "--timeout": ask_options.timeout is not None,
        "--slide-model": ask_options.slide_model != LOCAL_MODEL,
    }
    for name, is_set in flags.items():
        if is_set:
            raise UsageError(
                f"{name} is for chat models, and this is a local model", fix=f"Give {CHAT_MODEL}"
            )


def _check_votes(options: AskOptions) -> None:
    if options.votes < 1:
        raise UsageError(f"{options.votes} votes decide nothing", fix="Give at least 1")
    if options.votes > 1 and options.mode != "agent":
        fault = f"every vote of mode '{options.mode}' would be the same"
        raise UsageError(fault, fix="Use --mode agent, or 1 vote")


def _check_numbers(max_steps: int, max_cost: float | None, mpp: float | None, override: float | None) -> None:
    if max_steps < 1:
        raise UsageError(f"a budget of {max_steps} steps leaves nothing to look at", fix="Give at least 1")
    if max_cost is not None and not (math.isfinite(max_cost) and max_cost >= 0):
        raise UsageError(
            f"the spending limit {max_cost} is not a number of USD from 0 up", fix="Give 0 or more"
        )
    for value in (mpp, override):
        if value is not None and not MPP_RANGE[0] <= value <= MPP_RANGE[1]:
            raise UsageError(
                f"{value} µm/px is outside {MPP_RANGE[0]} to {MPP_RANGE[1]}", fix="20x is about 0.5 µm/px"
            )
    if mpp is not None and override is not None:
        raise UsageError("--mpp and --mpp-override say the same thing twice", fix="Give one of them")
