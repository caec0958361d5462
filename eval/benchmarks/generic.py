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
    texts = {key: " ".join(str(row.get(key) or "").split()) for key in (*NEEDED, "id", "task", "metric")}
    empty = [key for key in NEEDED if not texts[key]]
    if empty:
        raise ValueError(f"it has no {', '.join(empty)}")
    options, labels = _list(row.get("options")), _list(row.get("labels"))
    answer = texts["answer"]
    if options and answer not in options and answer.isdigit() and 1 <= int(answer) <= len(options):
        answer = options[int(answer) - 1]
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
        organ=str(row.get("organ") or "").strip() or None,
        category=str(row.get("category") or "").strip() or None,
    )


def _list(value: Any) -> tuple[str, ...] | None:
    if isinstance(value, str):
        text = value.strip()
        value = json.loads(text) if text.startswith("[") else [v for v in text.split(" | ") if v.strip()]
    if not value:
        return None
    if not isinstance(value, list) or len(value) < 2:
        raise ValueError("options are a list of at least two")
    items = tuple(" ".join(str(item).split()) for item in value)
    if len(set(items)) < len(items) or not all(items):
        raise ValueError("an option is empty or given twice")
    return items
