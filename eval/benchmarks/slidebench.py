"""SlideBench's tables: options in columns A to D, the answer a letter; TCGA's columns and BCNB's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from eval.benchmarks.questions import Benchmark, Question, numbered_prompt
from eval.benchmarks.tables import csv_rows, questions_in

LETTERS = "ABCD"
NEEDED = ("Slide", "Question", *LETTERS, "Answer")


def load_slidebench(path: Path) -> Benchmark:
    """The questions of the table. Raises `CohortError` where a needed column is missing."""
    return questions_in(csv_rows(path, NEEDED), _question, path.name)


def _question(row: Mapping[str, str], line: int) -> Question:
    options = tuple(row[letter].strip() for letter in LETTERS if row[letter].strip())
    letters = [letter for letter in LETTERS if row[letter].strip()]
    if letters != list(LETTERS[: len(letters)]) or len(options) < 2:
        raise ValueError("its options are not A, B, … without a gap")
    if len(set(options)) < len(options):
        raise ValueError("an option is given twice")
    answer, slide = row["Answer"].strip().upper(), row["Slide"].strip()
    if answer not in letters:
        raise ValueError(f"the answer {answer!r} is none of {', '.join(letters)}")
    text = " ".join(row["Question"].split())
    if not text or not slide:
        raise ValueError("it has no question or no slide")
    tcga = slide.upper().startswith("TCGA-")
    return Question(
        benchmark="slidebench_tcga" if tcga else "slidebench_bcnb",
        id=row.get("ID", "").strip() or str(line),
        slide=row.get("image_path", "").strip() or slide,
        question=text,
        prompt=numbered_prompt(text, options),
        options=options,
        answer=options[LETTERS.index(answer)],
        metric="accuracy",
        organ=(row.get("Tumor", "").strip() or None) if tcga else "BRCA",
        category=row.get("Narrow Category", "").strip() or row.get("Category", "").strip() or None,
    )
