"""The options of a question in one record, for `agent.ask`, the command line, batches and evaluations."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeAlias, TypeVar

if TYPE_CHECKING:
    from agent.graph.control import Control
    from core_model.features.extract import Progress
    from core_model.slides.slide import Slide

    SlideSource: TypeAlias = str | Path | Slide

P = ParamSpec("P")
R = TypeVar("R")
LOCAL_MODEL = "mini"


@dataclass(frozen=True, kw_only=True)
class AskOptions:
    """Options of a question about a slide. Every field is a keyword argument of `agent.ask`."""

    options: Sequence[str] | None = None
    """Answers to choose from; None for an open question, which is answered in the model's own words."""
    model: Any = LOCAL_MODEL
    """`mini`, a checkpoint folder, `provider:name` of a chat model, or a model that is loaded already."""
    slide_model: Any = LOCAL_MODEL
    """The local model that a chat model may consult with `retrieve` and `ask_region`."""
    bits: int | None = None
    """4 or 8 packs the weights of the local language model; None leaves them as they are."""
    base_url: str | None = None
    """Server of the chat model; None for the provider's own."""
    navigator: str | None = None
    """"search" (a local model) or "chat" (a chat model); None for the one that fits the model."""
    profile: str | None = None
    """How a chat model navigates: "survey" (None means this), or "giant" as published."""
    mode: str = "agent"
    """"agent" looks around. Single passes: "slide" (a local model reads the whole slide), "patches" (places
    drawn at random, one call each, the majority answers), and for a chat model "thumbnail", "joint" (slide
    and many patches in one call) and "blind"."""
    patches: int | None = None
    """How many patches, in modes "patches" (None: 30) and "joint" (None: 16)."""
    patch_px: int | None = None
    """Side of a patch as shown to a chat model, px."""
    patch_mpp: float | None = None
    """Resolution of a patch as shown to a chat model, µm/px."""
    votes: int = 1
    """Independent runs; the answer is that of their majority."""
    max_steps: int | None = None
    """Most looks before the answer; None for what the navigator or the mode needs."""
    max_cost: float | None = None
    """Spending limit of the chat model, USD."""
    prices: str | Path | None = None
    """A file of your own prices, which come before our table."""
    timeout: float | None = None
    """Seconds for one attempt of a call to the chat model; None for GIANT_TIMEOUT, else 300."""
    sight_check: bool | None = None
    """Whether a chat model must first read a drawn number, so that one that sees no images is found out, once
    for a model and server. None for yes, or for what the environment variable GIANT_SIGHT_CHECK says."""
    seed: int = 0
    """Decides everything that is drawn at random."""
    mpp: float | None = None
    """µm per level-0 px, where the slide file does not say."""
    mpp_override: float | None = None
    """µm per level-0 px, whatever the slide file says."""
    regions: str | Path | None = None
    """Annotations of this slide as QuPath exports them (GeoJSON): a local model looks only at tissue inside
    them."""
    index: str | Path | None = None
    """A folder that `giant index --out` made: `retrieve` then also names tiles of its other slides that look
    alike, as similar and as no evidence about this slide."""
    isolate: bool | None = None
    """Whether a child process reads the slide, within limits of memory and time, because nobody vouches for
    its file; None for what the command does: a batch does so, a single question does not."""
    out: str | Path | None = None
    """The run folder; None for `giant-runs/<slide>-<digest>` in the working folder."""
    resume: bool = False
    """Go on with the run in the folder at its last step, or begin where there is none."""
    control: Control | None = None
    """Takes part in the run: approves looks, gives hints, pauses. A paused run ends without an answer."""
    progress: Progress | None = None
    """Called with the number of tiles that are encoded, and of all."""


def with_options(
    record: Callable[P, AskOptions],
) -> Callable[[Callable[[SlideSource, str, AskOptions], R]], Callable[Concatenate[SlideSource, str, P], R]]:
    """Give a function of slide, question and `AskOptions` the fields of the record as keyword arguments.

    Type checkers and editors take them from the record, `help` from the signature set here.
    """
    fields = list(inspect.signature(record).parameters.values())

    def decorate(
        function: Callable[[SlideSource, str, AskOptions], R],
    ) -> Callable[Concatenate[SlideSource, str, P], R]:
        @wraps(function)
        def call(slide: SlideSource, question: str, *args: P.args, **options: P.kwargs) -> R:
            return function(slide, question, record(*args, **options))

        signature = inspect.signature(function)
        places = [p for p in signature.parameters.values() if p.name != "options"]
        call.__signature__ = signature.replace(parameters=[*places, *fields])  # type: ignore[attr-defined]
        return call

    return decorate
