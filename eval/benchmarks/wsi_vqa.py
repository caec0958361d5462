"""WSI-VQA's file: `Id` of a TCGA-BRCA case, `Question`, `Answer`, and `Choice` where there are options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from core_model.words import one_line
from eval.benchmarks.questions import Benchmark, Question, numbered_prompt
from eval.benchmarks.tables import json_rows, questions_in


def load_wsi_vqa(path: Path) -> Benchmark:
    """Its questions, closed and open as two tasks; they have no ids but their places in the file."""
    return questions_in(json_rows(path), _question, path.name, "row")


def _question(row: Any, number: int) -> Question:
    if not isinstance(row, dict):
        raise ValueError("it is no record")
    slide, text, answer = (_text(row.get(key)) for key in ("Id", "Question", "Answer"))
    if not slide or not text or not answer:
        raise ValueError("it has no Id, no Question or no Answer")
    fields: dict[str, Any] = {"id": str(number), "slide": slide, "question": text, "organ": "BRCA"}
    choice = row.get("Choice")
    if not choice:
        return Question(benchmark="wsi_vqa_open", prompt=text, answer=answer, metric="text", **fields)
    if not isinstance(choice, list) or len(choice) < 2:
        raise ValueError("its Choice is no list of at least two")
    options = tuple(one_line(str(option)) for option in choice)
    if len(set(options)) < len(options) or not all(options):
        raise ValueError("an option is empty or given twice")
    matches = [option for option in options if _bare(option) == _bare(answer)]
    if len(matches) != 1:
        raise ValueError(f"the answer '{answer}' is none of its options")
    prompt = numbered_prompt(text, options)
    return Question(
        benchmark="wsi_vqa_closed",
        prompt=prompt,
        options=options,
        answer=matches[0],
        metric="accuracy",
        **fields,
    )


def _text(value: Any) -> str:
    return "" if value is None else one_line(str(value))


def _bare(text: str) -> str:
    """Published answers differ from their option by case and a full stop."""
    return text.casefold().rstrip(". ")
