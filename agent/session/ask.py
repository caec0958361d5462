"""Ask a question about a slide: open everything, follow the graph, leave a run folder, give the answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.graph.control import Control
from agent.graph.follow import follow
from agent.graph.state import AgentContext, Meter
from agent.navigators.search import SearchNavigator
from agent.run.folder import choose_folder, give_back, open_run
from agent.run.journal import Journal
from agent.run.records import Answer, RunRecord, Settings, Step, TokensRecord, Vote
from agent.session.models import chat_of, described, frame_for, open_local, opened, run_record
from agent.session.options import AskOptions, with_options
from agent.session.request import Request, checked
from core_model.errors import RunError, UsageError
from core_model.features.store import cache_folder

if TYPE_CHECKING:
    from agent.graph.state import Navigator
    from agent.session.options import SlideSource
    from core_model.features.extract import Progress
    from core_model.slides.slide import Slide
    from tools.cohort.index import CohortIndex
    from tools.render import Frame

Item = Step | Vote | Answer
"""What a stream yields: steps as they are made or put into words, each vote where there are several, and last
the answer of the whole."""


@with_options(AskOptions)
def ask(slide: SlideSource, question: str, options: AskOptions) -> Answer:
    """Answer `question` about `slide`: `stream` without its steps.

    Raises `RunError` where the run was paused by its `control`, and what `stream` raises.
    """
    return ask_with(slide, question, options)


def ask_with(slide: SlideSource, question: str, options: AskOptions) -> Answer:
    """Ask with a record of options, as `ask` does with keyword arguments."""
    control = options.control or Control()
    answer = None
    for item in stream_with(slide, question, replace(options, control=control)):
        answer = item if isinstance(item, Answer) else None
    if answer is None:
        raise paused(control)
    return answer


def paused(control: Control) -> RunError:
    """The error that a paused run has in place of an answer."""
    fix = "Repeat the call with --resume (in Python: resume=True) to go on"
    return RunError("the run is paused", where=control.run, fix=fix)


@with_options(AskOptions)
def stream(slide: SlideSource, question: str, options: AskOptions) -> Iterator[Item]:
    """Ask, yielding each step as it happens and the answer at the end.

    `slide` is a path or an open slide, or in mode "slide" a `.pt` file of slide tokens. The other arguments
    are the fields of `AskOptions`. A step is yielded again when a chat model has put into words what it
    showed; with several votes each is yielded when it is cast.

    Raises `UsageError` at once; other `GiantError`s while it is iterated.
    """
    return stream_with(slide, question, options)


def stream_with(slide: SlideSource, question: str, options: AskOptions) -> Iterator[Item]:
    """Ask with a record of options, as `stream` does with keyword arguments."""
    if options.votes > 1 and options.control is not None and options.control.leads:
        fix = "Leave out --confirm, --hint and --look, or use 1 vote"
        raise UsageError("votes are independent runs, which nobody leads", fix=fix)
    return _run(checked(slide, question, options), options.control, options.progress)


def open_toolbox(slide: Slide, model: Any, folder: Path, progress: Progress | None, frame: Frame) -> Any:
    """The tools, bound to this slide and model, with the feature cache."""
    from core_model.features.store import FeatureStore
    from tools.toolbox import Toolbox

    store = FeatureStore(cache_folder(), kept=False)
    return Toolbox(slide, model, store=store, folder=folder, progress=progress, frame=frame)


def open_index(store: Path, slide: Slide, model: Any) -> CohortIndex:
    """The other slides of a store whose tiles the model's tile encoder made. Raises `FeatureStoreError`."""
    from core_model.features.store import FeatureStore
    from tools.similar import cohort_of

    return cohort_of(FeatureStore(store, kept=False), slide, model.tile_encoder)


def _run(request: Request, control: Control | None, progress: Progress | None) -> Iterator[Item]:
    start = time.perf_counter()
    with ExitStack() as stack:
        if request.tokens is not None:
            yield _read_tokens(request, request.tokens, start)
            return
        request = opened(request, stack)

        def one(vote: Request) -> Iterator[Item]:
            return _look_around(vote, control, progress, time.perf_counter())

        if request.settings.votes == 1:
            yield from _look_around(request, control, progress, start)
        else:
            yield from _vote(request, control, progress, one)


def _vote(
    request: Request,
    control: Control | None,
    progress: Progress | None,
    run: Callable[[Request], Iterator[Item]],
) -> Iterator[Item]:
    """Several runs of a request that is open; the whole folder is this process's meanwhile."""
    from agent.session.votes import cast

    record, folder, _ = _prepared(request, progress)
    with open_run(folder, record, request.resume) as record:
        if control is not None:
            control.run = folder
        yield from cast(request, record, folder, run)


def _look_around(
    request: Request, control: Control | None, progress: Progress | None, start: float
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
            meter=Meter(model, start),
            journal=Journal(folder),
            name=record.model.name,
            run_id=record.id,
            chat=chat_of(request),
            max_cost=request.settings.max_cost,
            max_steps=record.settings.max_steps,
            control=control,
        )
        if request.sight_check:
            from agent.chat.sight import check_sight

            check_sight(context)
        yield from follow(record, context)


def _prepared(request: Request, progress: Progress | None) -> tuple[RunRecord, Path, Any]:
    """The record of the run, its folder, and the tools. Nothing is written for a slide without tissue."""
    slide: Any = request.slide
    record = run_record(request, described(slide))
    folder = choose_folder(record, request.out, request.resume)
    model = request.slide_model if request.chats else request.model
    try:
        toolbox = open_toolbox(slide, model, folder, progress, frame_for(request))
        if request.regions is not None:
            toolbox.restrict(request.regions)
        if request.index is not None:
            toolbox.cohort = open_index(request.index, slide, model)
        return record.model_copy(update={"slide": described(slide, _mm2(toolbox))}), folder, toolbox
    except BaseException:
        give_back(folder)
        raise


def _read_tokens(request: Request, path: Path, start: float) -> Answer:
    """The answer where slide tokens are given in place of a slide."""
    from agent.session.tokens import answer_from_tokens
    from core_model.features.slide_tokens import open_slide_tokens

    model = open_local(request.model, request)
    tokens = open_slide_tokens(path, model.config.n_tokens, model.config.feature_dim)
    n, channels = tokens.tokens.shape
    record_of_tokens = TokensRecord(id=tokens.id, name=tokens.name, tokens=n, channels=channels)
    record = run_record(replace(request, model=model), record_of_tokens)
    folder = choose_folder(record, request.out, request.resume)
    with open_run(folder, record, request.resume) as record:
        return answer_from_tokens(record, folder, tokens, model, Meter(model, start))


def _mm2(toolbox: Any) -> float:
    return round(float(toolbox.tissue.area_mm2), 4)


def navigator_for(settings: Settings) -> Navigator:
    """The navigator of a run's settings: it decides where to look."""
    if settings.navigator == "chat" and settings.mode == "agent":
        from agent.navigators.chat import ChatNavigator

        return ChatNavigator(settings.profile)
    if settings.navigator == "chat":
        from agent.navigators.chat_passes import PassNavigator, patches_of

        return PassNavigator(settings.mode, patches_of(settings))
    if settings.mode == "agent":
        return SearchNavigator()
    from agent.navigators.local_passes import PatchesNavigator, SlideNavigator

    return PatchesNavigator(settings.patches) if settings.mode == "patches" else SlideNavigator()
