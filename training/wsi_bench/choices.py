"""Choice questions of WSI-Bench as rows of questions.csv.

Published, the options stand in the question, "… A) first B) second …", and the answer is a letter. The
file on prognosis asks for yes or no.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from core_model.words import LETTERS, split_options
from training.wsi_bench.rows import Row

COLUMNS = (
    "benchmark_name", "benchmark_id", "image_path", "answer", "options", "image_exists", "patch_exists",
    "is_valid", "metric_type", "file_id", "prompt",
)  # fmt: skip
"""MultiPathQA's columns."""
YES_NO = ("Yes", "No")


class ChoiceQuestion(NamedTuple):
    """A question with options and the right one."""

    row: Row
    id: str
    question: str
    options: tuple[str, ...]
    answer: int
    """1-based place among the options."""


def choice_questions(rows: Iterable[Row]) -> tuple[list[ChoiceQuestion], list[str], int]:
    """Every question with options, those that cannot be used with the reason, and how many have none."""
    questions, unusable, open_count = [], [], 0
    for row in rows:
        for i, turn in enumerate(row.turns, start=1):
            id = row.id if len(row.turns) == 1 else f"{row.id}-{i}"
            question, options = split_options(turn.question)
            letters: tuple[str, ...] = tuple(LETTERS[: len(options)])
            if not options and turn.answer.strip() in YES_NO:
                options = letters = YES_NO
            if not options:
                open_count += 1
            elif why := _unusable(question, options, letters, turn.answer.strip()):
                unusable.append(f"{row.file.name} row {row.number}: {why}")
            else:
                answer = letters.index(turn.answer.strip()) + 1
                questions.append(ChoiceQuestion(row, id, question, options, answer))
    return questions, unusable, open_count


def _unusable(question: str, options: tuple[str, ...], letters: tuple[str, ...], answer: str) -> str | None:
    if not question:
        return "no question before the options"
    if len(set(options)) < len(options) or not all(options):
        return "an option is empty or given twice"
    if answer not in letters:
        return f"the answer {answer!r} is none of {', '.join(letters)}"
    return None


def table(groups: Iterable[tuple[str, list[ChoiceQuestion]]]) -> str:
    """questions.csv of choices in groups that end in a suffix of their own ("" or "_val")."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_records(groups))
    return text.getvalue()


def _records(groups: Iterable[tuple[str, list[ChoiceQuestion]]]) -> Iterator[dict[str, object]]:
    ids: set[tuple[str, str]] = set()
    for suffix, questions in groups:
        for choice in questions:
            benchmark = f"wsi_bench_{choice.row.task.lower().removesuffix('_choice')}{suffix}"
            # an id that was published twice is told apart by where it stands
            id = choice.id if (benchmark, choice.id) not in ids else f"{choice.id} (row {choice.row.number})"
            ids.add((benchmark, id))
            yield {
                "benchmark_name": benchmark,
                "benchmark_id": id,
                "image_path": choice.row.image.rsplit("/", 1)[-1],
                "answer": choice.answer,
                "options": str(list(choice.options)),
                "image_exists": True,
                "patch_exists": False,
                "is_valid": True,
                "metric_type": "accuracy",
                "file_id": choice.row.slide,
                "prompt": choice.question,
            }
