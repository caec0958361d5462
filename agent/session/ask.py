"""Ask a question about a slide: open everything, follow the graph, leave a run folder, give the answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.graph.control import Control
from agent.graph.follow import follow
from agent.graph.state import AgentContext, Meter
from agent.navigators.local_passes import PatchesNavigator, SlideNavigator
from agent.navigators.search import SearchNavigator
from agent.run.folder import choose_folder, open_run
from agent.run.journal import Journal
from agent.run.records import Answer, RunRecord, Settings, Step, TokensRecord, Vote
from agent.session.models import chat_of, described, frame_for, open_local, opened, run_record
from agent.session.request import LOCAL_MODEL, Request, checked
from core_model.errors import RunError, UsageError
from core_model.features.store import cache_folder

if TYPE_CHECKING:
    from agent.graph.state import Navigator
    from core_model.features.extract import Progress
    from core_model.slides.slide import Slide
    from tools.render import Frame

Item = Step | Vote | Answer
"""What a stream yields: steps as they are made or put into words, each vote where there are several, and last
the answer of the whole."""


def ask(slide: str | Path | Slide, question: str, **options: Any) -> Answer:
    """The answer to `question` about `slide`; takes the options of `stream` and drops the steps.

    Raises `RunError` where the run was paused by its `control`.
    """
    control = options.get("control") or Control()
    answer = None
    for item in stream(slide, question, **{**options, "control": control}):
        answer = item if isinstance(item, Answer) else None
    if answer is None:
        raise paused(control)
    return answer


def paused(control: Control) -> RunError:
    """What a paused run has in place of an answer."""
    fix = "Repeat the call with --resume (in Python: resume=True) to go on"
    return RunError("the run is paused", where=control.run, fix=fix)


def stream(
    slide: str | Path | Slide,
    question: str,
    *,
    options: Sequence[str] | None = None,
    model: Any = LOCAL_MODEL,
    slide_model: Any = LOCAL_MODEL,
    mpp: float | None = None,
    mode: str = "agent",
    navigator: str | None = None,
    profile: str | None = None,
    patches: int | None = None,
    patch_px: int | None = None,
    patch_mpp: float | None = None,
    votes: int = 1,
    max_steps: int | None = None,
    max_cost: float | None = None,
    prices: str | Path | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    resume: bool = False,
    base_url: str | None = None,
    bits: int | None = None,
    control: Control | None = None,
    progress: Progress | None = None,
) -> Iterator[Item]:
    """Ask, yielding each step as it happens and the answer at the end.

    `slide` is a path or an open slide, or in mode "slide" a `.pt` file of slide tokens; `mpp` its µm per
    level-0 px where the file does not say. With `options` one of them is chosen, else the model's own words
    are the answer. `model` is a name, a checkpoint folder or a loaded model; `bits` (4 or 8) packs its
    weights. `out` is the run folder (default: giant-runs/… in the working folder); `resume` continues the
    run that is there at its last step and yields the steps from there on, or starts it where there is none.
    `control` takes part in the run: a paused one ends without an answer. `progress` is told how many tiles
    are encoded.

    With `provider:name` as `model` a chat model looks around: `profile` says how ("survey", or "giant" as
    published), `base_url` on which server, `max_cost` for how many USD by `prices` (a file over our own
    table), and `slide_model` is the local model that it may consult. A step is yielded again when the model
    has put into words what it showed.

    `mode` is "agent", or a single pass: "slide" (the local model reads the whole slide), "patches" (places
    drawn at random, one call each, the majority answers), and with a chat model "thumbnail", "joint" (the
    slide and many patches in one call) or "blind". `patches`, `patch_px` and `patch_mpp` say how many
    patches, how large and how fine.

    Raises `UsageError` at once; other `GiantError`s while it is iterated.
    """
    if votes > 1 and control is not None and control.leads:
        fix = "Leave out --confirm, --hint and --look, or use 1 vote"
        raise UsageError("votes are independent runs, which nobody leads", fix=fix)
    request = checked(
        slide,
        question,
        options=options,
        model=model,
        slide_model=slide_model,
        mpp=mpp,
        mode=mode,
        navigator=navigator,
        profile=profile,
        patches=patches,
        patch_px=patch_px,
        patch_mpp=patch_mpp,
        votes=votes,
        max_steps=max_steps,
        max_cost=max_cost,
        prices=prices,
        seed=seed,
        out=out,
        resume=resume,
        base_url=base_url,
        bits=bits,
    )
    return _run(request, control, progress)


def open_toolbox(slide: Slide, model: Any, folder: Path, progress: Progress | None, frame: Frame) -> Any:
    """The tools, bound to this slide and model, with the feature cache."""
    from core_model.features.store import FeatureStore
    from tools.toolbox import Toolbox

    store = FeatureStore(cache_folder())
    return Toolbox(slide, model, store=store, folder=folder, progress=progress, frame=frame)


def _run(request: Request, control: Control | None, progress: Progress | None) -> Iterator[Item]:
    started = time.perf_counter()
    with ExitStack() as stack:
        if request.tokens is not None:
            yield _read_tokens(request, request.tokens, started)
            return
        request = opened(request, stack)

        def one(vote: Request) -> Iterator[Item]:
            return _look_around(vote, control, progress, time.perf_counter())

        if request.settings.votes == 1:
            yield from _look_around(request, control, progress, started)
        else:
            yield from _vote(request, control, progress, one)


def _vote(
    request: Request,
    control: Control | None,
    progress: Progress | None,
    one: Callable[[Request], Iterator[Item]],
) -> Iterator[Item]:
    """Several runs of a request that is open; the whole folder is this process's meanwhile."""
    from agent.session.votes import cast

    record, folder, _ = _prepared(request, progress)
    with open_run(folder, record, request.resume) as record:
        if control is not None:
            control.run = folder
        yield from cast(request, record, folder, one)


def _look_around(
    request: Request, control: Control | None, progress: Progress | None, started: float
) -> Iterator[Item]:
    """One run of a request that is open; the folder is this process's until the run ends or is left."""
    model = request.slide_model if request.chats else request.model
    record, folder, toolbox = _prepared(request, progress)
    with open_run(folder, record, request.resume) as record:
        if control is not None and control.run is None:
            control.run = folder
        context = AgentContext(
            slide=toolbox.slide,
            model=model,
            toolbox=toolbox,
            navigator=navigator_for(request.settings),
            folder=folder,
            mode=request.settings.mode,
            meter=Meter(model, started),
            journal=Journal(folder),
            name=record.model.name,
            run_id=record.id,
            chat=chat_of(request),
            max_cost=request.settings.max_cost,
            control=control,
        )
        yield from follow(record, context)


def _prepared(request: Request, progress: Progress | None) -> tuple[RunRecord, Path, Any]:
    """What the run is, its folder, and the tools; nothing is written for a slide without tissue."""
    slide: Any = request.slide
    record = run_record(request, described(slide))
    folder = choose_folder(record, request.out, request.resume)
    model = request.slide_model if request.chats else request.model
    toolbox = open_toolbox(slide, model, folder, progress, frame_for(request))
    return record.model_copy(update={"slide": described(slide, _mm2(toolbox))}), folder, toolbox


def _read_tokens(request: Request, path: Path, started: float) -> Answer:
    """The answer where slide tokens are given in place of a slide."""
    from agent.session.tokens import answer_from_tokens
    from core_model.features.slide_tokens import open_slide_tokens

    model = open_local(request.model, request)
    seen = open_slide_tokens(path, model.config.n_tokens, model.config.feature_dim)
    n, channels = seen.tokens.shape
    about = TokensRecord(id=seen.id, name=seen.name, tokens=n, channels=channels)
    record = run_record(replace(request, model=model), about)
    folder = choose_folder(record, request.out, request.resume)
    with open_run(folder, record, request.resume) as record:
        return answer_from_tokens(record, folder, seen, model, Meter(model, started))


def _mm2(toolbox: Any) -> float:
    return round(float(toolbox.tissue.area_mm2), 4)


def navigator_for(settings: Settings) -> Navigator:
    """Who decides where to look."""
    if settings.navigator == "chat" and settings.mode == "agent":
        from agent.navigators.chat import ChatNavigator

        return ChatNavigator(settings.profile)
    if settings.navigator == "chat":
        from agent.navigators.chat_passes import PassNavigator, patches_of

        return PassNavigator(settings.mode, patches_of(settings))
    if settings.mode == "patches":
        return PatchesNavigator(settings.patches)
    return SlideNavigator() if settings.mode == "slide" else SearchNavigator()
