"""An answer from stored slide tokens: no slide is opened, so nothing is looked at and nothing can be cited.

The model is asked once, as in mode "slide"; what it does not know of the question makes it abstain here too.
The run folder holds the same files as any other, with no steps in it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from agent.evidence.familiarity import FamiliarityRecord, limits, question_doubts, unread_language
from agent.graph.follow import write_finished
from agent.navigators.weigh import ranked
from agent.run.folder import read_answer
from agent.run.journal import Journal
from agent.run.records import Answer, Cost, RunRecord, SlideFacts
from agent.text import answer_sentence, no_answer
from core_model.words import content_words

if TYPE_CHECKING:
    from agent.graph.state import Meter
    from core_model.features.slide_tokens import SlideTokens

LIMIT = (
    "Only stored slide tokens were read: no slide was opened, so no place was looked at, none can be cited,"
    " and no share of tissue is known."
)


class _Said(NamedTuple):
    """The reply of the model."""

    leading: str
    confidence: float
    text: str


def answer_from_tokens(
    record: RunRecord, folder: Path, tokens: SlideTokens, model: Any, meter: Meter
) -> Answer:
    """Ask about `seen` and write the run folder; a finished run gives its answer again."""
    if record.status == "finished":
        return read_answer(folder)
    answer = _conclude(record, str(folder), tokens, model, Journal(folder))
    lap = meter.lap()
    cost = Cost(seconds=round(lap["seconds"], 3), tokens_in=lap["tokens_in"], tokens_out=lap["tokens_out"])
    answer = answer.model_copy(update={"cost": cost})
    write_finished(folder, record, [], answer)
    return answer


def answer_from_journal(
    record: RunRecord, folder: Path, journal: Journal, model: Any, old_answer: Answer
) -> None:
    """Come to the answer again from what the journal has, and write the run folder; for a replay."""
    answer = _conclude(record, old_answer.run_dir, None, model, journal)
    write_finished(folder, record, [], answer.model_copy(update={"cost": old_answer.cost}))


def _conclude(
    record: RunRecord, run_dir: str, tokens: SlideTokens | None, model: Any, journal: Journal
) -> Answer:
    """The answer, from what the model says or has said: `seen` is needed only where it was not asked yet."""
    familiarity = journal.once("familiarity", "question", lambda: _known(model, record))
    least = journal.once("calibration", "model", lambda: float(model.config.calibration.abstain_below))
    why, reply = question_doubts(familiarity, model.name), None
    if not why:
        reply = _Said(*journal.once("tokens", "said", lambda: list(_ask(model, tokens, record))))
    if reply is not None and reply.confidence < least:
        why = [
            f"the answer '{reply.leading}' has confidence {reply.confidence:.2f}, below {least:.2f} required"
        ]
    return _answer(record, run_dir, model, reply, why, limits(familiarity))


def _known(model: Any, record: RunRecord) -> FamiliarityRecord:
    """How familiar the question is to the model; there are no tiles of the slide to compare."""
    value, words = model.question_unfamiliarity(record.question, record.options)
    return FamiliarityRecord(
        tiles=0,
        failed=[],
        slide_unfamiliarity=None,
        question_unfamiliarity=float(value),
        unknown_words=[str(word) for word in words],
        option_words=content_words(" ".join(record.options or [])),
        language=unread_language(record.question, value, words),
    )


def _ask(model: Any, tokens: SlideTokens | None, record: RunRecord) -> _Said:
    if record.options is None:
        text, p = model.generate(tokens, record.question)
        sentence = answer_sentence(text, float(p))
        return _Said(text, float(p), f"{sentence} This is the model's certainty of its own words.")
    scores = model.score_options(tokens, record.question, record.options)  # (O,)
    first, second = ranked(dict(zip(record.options, map(float, scores), strict=True)))[:2]
    text = f"{answer_sentence(first.name, first.p)} The next answer is {second.name} ({second.p:.2f})."
    return _Said(first.name, first.p, text)


def _answer(
    record: RunRecord, run_dir: str, model: Any, reply: _Said | None, why: list[str], limit: str | None
) -> Answer:
    reason = "; ".join(why)
    reason = f"{reason[:1].upper()}{reason[1:]}." if reason else ""
    abstains = bool(why)
    text = no_answer("; ".join(why)) if abstains or reply is None else reply.text
    return Answer(
        question=record.question,
        answer=text,
        choice=reply.leading if reply and record.options and not abstains else None,
        options=record.options,
        confidence=reply.confidence if reply else 0.0,
        abstained=abstains,
        reason=" ".join(part for part in (reason, LIMIT, limit) if part),
        model=model.name,
        mode=record.settings.mode,
        slide=SlideFacts(id=record.slide.id),
        run_dir=run_dir,
    )
