"""Rows of the files that benchmarks come in (CSV, JSON lists, JSON lines), and questions made from them."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from core_model.errors import CohortError
from eval.benchmarks.questions import Benchmark, Question, Unusable

Row = TypeVar("Row")


def csv_rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """(line number, row) of a CSV file with a header. Raises `CohortError`."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            missing = [name for name in columns if name not in (table.fieldnames or ())]
            if missing:
                raise CohortError(f"the table has no column {', '.join(missing)}", where=path)
            for row in table:
                yield table.line_num, {name: value or "" for name, value in row.items() if name is not None}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CohortError(f"the file cannot be read ({error})", where=path) from error


def json_rows(path: Path) -> Iterator[tuple[int, Any]]:
    """(number from 1, row) of a JSON list, or (line, row) of JSON lines. Raises `CohortError`."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise CohortError(f"the file cannot be read ({error})", where=path) from error
    if path.suffix.lower() == ".jsonl":
        yield from _lines(text, path)
        return
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CohortError(f"the file is not JSON ({error})", where=path) from error
    if not isinstance(rows, list):
        raise CohortError("the file is not a list of rows", where=path)
    yield from enumerate(rows, 1)


def files_of(path: Path, suffixes: Sequence[str]) -> list[Path]:
    """The file itself, or those of a folder with one of the suffixes. Raises `CohortError` for none."""
    if not path.is_dir():
        return [path]
    files = sorted(p for p in path.iterdir() if p.is_file() and p.suffix.lower() in suffixes)
    if not files:
        raise CohortError(f"the folder holds no file that ends in {' or '.join(suffixes)}", where=path)
    return files


def questions_in(
    rows: Iterable[tuple[int, Row]],
    read_question: Callable[[Row, int], Question],
    file: str,
    unit: str = "line",
) -> Benchmark:
    """Make a question of each numbered row; `unit` says what the numbers count.

    A row of which `read_question` raises `ValueError`, or that repeats the task and id of an earlier one, is
    listed with the reason.
    """
    questions: dict[tuple[str, str], Question] = {}
    unusable: list[Unusable] = []
    for number, row in rows:
        try:
            question = read_question(row, number)
            if question.key in questions:
                raise ValueError(f"{question.benchmark} {question.id} stands in it twice")
            questions[question.key] = question
        except ValueError as error:
            unusable.append(Unusable(f"{file} {unit} {number}", " ".join(str(error).split())))
    return Benchmark(list(questions.values()), unusable)


def _lines(text: str, path: Path) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except (ValueError, RecursionError) as error:
            raise CohortError(f"line {number} is not JSON ({error})", where=path) from error
