"""One answer of an evaluation, and the file of them: `results.jsonl`, appended to as answers come."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from eval.asking.jsonl import read_lines
from eval.benchmarks.questions import Metric, Question, QuestionRecord
from eval.benchmarks.rarity import rarity

RESULTS = "results.jsonl"


class Result(QuestionRecord):
    """The result of one question in one mode; it holds all that scoring needs."""

    mode: str
    slide: str
    question: str = ""
    """What was asked, in words."""
    metric: Metric
    truth: str
    position: int | None
    """1-based place of the right answer among the options."""
    options: int | None
    """How many options there were."""
    labels: tuple[str, ...] | None = None
    """The scale of an answer without options, in order."""
    said: str | None
    """The option chosen, or the words of an open answer; None where there is no answer."""
    confidence: float | None = None
    abstained: bool = False
    reply: str | None = None
    """The model's own words, at most 2000 characters, where they had to be read; never a failure's."""
    unread: bool = False
    """Whether the model did reply and its reply named no answer. Counts as wrong."""
    error: str | None = None
    """Why there is no answer where that is a failure."""
    organ: str | None = None
    category: str | None = None
    rarity: Literal["rare", "common"] | None = None
    run: str | None = None
    """Run folder or record of the calls, relative to the folder of the results."""
    agreement: float | None = None
    """Share of the votes, where there were several."""
    calls: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    usd: float | None = None
    usd_lost: float = 0.0
    """Upper estimate for calls whose reply never came: nobody says what they cost, and limits count them."""
    seconds: float = 0.0
    steps: int = 0
    regions: int = 0
    pixels: int = 0

    @property
    def key(self) -> tuple[str, str, str]:
        """A question has one result in each mode."""
        return self.benchmark, self.id, self.mode


def label(result: Result) -> str | None:
    """The answer as a label; an open answer counts where it is the label but for case and full stop."""
    if result.said is None or result.options is not None:
        return result.said
    answer = result.said.strip().rstrip(".")
    return result.truth if answer.casefold() == result.truth.casefold() else answer


def failed_result(question: Question, mode: str, error: str) -> Result:
    """The result of a question that could not be put."""
    return Result(**question_fields(question, mode), said=None, error=error)


def question_fields(question: Question, mode: str) -> dict[str, Any]:
    """The fields of a result that come from its question."""
    return {
        "benchmark": question.benchmark,
        "id": question.id,
        "mode": mode,
        "slide": question.slide,
        "question": question.question,
        "metric": question.metric,
        "truth": question.answer,
        "position": question.position,
        "options": len(question.options) if question.options else None,
        "labels": question.labels,
        "organ": question.organ,
        "category": question.category,
        "rarity": rarity(question),
    }


def read_results(path: Path) -> list[Result]:
    """The results of a file. Raises `RunError` as `read_lines`."""
    return read_lines(path, Result)
