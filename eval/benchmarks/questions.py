"""One question of a benchmark, whatever file it came from, and what could not be made into one."""

from __future__ import annotations

from typing import Literal, NamedTuple

from core_model.records import Record

Metric = Literal["accuracy", "balanced_accuracy", "text"]
"""How a task is scored; "text": an open answer, held against a reference in words."""


class QuestionRecord(Record):
    """What a record about one question of a benchmark begins with."""

    version: Literal[1] = 1
    benchmark: str
    """The task within the benchmark: results are reported for each."""
    id: str
    """Unique within its task."""


class Question(QuestionRecord):
    """A question about a slide, with its right answer."""

    slide: str
    """File name as the benchmark gives it; suffix and folder may differ on disk."""
    question: str
    """The question alone, as `giant ask` takes it."""
    prompt: str
    """The benchmark's whole prompt, options and form of the answer filled in."""
    options: tuple[str, ...] | None = None
    """None where the benchmark offers none."""
    labels: tuple[str, ...] | None = None
    """The scale of an answer without options, in order, e.g. ISUP grades 0 to 5."""
    answer_key: str = "answer"
    """The key under which the prompt wants the answer in JSON."""
    answer: str
    """The right answer: an option word for word, a label, or a reference in words."""
    metric: Metric
    organ: str | None = None
    """Organ or tumour type, where the benchmark names one."""
    category: str | None = None
    """Kind of question, where the benchmark names one."""

    @property
    def key(self) -> tuple[str, str]:
        """Task and id, which no other question of the benchmark has together."""
        return self.benchmark, self.id

    @property
    def position(self) -> int | None:
        """1-based place of the right answer among the options; None without options."""
        return self.options.index(self.answer) + 1 if self.options else None


class Unusable(NamedTuple):
    """A row that is no question, and why."""

    row: str
    why: str


class Benchmark(NamedTuple):
    """The questions of a benchmark's file, and the rows that are none."""

    questions: list[Question]
    unusable: list[Unusable]


def numbered_prompt(question: str, options: tuple[str, ...] | None) -> str:
    """A prompt for benchmarks that bring none: numbered options, and the answer as JSON."""
    if options is None:
        return question
    lines = "\n".join(f"{number}. {option}" for number, option in enumerate(options, 1))
    return f'{question}\n\nOptions:\n{lines}\n\nGive the number of the option as JSON: {{"answer": NUMBER}}'
