"""One question in one mode: put to the model, its answer read, its run folder kept resumable until then.

A run that was interrupted goes on where it stopped. One that was cut short for lack of money begins anew over
its journal, in which every reply that was paid for is found again; only the refusals are gone.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.chat.conclude import DECLINED, UNUSABLE
from agent.llm.redact import Redactor
from agent.llm.spending import CHAT, FAULTS
from agent.navigators.chat_passes import NO_PATCH, PassNavigator
from agent.run.folder import OVERBUDGET, RUN, VOTES, read_run
from agent.run.journal import FOLDER, Journal
from agent.session.options import LOCAL_MODEL, AskOptions
from core_model.errors import GiantError, RunError
from core_model.files import write_json
from eval.asking.modes import BLIND, choices, options_in
from eval.asking.reading import read_answer
from eval.asking.results import Result, failed_result, question_fields
from eval.asking.spending import spending_of
from eval.benchmarks.questions import Question

if TYPE_CHECKING:
    from core_model.slides.slide import Slide

MAX_REPLY = 2000
"""Characters of a reply that had to be read which a result keeps."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Models:
    """The open models that answer."""

    model: Any
    """A local model, or a `ChatClient`."""
    slide_model: Any = None
    """The local model beside a chat model that looks around; None where it consults none."""

    @property
    def chats(self) -> bool:
        """Whether a chat model answers."""
        from agent.session.request import names_chat_model

        return names_chat_model(self.model)


@dataclass(frozen=True)
class QuestionInMode:
    """One question to be put in one mode."""

    question: Question
    mode: str
    models: Models
    base_options: AskOptions
    """Options that all questions share."""
    folder: Path
    """Its run folder."""
    limit: float | None = None
    """Spending limit of this question, USD."""


@dataclass(frozen=True)
class RawAnswer:
    """The outcome of a question before its words are read."""

    choice: str | None
    answer: str
    confidence: float
    abstained: bool
    reason: str
    agreement: float | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    """Seconds, steps and other costs under the names that a result gives them."""


def answer_question(run: QuestionInMode, slide: Slide | None) -> Result | None:
    """The result of a question; None where its limit kept it from a call of the chat model.

    Raises nothing but bugs of its own: what fails is a result.
    """
    question, mode = run.question, run.mode
    try:
        raw = _ask_or_restart(run, slide)
    except GiantError as error:
        return _failed(run, Redactor().text(str(error)))
    except Exception as error:  # a bug must not cost a night's results: it is counted and shown
        log.exception("%s %s in mode %s", question.benchmark, question.id, mode)
        return _failed(run, Redactor().text(f"bug: {type(error).__name__}: {error}"))
    if run.models.chats and was_cut(run.folder):
        return None
    answer, reply, unread = _read_answer(raw, question, run.folder)
    return Result(
        **question_fields(question, mode),
        said=answer,
        confidence=None if unread else raw.confidence,
        abstained=raw.abstained and answer is None and not unread,
        reply=reply,
        unread=unread,
        agreement=raw.agreement,
        **raw.fields | _costs(run),
    )


def was_cut(folder: Path) -> bool:
    """Whether the spending limit kept a run, or one of its votes, from a call."""
    return any(Journal(place).has(OVERBUDGET) for place in _places(folder))


def reopen(folder: Path, limit: float | None) -> None:
    """Make a run folder ready to go on under this limit. Raises `RunError`."""
    for place in _places(folder):
        if Journal(place).has(OVERBUDGET):
            _strip_run(place, keep_run=place == folder)
    if not (folder / RUN).exists():
        return
    record = read_run(folder)
    if record.settings.max_cost != limit:
        settings = record.settings.model_copy(update={"max_cost": limit})
        write_json(folder / RUN, record.model_copy(update={"settings": settings}))
        for vote in _places(folder)[1:]:  # what is left for it is another sum now
            if not _finished(vote):
                _strip_run(vote)


def _ask_or_restart(run: QuestionInMode, slide: Slide | None) -> RawAnswer:
    def put() -> RawAnswer:
        return _ask_blind(run) if run.mode == BLIND else _ask_model(run, slide)

    had_folder = run.folder.exists()
    try:
        if run.models.chats:
            reopen(run.folder, run.limit)
        return put()
    except RunError:
        if not had_folder:
            raise
    for place in _places(run.folder):  # of another slide or version, or damaged: asked anew, paid calls kept
        _strip_run(place)
    return put()


def _ask_model(run: QuestionInMode, slide: Any) -> RawAnswer:
    from agent.session.ask import ask_with

    slide_model = run.models.slide_model
    options = replace(
        options_in(run.mode, run.base_options),
        options=choices(run.question),
        model=run.models.model,
        slide_model=LOCAL_MODEL if slide_model is None else slide_model,
        max_cost=run.limit,
        out=run.folder,
        resume=True,
    )
    answer = ask_with(slide, run.question.question, options)
    cost = answer.cost
    costs = {
        "seconds": cost.seconds,
        "steps": answer.steps,
        "regions": cost.regions,
        "pixels": cost.pixels,
        "tokens_in": cost.tokens_in,
        "tokens_out": cost.tokens_out,
    }
    return RawAnswer(
        answer.choice, answer.answer, answer.confidence, answer.abstained, answer.reason or "",
        answer.agreement, costs,
    )  # fmt: skip


def _ask_blind(run: QuestionInMode) -> RawAnswer:
    """Ask in a single pass without any slide: none is opened, so none has to be there."""
    from agent.graph.state import AgentContext, AgentState, Meter
    from agent.session.models import NoSlideModel

    start = time.perf_counter()
    try:
        run.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"the folder cannot be made ({error.strerror})", where=run.folder) from error
    journal, no_model = Journal(run.folder), NoSlideModel()
    no_slide: Any = None
    context = AgentContext(
        slide=no_slide,
        model=no_model,
        toolbox=no_slide,
        navigator=PassNavigator(BLIND, None),
        folder=run.folder,
        mode=BLIND,
        meter=Meter(no_model, start),
        journal=journal,
        name=run.models.model.name,
        run_id=journal.once("run", "id", _new_id),
        chat=replace(run.models.model, max_cost=run.limit),
        max_cost=run.limit,
    )
    state = AgentState(
        question=run.question.question,
        options=choices(run.question),
        seed=run.base_options.seed,
        max_steps=1,
        steps=[],
    )
    draft = context.navigator.compose(state, context, [])
    costs = {"seconds": round(time.perf_counter() - start, 3)}
    return RawAnswer(
        draft.choice, draft.text, draft.confidence, draft.abstained, draft.reason or "", None, costs
    )  # fmt: skip


def _read_answer(raw: RawAnswer, question: Question, folder: Path) -> tuple[str | None, str | None, bool]:
    """(answer, the reply where it had to be read, whether no answer could be read from it)."""
    if not raw.abstained:
        return (raw.choice if choices(question) else raw.answer), None, False
    if DECLINED in raw.reason.lower():
        return None, raw.reason[:MAX_REPLY], True
    if UNUSABLE not in raw.reason.lower() and NO_PATCH not in raw.reason.lower():
        return None, None, False
    replies = list(_replies(folder, all_calls=NO_PATCH in raw.reason.lower()))
    if not replies:
        return None, None, False  # every patch abstained
    answers = [answer for answer in (read_answer(reply, question) for reply in replies) if answer is not None]
    answer = Counter(answers).most_common(1)[0][0] if answers else None
    return answer, replies[-1][:MAX_REPLY], answer is None


def _replies(folder: Path, all_calls: bool) -> Iterator[str]:
    """The replies that gave no answer, in words: of a run and of each vote the last, of patches every one."""
    from agent.chat.final import read_final
    from agent.chat.reading import parse_reply
    from agent.llm.client import Reply

    for place in _places(folder):
        calls = [Reply.model_validate(record["reply"]) for record in Journal(place).values(CHAT)]
        for reply in calls if all_calls else calls[-1:]:
            final = parse_reply(reply).final or {}
            usable, _ = read_final(final, None, "")
            if not (all_calls and usable is not None and usable.abstain):
                words = (reply.text, final.get("choice"), final.get("text"))
                yield next((str(text).strip() for text in words if text and str(text).strip()), "")


def _failed(run: QuestionInMode, error: str) -> Result:
    return failed_result(run.question, run.mode, error).model_copy(update=_costs(run))


def _costs(run: QuestionInMode) -> dict[str, Any]:
    """The cost of a chat model's calls as fields of a result; none for a local model."""
    if not run.models.chats:
        return {}
    spending = spending_of(run.folder)
    return {
        "calls": spending.calls,
        "tokens_in": spending.tokens_in,
        "tokens_out": spending.tokens_out,
        "usd": spending.usd,
        "usd_lost": spending.lost_usd,
    }


def _places(folder: Path) -> list[Path]:
    """The folder of a run and those of its votes."""
    return [folder, *sorted((folder / VOTES).glob("*"))]


def _finished(folder: Path) -> bool:
    return (folder / RUN).exists() and read_run(folder).status == "finished"


def _strip_run(folder: Path, *, keep_run: bool = False) -> None:
    """Leave of a run only the replies that were paid for, its votes, and with `keep_run` its name."""
    keep = (FOLDER, VOTES, RUN) if keep_run else (FOLDER, VOTES)
    try:
        for path in folder.iterdir():
            if path.is_dir() and path.name not in keep:
                shutil.rmtree(path)
            elif path.is_file() and path.name not in keep:
                path.unlink()
        for path in (folder / FOLDER).glob("*.json"):
            if not path.name.startswith((f"{CHAT}-", f"{FAULTS}-", "run-")):
                path.unlink()
    except OSError as error:
        raise RunError(f"the folder cannot be changed ({error.strerror})", where=folder) from error


def _new_id() -> str:
    import uuid

    return uuid.uuid4().hex
