"""MultiPathQA, the benchmark of GIANT: five tasks in one CSV file.

Its answers come in three forms: the 1-based place of an option, the option itself, or, where there are no
options, a grade. `{options}` in a prompt stands for the numbered options, doubled braces for single ones.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from pathlib import Path

from eval.benchmarks.questions import Benchmark, Metric, Question
from eval.benchmarks.tables import csv_rows, questions_in

COLUMNS = ("benchmark_name", "benchmark_id", "image_path", "answer", "options", "metric_type", "prompt")
METRICS: dict[str, Metric] = {"accuracy": "accuracy", "balanced_accuracy": "balanced_accuracy"}
GRADES, GRADE_KEY = tuple("012345"), "isup_grade"
ORGANS = {"panda": "prostate"}
"""Tasks about a single organ."""
NULL_GRADE = "0"
"""A case without a grade has no cancer: ISUP 0."""
_FORM = re.compile(
    r"\s*(Select from the following options:|Please choose the number|At the end of your report|```json).*",
    re.DOTALL,
)


def load_multipathqa(path: Path) -> Benchmark:
    """All questions of the file, in its order, and the rows that are none.

    Raises `CohortError` where the file is not this benchmark's.
    """
    return questions_in(csv_rows(path, COLUMNS), _question, path.name)


def parse_options(text: str) -> tuple[str, ...] | None:
    """The options of a Python list literal; None for an empty field. Raises `ValueError`."""
    if not text.strip():
        return None
    try:
        value = ast.literal_eval(text)
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise ValueError("the options are no list") from error
    if not isinstance(value, list) or len(value) < 2:
        raise ValueError("the options are no list of at least two")
    options = tuple(str(option).strip() for option in value)
    if len(set(options)) < len(options) or not all(options):
        raise ValueError("an option is empty or given twice")
    return options


def right_answer(text: str, options: tuple[str, ...] | None) -> str:
    """The answer as an option, or as a label where there are none. Raises `ValueError`."""
    text = text.strip()
    if options is None:
        return NULL_GRADE if text.lower() in ("", "null", "none", "nan") else text
    if re.fullmatch(r"\d+", text):
        if not 1 <= int(text) <= len(options):
            raise ValueError(f"the answer {text} is none of {len(options)} options")
        return options[int(text) - 1]
    if text not in options:
        raise ValueError(f"the answer '{text}' is none of the options")
    return text


def fill(prompt: str, options: tuple[str, ...] | None) -> str:
    """The prompt with numbered options and single braces; a bare question stays as it is."""
    if "{{" not in prompt and "{options}" not in prompt:
        return prompt
    numbered_options = "\n".join(f"{i}. {option}" for i, option in enumerate(options or (), 1))
    # replaced in one pass, so that braces in an option are not read as a field of the prompt
    parts = {"{options}": numbered_options, "{{": "{", "}}": "}"}
    return re.sub(r"\{options\}|\{\{|\}\}", lambda match: parts[match.group()], prompt)


def bare(prompt: str) -> str:
    """The question of a prompt, without the options and the form of the answer."""
    return " ".join(_FORM.sub("", prompt).split())


def _question(row: Mapping[str, str], line: int) -> Question:
    if row.get("is_valid", "").strip().lower() == "false":
        raise ValueError("the benchmark itself calls it invalid")
    options = parse_options(row["options"])
    metric = METRICS.get(row["metric_type"])
    if metric is None:
        raise ValueError(f"the metric '{row['metric_type']}' is not known")
    answer = right_answer(row["answer"], options)
    has_grades = GRADE_KEY in row["prompt"]
    if has_grades and answer not in GRADES:
        raise ValueError(f"the answer '{answer}' is no ISUP grade")
    prompt = fill(row["prompt"], options)
    return Question(
        benchmark=row["benchmark_name"],
        id=row["benchmark_id"],
        slide=row["image_path"],
        question=bare(prompt),
        prompt=prompt,
        options=options,
        labels=GRADES if has_grades else None,
        answer_key=GRADE_KEY if has_grades else "answer",
        answer=answer,
        metric=metric,
        organ=ORGANS.get(row["benchmark_name"]),
    )
