"""Ask a question about a slide: open everything, follow the graph, leave a run folder, give the answer."""

from __future__ import annotations

import hashlib
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.follow import follow
from agent.journal import Journal
from agent.navigators.search import SearchNavigator
from agent.navigators.single import SlideNavigator
from agent.records import Answer, ModelRecord, RunRecord, SlideRecord, Step, TokensRecord
from agent.request import Request, checked
from agent.runs import choose_folder, open_run
from agent.state import AgentContext, Meter

if TYPE_CHECKING:
    from agent.navigators.base import Navigator
    from core_model.extract import Progress
    from core_model.slide import Slide

CACHE_VARIABLE = "GIANT_CACHE"


def ask(slide: str | Path | Slide, question: str, **options: Any) -> Answer:
    """The answer to `question` about `slide`; takes the options of `stream` and drops the steps."""
    answer = None
    for item in stream(slide, question, **options):
        answer = item if isinstance(item, Answer) else None
    if answer is None:
        raise AssertionError("a run ends in an answer or raises")
    return answer


def stream(
    slide: str | Path | Slide,
    question: str,
    *,
    options: Sequence[str] | None = None,
    model: Any = "mini",
    mpp: float | None = None,
    mode: str = "agent",
    navigator: str = "search",
    max_steps: int = 16,
    max_cost: float | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    resume: bool = False,
    base_url: str | None = None,
    bits: int | None = None,
    progress: Progress | None = None,
) -> Iterator[Step | Answer]:
    """Ask, yielding each step as it happens and the answer at the end.

    `slide` is a path or an open slide, or in mode "slide" a `.pt` file of slide tokens; `mpp` its µm per
    level-0 px where the file does not say. With `options` one of them is chosen, else the model's own words
    are the answer. `model` is a name, a checkpoint folder or a loaded model; `bits` (4 or 8) packs its
    weights. `out` is the run folder (default: giant-runs/… in the working folder); `resume` continues the
    run that is there at its last step and yields the steps from there on, or starts it where there is none.
    `progress` is told how many tiles are encoded.

    Raises `UsageError` at once; other `GiantError`s while it is iterated.
    """
    request = checked(
        slide,
        question,
        options=options,
        model=model,
        mpp=mpp,
        mode=mode,
        navigator=navigator,
        max_steps=max_steps,
        max_cost=max_cost,
        seed=seed,
        out=out,
        resume=resume,
        base_url=base_url,
        bits=bits,
    )
    return _run(request, progress)


def cache_folder() -> Path:
    """Where features are kept: $GIANT_CACHE, else giant/ in the user's cache folder."""
    own = os.environ.get(CACHE_VARIABLE)
    if own:
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "giant"


def open_toolbox(slide: Slide, model: Any, folder: Path, progress: Progress | None) -> Any:
    """The tools, bound to this slide and model, with the feature cache."""
    from core_model.features import FeatureStore
    from tools.toolbox import Toolbox

    return Toolbox(slide, model, store=FeatureStore(cache_folder()), folder=folder, progress=progress)


def navigator_for(mode: str) -> Navigator:
    """Who decides where to look."""
    return SlideNavigator() if mode == "slide" else SearchNavigator()


def _run(request: Request, progress: Progress | None) -> Iterator[Step | Answer]:
    started = time.perf_counter()
    with ExitStack() as stack:
        if request.tokens is not None:
            yield _read_tokens(request, request.tokens, started)
            return
        slide = _open_slide(request, stack)
        model = _open_model(request)
        record = run_record(request, _described(slide), model)
        folder = choose_folder(record, request.out, request.resume)
        toolbox = open_toolbox(slide, model, folder, progress)
        record = record.model_copy(  # a slide without tissue is refused here, before anything is written
            update={"slide": _described(slide, _mm2(toolbox))}
        )
        record = stack.enter_context(open_run(folder, record, request.resume))
        context = AgentContext(
            slide=slide,
            model=model,
            toolbox=toolbox,
            navigator=navigator_for(request.settings.mode),
            folder=folder,
            mode=request.settings.mode,
            meter=Meter(model, started),
            journal=Journal(folder),
            name=model.name,
            run_id=record.id,
            max_cost=request.settings.max_cost,
        )
        yield from follow(record, context)


def _read_tokens(request: Request, path: Path, started: float) -> Answer:
    """The answer where slide tokens are given in place of a slide."""
    from agent.from_tokens import answer_from_tokens
    from core_model.slide_features import open_slide_tokens

    model = _open_model(request)
    seen = open_slide_tokens(path, model.config.n_tokens, model.config.feature_dim)
    n, channels = seen.tokens.shape
    about = TokensRecord(id=seen.id, name=seen.name, tokens=n, channels=channels)
    record = run_record(request, about, model)
    folder = choose_folder(record, request.out, request.resume)
    with open_run(folder, record, request.resume) as record:
        return answer_from_tokens(record, folder, seen, model, Meter(model, started))


def run_record(request: Request, slide: SlideRecord | TokensRecord, model: Any) -> RunRecord:
    """What this run is, for `run.json`."""
    return RunRecord(
        id=uuid.uuid4().hex,
        giant=giant_version(),
        question=request.question,
        options=request.options,
        seed=request.seed,
        model=ModelRecord(name=model.name, version=model.version, fingerprint=fingerprint(model)),
        slide=slide,
        settings=request.settings,
    )


def _described(slide: Slide, tissue_mm2: float | None = None) -> SlideRecord:
    return SlideRecord(
        id=slide.id,
        width=slide.width,
        height=slide.height,
        mpp=slide.mpp,
        name=slide.name,
        mpp_source=slide.mpp_source,
        bounds=slide.bounds,
        tissue_mm2=tissue_mm2,
    )


def fingerprint(model: Any) -> str:
    """What tells these weights from others: a digest of the checkpoint's manifest, which lists all files'.

    A model that comes from no checkpoint folder says its own `fingerprint`.
    """
    if hasattr(model, "fingerprint"):
        return str(model.fingerprint)
    return hashlib.sha256((Path(model.folder) / "manifest.json").read_bytes()).hexdigest()[:16]


def giant_version() -> str:
    """Version of the installed package; "source" where it runs without being installed."""
    try:
        return version("giant-pathology")
    except PackageNotFoundError:
        return "source"


def _open_slide(request: Request, stack: ExitStack) -> Slide:
    from core_model.slide import open_slide

    if isinstance(request.slide, str | Path):
        return stack.enter_context(open_slide(request.slide, request.settings.mpp))
    return request.slide


def _open_model(request: Request) -> Any:
    """The model, with every part that this run needs."""
    model = request.model
    if isinstance(model, str | Path):
        from core_model import load_model

        model = load_model(model, bits=request.settings.bits)
    needed = ["llava"] if request.tokens else ["tile_encoder", "slide_encoder", "llava"]
    if request.settings.mode == "agent":
        needed.append("alignment")
    if hasattr(model, "need"):  # anything with the methods of a run is a model; ours may lack parts
        for part in needed:
            model.need(part)
    return model


def _mm2(toolbox: Any) -> float:
    return round(float(toolbox.tissue.area_mm2), 4)
