"""Puts the questions of a benchmark, slide by slide, and keeps every result as it comes.

    results.jsonl      one line for each question and mode, appended as answers come
    runs/<mode>/<task>/<question>     a run folder until its result stands, and afterwards where it is kept
    about.json         what was evaluated, and what of it could not be

A slide is opened once for all its questions, the models once in each worker. What fails is a result too: it
is counted, listed, and tried again by --resume. Results are written by the driver alone; a run that was
killed before its result was written is found finished in its folder and costs nothing again.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

from agent.batch.workers import Ended, Lost, in_processes, in_this_process
from agent.session.options import AskOptions
from core_model.errors import GiantError, RunError, UsageError
from core_model.files import held
from eval.asking.ask import Models, QuestionInMode, answer_question
from eval.asking.baselines import CONSTANT, constant_results
from eval.asking.jsonl import append_line, write_lines
from eval.asking.modes import BLIND, check_askable, conditions
from eval.asking.results import RESULTS, Result, failed_result, read_results
from eval.asking.slides import Missing, SlideFolder
from eval.asking.spending import PURSE, Purse, counted_usd, spending_of
from eval.benchmarks.questions import Question

log = logging.getLogger(__name__)

CONDITIONS, RUNS, BUSY = "conditions.json", "runs", ".busy"
Key = tuple[str, str, str]


@dataclass(frozen=True)
class EvaluationPlan:
    """One evaluation."""

    questions: Sequence[Question]
    slides: Path | None
    """Folder that holds the slides; None where no mode looks at any."""
    modes: Sequence[str]
    out: Path
    model: Any = "mini"
    """A name, a folder or `provider:name`; with one worker also a loaded model."""
    slide_model: Any = "mini"
    """Beside a chat model: the local one that it may consult."""
    base_options: AskOptions = field(default_factory=AskOptions)
    """Options of every question, used in the modes that they fit; model, limit and folder stand elsewhere."""
    prices: Path | None = None
    max_cost: float | None = None
    """USD for the whole evaluation, what was paid before it was resumed included."""
    workers: int = 1
    keep_runs: bool = False
    """Keep each question's run folder; else only its result."""

    @property
    def looks(self) -> bool:
        """Whether any mode looks at slides."""
        return any(mode not in (BLIND, CONSTANT) for mode in self.modes)


@dataclass(frozen=True)
class Task:
    """The questions about one slide that are still open, as (question, mode)."""

    slide: str
    path: Path | None
    """None where it was not found, or where no open question looks at it."""
    asked: tuple[tuple[Question, str], ...]
    why: str = ""
    """Why it was not found."""


@dataclass(frozen=True)
class Asker:
    """The settings that a worker needs beside its tasks."""

    out: Path
    model: Any
    slide_model: Any
    base_options: AskOptions
    prices: Path | None
    looks_around: bool
    """Whether mode agent is asked, so that a chat model may consult the local one."""
    keep_runs: bool
    purse: Purse | None = None


@dataclass(frozen=True)
class Outcome:
    """The results of an evaluation, and what of it is left."""

    results: list[Result]
    """All, those of an earlier part of the run included, in the benchmark's order."""
    left: int
    """Questions, counted for each mode, that the spending limit left unasked."""
    missing: list[Missing]


def ask_all(
    plan: EvaluationPlan,
    resume: bool = False,
    say: Callable[[Result], None] | None = None,
    note: Callable[[int, list[Missing]], None] | None = None,
) -> Outcome:
    """Ask what is not answered yet; `say` hears each new result.

    `note` hears before anything is asked how many results there will be, and which slides are not there.

    Raises `UsageError` where a mode or a number means nothing, and `RunError` where `out` holds results and
    `resume` is not given, holds those of another model or other options, is in use, or cannot be written.
    """
    if plan.workers < 1:
        raise UsageError(f"{plan.workers} workers cannot do the work", fix="Give at least 1")
    check_askable(plan.modes, plan.model, plan.slide_model, plan.base_options, plan.max_cost, plan.prices)
    if plan.looks and plan.slides is None:
        raise UsageError("a mode looks at slides, and no folder of slides is given", fix="Add --slides DIR")
    folder = SlideFolder(plan.slides) if plan.looks and plan.slides is not None else None
    paths, missing = folder.find_all(q.slide for q in plan.questions) if folder else ({}, [])
    path = plan.out / RESULTS
    if path.exists() and not resume:
        raise RunError("the folder already holds results", where=plan.out, fix="Add --resume or change --out")
    with held(plan.out, wait=False):
        _same_conditions(plan)
        results = _standing_results(plan, read_results(path))
        if CONSTANT in plan.modes:
            results |= {result.key: result for result in constant_results(plan.questions)}
        write_lines(path, results.values())
        if note:
            note(len(results.keys() | _keys(plan)), missing)
        for result in _new_results(plan, results, paths, missing):
            append_line(path, result)
            results[result.key] = result
            _clear(plan, result)
            if say:
                say(result)
        in_order = _in_order(plan, results)
        write_lines(path, in_order)
        open_count = len(_keys(plan) - results.keys())
        (plan.out / PURSE).unlink(missing_ok=True)
        shutil.rmtree(plan.out / RUNS / BUSY, ignore_errors=True)
        if not any((plan.out / RUNS).glob("*/*/*")):
            shutil.rmtree(plan.out / RUNS, ignore_errors=True)
    return Outcome(in_order, open_count, missing)


def open_tasks(
    plan: EvaluationPlan,
    results: Mapping[Key, Any],
    paths: Mapping[str, Path],
    missing: Sequence[Missing] = (),
) -> list[Task]:
    """The tasks that are left, slide by slide in the benchmark's order."""
    why = {item.slide: item.why for item in missing}
    by_slide: dict[str, list[tuple[Question, str]]] = {}
    for question in plan.questions:
        for mode in plan.modes:
            if mode != CONSTANT and (*question.key, mode) not in results:
                by_slide.setdefault(question.slide, []).append((question, mode))
    return [
        Task(slide, paths.get(slide), tuple(pairs), why.get(slide, "")) for slide, pairs in by_slide.items()
    ]


def ask_slide(asker: Asker, task: Task) -> list[Result]:
    """The results of one slide's questions, without those that the spending limit left unasked.

    Raises nothing but bugs of its own: what fails is a result.
    """
    from agent.session.models import quieten_libraries

    quieten_libraries(quiet=False)
    # A worker of a driver that was killed may still be at this slide, for an instant.
    with held(asker.out / RUNS / BUSY / _safe(task.slide), wait=True):
        return list(_ask_slide(asker, task))


def run_folder(out: Path, question: Question | Result, mode: str) -> Path:
    """The run folder of a question in a mode."""
    return out / RUNS / mode / _safe(question.benchmark) / _safe(question.id)


def _ask_slide(asker: Asker, task: Task) -> Iterator[Result]:
    from core_model.slides.slide import open_slide

    models = open_models(asker)
    blind = [(q, mode) for q, mode in task.asked if mode == BLIND]
    yield from _ask(asker, models, blind, None)
    looking = [(q, mode) for q, mode in task.asked if mode != BLIND]
    if not looking:
        return
    try:
        if task.path is None:
            raise GiantError(f"there is no slide {task.slide}: {task.why}")
        slide = open_slide(task.path)
    except GiantError as error:
        yield from (failed_result(question, mode, str(error)) for question, mode in looking)
        return
    with slide:
        yield from _ask(asker, models, looking, slide)


def _ask(asker: Asker, models: Models, pairs: Sequence[tuple[Question, str]], slide: Any) -> Iterator[Result]:
    for question, mode in pairs:
        folder, limit = run_folder(asker.out, question, mode), None
        key = folder.relative_to(asker.out).as_posix()
        if asker.purse is not None and (limit := asker.purse.take(key)) is None:
            return
        result = answer_question(
            QuestionInMode(question, mode, models, asker.base_options, folder, limit), slide
        )
        if asker.purse is not None:
            asker.purse.settle(key, counted_usd(spending_of(folder)), out_of_money=result is None)
        if result is not None:
            has_run = asker.keep_runs and folder.exists()
            yield result.model_copy(update={"run": key}) if has_run else result


def open_models(asker: Asker) -> Models:
    """The models of this process, each opened once. Raises `CheckpointError` and others."""
    from agent.session.request import names_chat_model

    if not names_chat_model(asker.model):
        return Models(_local(asker.model))
    consults = asker.looks_around and asker.base_options.profile != "giant"
    slide_model = _local(asker.slide_model) if consults else None
    chat = asker.model
    if isinstance(chat, str):
        chat = _chat(chat, asker.base_options.base_url, asker.prices, asker.base_options.timeout)
    return Models(chat, slide_model)


def _local(model: Any) -> Any:
    return _from_disk(str(model)) if isinstance(model, str | Path) else model


@cache
def _from_disk(model: str) -> Any:
    from core_model import load_model

    return load_model(model)


@cache
def _chat(name: str, base_url: str | None, prices: Path | None, timeout: float | None) -> Any:
    from agent.llm.client import open_chat

    return open_chat(name, base_url=base_url, prices=prices, timeout=timeout)


def _new_results(
    plan: EvaluationPlan, results: Mapping[Key, Result], paths: Mapping[str, Path], missing: Sequence[Missing]
) -> Iterator[Result]:
    """New results as they come. Where the limit ends it for several workers, one goes on with the rest."""
    purse = _purse(plan, results)
    for workers in dict.fromkeys((plan.workers, 1)):
        todo = open_tasks(plan, results, paths, missing)
        if not todo:
            return
        if purse is not None and workers != purse.workers:
            purse = purse.alone()
        asker = Asker(
            plan.out.absolute(), _absolute(plan.model), _absolute(plan.slide_model), plan.base_options,
            plan.prices, "agent" in plan.modes, plan.keep_runs, purse,
        )  # fmt: skip
        yield from _round(asker, todo, workers)
        if purse is None or not purse.closed:
            return


def _round(asker: Asker, todo: list[Task], workers: int) -> Iterator[Result]:
    work, count = partial(ask_slide, asker), min(workers, len(todo))
    alone = count == 1 or not isinstance(asker.model, str | Path)
    if alone:
        open_models(asker)  # a model that cannot be loaded ends everything, not each question by itself
    with closing(in_this_process(work, todo) if alone else in_processes(work, todo, count)) as events:
        for event in events:
            if isinstance(event, Ended):
                yield from event.value
            elif isinstance(event, Lost):
                yield from (
                    failed_result(question, mode, event.why) for question, mode in todo[event.job].asked
                )


def _purse(plan: EvaluationPlan, results: Mapping[Key, Result]) -> Purse | None:
    """The purse with what was spent before: on results, and on questions that have none yet."""
    if plan.max_cost is None:
        return None
    usd_spent = sum((r.usd or 0.0) + r.usd_lost for r in results.values())
    settled_folders = {run_folder(plan.out, result, result.mode) for result in results.values()}
    open_folders = [
        folder
        for folder in (plan.out / RUNS).glob("*/*/*")
        if folder.is_dir() and folder not in settled_folders
    ]
    before = {
        folder.relative_to(plan.out).as_posix(): counted_usd(spending_of(folder)) for folder in open_folders
    }
    return Purse.opened(plan.out, plan.max_cost, usd_spent, before, plan.workers)


def _standing_results(plan: EvaluationPlan, before: Sequence[Result]) -> dict[Key, Result]:
    """Earlier results by their key: all but the failures of questions that are asked now."""
    keys = _keys(plan)
    constant = {key for key in keys if key[-1] == CONSTANT}
    results = {r.key: r for r in before if r.key not in constant and (r.error is None or r.key not in keys)}
    for result in results.values():
        _clear(plan, result)
    return results


def _keys(plan: EvaluationPlan) -> set[Key]:
    return {(*question.key, mode) for question in plan.questions for mode in plan.modes}


def _clear(plan: EvaluationPlan, result: Result) -> None:
    """A result that stands needs no run folder, unless it is kept; a failure is gone on with there."""
    if result.run is None and result.error is None and result.mode != CONSTANT:
        shutil.rmtree(run_folder(plan.out, result, result.mode), ignore_errors=True)


def _in_order(plan: EvaluationPlan, results: Mapping[Key, Result]) -> list[Result]:
    """In the benchmark's order, whatever came first: resampling depends on it."""
    keys = [(*question.key, mode) for question in plan.questions for mode in plan.modes]
    place = {key: number for number, key in enumerate(keys)}
    return sorted(results.values(), key=lambda result: place.get(result.key, -1))


def _same_conditions(plan: EvaluationPlan) -> None:
    """Note what the answers depend on; a run goes on only under the same. Raises `RunError`."""
    from core_model.files import write_text

    current = conditions(plan.modes, plan.model, plan.slide_model, plan.base_options)
    path = plan.out / CONDITIONS
    earlier = {"reader": 1} | json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    differences = [name for name in earlier if current and earlier[name] != current.get(name)]
    if differences:
        summary = "; ".join(f"{name} was {earlier[name]} and is {current.get(name)}" for name in differences)
        raise RunError(
            f"the folder holds answers under other conditions: {summary}", where=plan.out, fix="Change --out"
        )
    if current:
        write_text(path, json.dumps(current) + "\n")


def _absolute(model: Any) -> Any:
    """A folder by its whole path: workers may start elsewhere."""
    return str(Path(model).absolute()) if isinstance(model, str | Path) and Path(model).is_dir() else model


def _safe(name: str) -> str:
    """A file name; where it has to differ from the name, a part of a hash keeps it apart from others."""
    safe = "".join(c if c.isalnum() or c in "._-" else "_" for c in name).strip(".")[:100] or "_"
    if safe == name:
        return safe
    import hashlib

    return f"{safe}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
