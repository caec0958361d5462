"""Ask a question about a slide: open everything, follow the graph, leave a run folder, give the answer."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.graph import build, checkpoints, run_config
from agent.navigators.search import SearchNavigator
from agent.navigators.single import SlideNavigator
from agent.nodes import cost
from agent.records import Answer, ModelRecord, RunRecord, SlideRecord, Step, Unreadable
from agent.request import Request, checked
from agent.runs import ANSWER, RUN, choose_folder, open_run
from agent.state import AgentContext, AgentState, Meter
from agent.trace import append_step, rebuild_trace, write_json
from core_model.errors import RunError

if TYPE_CHECKING:
    from core_model.extract import Progress
    from core_model.slide import Box, Slide

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
    progress: Progress | None = None,
) -> Iterator[Step | Answer]:
    """Ask, yielding each step as it happens and the answer at the end.

    `slide` is a path or an open slide; `mpp` its µm per level-0 px where the file does not say. With
    `options` one of them is chosen, else the model's own words are the answer. `model` is a name, a
    checkpoint folder or a loaded model. `out` is the run folder (default: giant-runs/… in the working
    folder); `resume` continues the run that is there at its last step and yields the steps from there on, or
    starts it where there is none. `progress` is told how many tiles are encoded.

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


def _run(request: Request, progress: Progress | None) -> Iterator[Step | Answer]:
    started = time.perf_counter()
    with ExitStack() as stack:
        slide = _open_slide(request, stack)
        model = _open_model(request.model)
        record = run_record(request, slide, model)
        folder = choose_folder(record, request.out, request.resume)
        toolbox = open_toolbox(slide, model, folder, progress)
        record = record.model_copy(  # a slide without tissue is refused here, before anything is written
            update={"slide": record.slide.model_copy(update={"tissue_mm2": _mm2(toolbox)})}
        )
        record = stack.enter_context(open_run(folder, record, request.resume))
        context = AgentContext(
            slide=slide,
            model=model,
            toolbox=toolbox,
            navigator=SlideNavigator() if request.settings.mode == "slide" else SearchNavigator(),
            folder=folder,
            mode=request.settings.mode,
            meter=Meter(model, started),
        )
        yield from follow(record, context)


def follow(record: RunRecord, context: AgentContext) -> Iterator[Step | Answer]:
    """Take the run from its last checkpoint to its answer, and write down both."""
    folder, config = context.folder, run_config(record.settings.max_steps)
    try:
        with checkpoints(folder) as saver:
            graph = build(saver)
            before = graph.get_state(config)
            written = [Step.model_validate(step) for step in before.values.get("steps", [])]
            rebuild_trace(folder, written)
            context.toolbox.last_shown = last_shown(written)
            # Nothing is next at the end, but also where the run died before its first node.
            done = "answer" in before.values and not before.next
            if not done:
                start = None if before.created_at else initial_state(record)
                for step in _steps(graph, start, config, context):
                    append_step(folder, step)
                    yield step
            state = graph.get_state(config).values
    except sqlite3.Error as error:
        raise RunError(
            f"its checkpoint cannot be used ({error})", where=folder, fix="Start anew with another --out"
        ) from error
    yield finish(record, state, context)


def initial_state(record: RunRecord) -> AgentState:
    """The state before the first node."""
    return AgentState(
        question=record.question,
        options=record.options,
        seed=record.seed,
        max_steps=record.settings.max_steps,
    )


def last_shown(steps: Sequence[Step]) -> tuple[Box, float] | None:
    """Box and resolution wished for of the last look: where a resumed run pans from."""
    shown: tuple[Box, float] | None = None
    for step in steps:
        seen, wish = step.observation, step.action.args.get("mpp")
        if step.action.tool in ("overview", "zoom", "pan") and seen.ok and seen.box and seen.mpp:
            if step.action.tool == "pan" and shown is not None:
                wish = shown[1]
            shown = (seen.box, float(wish or seen.mpp))
    return shown


def finish(record: RunRecord, state: Any, context: AgentContext) -> Answer:
    """Write the answer, the trace as checkpointed, the reports, and last that the run is finished."""
    from agent.report import write_reports

    folder, known = context.folder, state.get("familiarity") or {"tiles": None, "failed": []}
    answer = Answer.model_validate(state["answer"]).model_copy(update={"cost": cost(state, context)})
    rebuild_trace(folder, [Step.model_validate(step) for step in state["steps"]])
    write_json(folder / ANSWER, answer)
    record = record.model_copy(
        update={
            "tiles": known["tiles"],
            "unreadable": [Unreadable(box=box, why=why) for box, why in known["failed"]],
            "unsupported": list(state.get("problems", [])),
        }
    )
    write_json(folder / RUN, record)
    write_reports(folder)
    write_json(folder / RUN, record.model_copy(update={"status": "finished"}))
    return answer


def run_record(request: Request, slide: Slide, model: Any) -> RunRecord:
    """What this run is, for `run.json`."""
    return RunRecord(
        giant=giant_version(),
        question=request.question,
        options=request.options,
        seed=request.seed,
        model=ModelRecord(name=model.name, version=model.version, fingerprint=fingerprint(model)),
        slide=SlideRecord(
            id=slide.id,
            width=slide.width,
            height=slide.height,
            mpp=slide.mpp,
            name=slide.name,
            mpp_source=slide.mpp_source,
            bounds=slide.bounds,
        ),
        settings=request.settings,
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


def _steps(graph: Any, start: AgentState | None, config: Any, context: AgentContext) -> Iterator[Step]:
    """Run the graph; each step once, as soon as the node that recorded it has ended."""
    from langgraph.errors import GraphRecursionError

    parts = graph.stream(start, config, context=context, stream_mode="updates", durability="sync")
    try:
        for part in parts:
            for node, changes in part.items():
                if node.startswith("__"):  # LangGraph's notes about the run, not ours
                    continue
                for step in (changes or {}).get("steps", []):
                    yield Step.model_validate(step)
    except GraphRecursionError as error:
        raise RunError("the run went in circles and was ended", where=context.folder) from error


def _open_slide(request: Request, stack: ExitStack) -> Slide:
    from core_model.slide import open_slide

    if isinstance(request.slide, str | Path):
        return stack.enter_context(open_slide(request.slide, request.settings.mpp))
    return request.slide


def _open_model(model: Any) -> Any:
    if not isinstance(model, str | Path):
        return model
    from core_model import load_model

    return load_model(model)


def _mm2(toolbox: Any) -> float:
    return round(float(toolbox.tissue.area_mm2), 4)
