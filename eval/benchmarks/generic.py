"""Anybody's own questions: a CSV with a header, or JSON lines.

Columns or keys: `slide`, `question`, `answer`; and, where they are known, `id`, `task`, `options` (a
JSON list, in CSV also with " | " between them), `labels` (the same), `metric`, `organ`, `category`. Without
options and labels the answer is a reference in words.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agent.answers.options import UNREADABLE, Options
from eval.benchmarks.questions import Benchmark, Question, numbered_prompt
from eval.benchmarks.tables import csv_rows, json_rows, questions_in

NEEDED = ("slide", "question", "answer")


def load_generic(path: Path) -> Benchmark:
    """The questions of the file. Raises `CohortError` where a needed column is missing."""
    return questions_in(_rows(path), _question, path.name)


def _rows(path: Path) -> Iterator[tuple[int, Any]]:
    yield from json_rows(path) if path.suffix.lower() in (".json", ".jsonl") else csv_rows(path, NEEDED)


def _question(row: Any, place: int) -> Question:
    if not isinstance(row, dict):
        raise ValueError("it is no record")
    texts = {key: _text(row.get(key)) for key in (*NEEDED, "id", "task", "metric")}
    empty = [key for key in NEEDED if not texts[key]]
    if empty:
        raise ValueError(f"it has no {', '.join(empty)}")
    options, labels = _list(row.get("options")), _list(row.get("labels"))
    answer = texts["answer"]
    if options and answer not in options and answer.isdigit():
        place = Options(options).by_number(answer)
        answer = answer if place == UNREADABLE else options[place]
    for name, among in (("options", options), ("labels", labels)):
        if among and answer not in among:
            raise ValueError(f"the answer '{answer}' is none of its {name}")
    return Question(
        benchmark=texts["task"] or "questions",
        id=texts["id"] or str(place),
        slide=texts["slide"],
        question=texts["question"],
        prompt=numbered_prompt(texts["question"], options),
        options=options,
        labels=labels,
        answer=answer,
        metric=texts["metric"] or ("accuracy" if options or labels else "text"),  # type: ignore[arg-type]
        organ=_text(row.get("organ")) or None,
        category=_text(row.get("category")) or None,
    )


def _text(value: Any) -> str:
    """A value on one line, as JSON writes it; 0 and false are values, null and what is missing are none."""
    if value is None:
        return ""
    return json.dumps(value) if isinstance(value, bool) else " ".join(str(value).split())


def _list(value: Any) -> tuple[str, ...] | None:
    if isinstance(value, str):
        text = value.strip()
        value = json.loads(text) if text.startswith("[") else [v for v in text.split(" | ") if v.strip()]
    if not value:
        return None
    if not isinstance(value, list) or len(value) < 2:
        raise ValueError("options are a list of at least two")
    items = tuple(map(_text, value))
    if len(set(items)) < len(items) or not all(items):
        raise ValueError("an option is empty or given twice")
    return items
