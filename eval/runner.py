"""Puts the questions of a benchmark, slide by slide, and keeps every result as it comes.

A slide is opened once for all its questions, its features stay in the cache, the model is loaded once in
each worker. What fails is a result too: it is counted, listed, and tried again by --resume.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from agent.batch import SUFFIXES
from core_model.errors import GiantError, RunError, UsageError
from eval.modes import Budget, put
from eval.questions import Question
from eval.results import RESULTS, Result, append_result, common, failure, read_results, write_results

log = logging.getLogger(__name__)

CONDITIONS = "conditions.json"


@dataclass(frozen=True)
class Plan:
    """One evaluation."""

    questions: Sequence[Question]
    slides: Path
    """Folder that holds the slides."""
    modes: Sequence[str]
    out: Path
    model: Any = "mini"
    """A name or folder; with one worker also a loaded model."""
    budget: Budget = field(default_factory=Budget)
    workers: int = 1
    keep_runs: bool = False
    """Keep each question's run folder under `out/runs`; else only its result."""


@dataclass(frozen=True)
class Task:
    """The questions about one slide that are still open, as (question, mode)."""

    slide: str
    asked: tuple[tuple[Question, str], ...]


def run(plan: Plan, resume: bool = False, say: Callable[[Result], None] | None = None) -> list[Result]:
    """All results, those of an earlier part of the run included; `say` hears each new one.

    Raises `RunError` where `out` holds results already and `resume` is not given, or cannot be written.
    """
    path = plan.out / RESULTS
    before = _before(path, resume)
    try:
        plan.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot be made ({error.strerror})", where=plan.out) from error
    _same_conditions(plan, resume)
    write_results(path, before)
    results = list(before)
    for result in _answers(plan, tasks(plan, {r.key for r in before})):
        append_result(path, result)
        results.append(result)
        if say:
            say(result)
    return results


def tasks(plan: Plan, done: set[tuple[str, str, str]]) -> list[Task]:
    """What is left to ask, slide by slide in the benchmark's order."""
    by_slide: dict[str, list[tuple[Question, str]]] = {}
    for question in plan.questions:
        for mode in plan.modes:
            if (*question.key, mode) not in done:
                by_slide.setdefault(question.slide, []).append((question, mode))
    return [Task(slide, tuple(asked)) for slide, asked in by_slide.items()]


def find_slide(folder: Path, name: str) -> Path:
    """The file of a slide: as named, else with the same stem and another suffix of a slide.

    Raises `GiantError` naming what was looked for.
    """
    if (folder / name).is_file():
        return folder / name
    stem = Path(name).name.removesuffix(Path(name).suffix)
    for suffix in SUFFIXES:
        if (folder / f"{stem}{suffix}").is_file():
            return folder / f"{stem}{suffix}"
    raise GiantError(f"holds no {name}, nor {stem} with another suffix", where=folder, fix="Check --slides")


def ask_slide(task: Task, plan: Plan, model: Any) -> Iterator[Result]:
    """Every open question about one slide. Raises nothing but bugs of its own: what fails is a result."""
    from core_model.slide import open_slide

    try:
        slide = open_slide(find_slide(plan.slides, task.slide))
    except GiantError as error:
        yield from (failure(question, mode, str(error)) for question, mode in task.asked)
        return
    with slide:
        for question, mode in task.asked:
            yield _ask(question, mode, slide, plan, model)


def _ask(question: Question, mode: str, slide: Any, plan: Plan, model: Any) -> Result:
    folder = plan.out / "runs" / mode / question.benchmark / _safe(question.id)
    scratch = None if plan.keep_runs else Path(tempfile.mkdtemp(prefix="giant-eval-"))
    try:
        if scratch is None:
            shutil.rmtree(folder, ignore_errors=True)  # what an interrupted evaluation left
        answer = put(question, slide, model, mode, plan.budget, (scratch or folder.parent) / folder.name)
    except GiantError as error:
        return failure(question, mode, str(error))
    except Exception as error:  # a bug must not cost a night's results: it is counted and shown
        log.exception("%s %s in mode %s", question.benchmark, question.id, mode)
        return failure(question, mode, f"bug: {type(error).__name__}: {error}")
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)
    said = None if answer.abstained else answer.choice if question.options else answer.answer
    return Result(
        **common(question, mode),
        said=said,
        confidence=answer.confidence,
        abstained=answer.abstained,
        seconds=answer.cost.seconds,
        steps=answer.steps,
        regions=answer.cost.regions,
        pixels=answer.cost.pixels,
    )


def _answers(plan: Plan, todo: list[Task]) -> Iterator[Result]:
    if plan.workers < 1:
        raise UsageError(f"{plan.workers} workers cannot work", fix="Give at least 1")
    if plan.workers == 1 or len(todo) < 2:
        model = _load(plan.model) if todo else None
        for task in todo:
            yield from ask_slide(task, plan, model)
        return
    count = min(plan.workers, len(todo))
    # Fresh processes: a fork of one that runs threads (torch, rich) may hang.
    with ProcessPoolExecutor(count, get_context("spawn"), _start_worker, (plan, count)) as pool:
        waiting = [pool.submit(_work, task) for task in todo]
        try:
            for future in as_completed(waiting):
                yield from future.result()
        except BrokenProcessPool as error:
            raise RunError(
                "a worker ended before its time, perhaps for lack of memory",
                where=plan.out,
                fix="Repeat with --resume and fewer --workers",
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


_worker: dict[str, Any] = {}
"""Plan and model of this process, where it is a worker."""


def _start_worker(plan: Plan, count: int) -> None:
    import torch

    torch.set_num_threads(max(1, (os.cpu_count() or 1) // count))
    _worker.update(plan=plan, model=_load(plan.model))


def _work(task: Task) -> list[Result]:
    return list(ask_slide(task, _worker["plan"], _worker["model"]))


def _before(path: Path, resume: bool) -> list[Result]:
    """Results to keep: none anew; with `resume` those that did not fail."""
    if not resume:
        if path.exists():
            raise RunError("already holds results", where=path.parent, fix="Add --resume or change --out")
        return []
    return [result for result in read_results(path) if result.error is None]


def _same_conditions(plan: Plan, resume: bool) -> None:
    """Note what the answers depend on; a run goes on only under the same. Raises `RunError`."""
    from agent.trace import write_text

    now = {"weights": weights(plan.model), **asdict(plan.budget)}
    path = plan.out / CONDITIONS
    if resume and path.exists():
        then = json.loads(path.read_text(encoding="utf-8"))
        if then != now:
            raise RunError(f"was run with {then}, not {now}", where=plan.out, fix="Choose another --out")
    write_text(path, json.dumps(now) + "\n")


def weights(model: Any) -> str:
    """What tells one model's weights from another's: a digest of the manifest, else the model's name."""
    from core_model.tile_encoder import MINI

    if not isinstance(model, str | Path):
        return str(model.name)
    manifest = (MINI if str(model) == "mini" else Path(model)) / "manifest.json"
    return hashlib.sha256(manifest.read_bytes()).hexdigest()[:16] if manifest.is_file() else str(model)


def _load(model: Any) -> Any:
    from core_model import load_model

    return load_model(model) if isinstance(model, str | Path) else model


def _safe(name: str) -> str:
    return "".join(c if c.isalnum() or c in "._-" else "_" for c in name).strip(".") or "_"
