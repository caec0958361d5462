"""WSI-Bench's published test files: choice questions in conversations, open ones one to a line.

Both forms name the slide as `TCGA-LUSC/<slide>.pt`. The task of a conversation is the name of its file; an
open question says its own. A question that stands in two files counts once.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from core_model.words import LETTERS, one_line, split_options
from eval.benchmarks.questions import Benchmark, Question, Unusable, numbered_prompt
from eval.benchmarks.tables import files_of, json_rows

IMAGE = "<image>"


def load_wsi_bench(path: Path) -> Benchmark:
    """The questions of a file, or of all `.json` and `.jsonl` files of a folder but those to train on."""
    questions: dict[tuple[str, str], Question] = {}
    unusable: list[Unusable] = []
    for file in files_of(path, (".json", ".jsonl")):
        if file.stem.lower().endswith("_train"):
            continue
        for number, row in json_rows(file):
            place = f"{file.name} row {number}"
            try:
                row_questions = list(_questions(row, file, number))
            except ValueError as error:
                unusable.append(Unusable(place, str(error)))
                continue
            for question in row_questions:
                before = questions.get(question.key)
                if before is not None and before == question:
                    continue  # published in two files
                if before is not None:
                    question = question.model_copy(update={"id": f"{question.id} (row {number})"})
                questions[question.key] = question
    return Benchmark(list(questions.values()), unusable)


def _questions(row: Any, file: Path, number: int) -> Iterator[Question]:
    if not isinstance(row, dict) or not isinstance(row.get("image"), str):
        raise ValueError("it names no image")
    if "conversations" in row:
        task = file.stem.lower().removesuffix("_test").removesuffix("_choice").lstrip("0123456789_")
        turns = _turns(row["conversations"])
        for i, (prompt, answer) in enumerate(turns, 1):
            id = str(row.get("id") or number) + (f"-{i}" if len(turns) > 1 else "")
            yield _question(f"wsi_bench_{task}", id, row["image"], prompt, answer)
        return
    prompt, answer = row.get("question"), row.get("T-answer")  # type: ignore[assignment]
    if not isinstance(prompt, str) or not isinstance(answer, str):
        raise ValueError("it has no question or no T-answer")
    task = str(row.get("metadata") or file.stem).lower().replace(" ", "_")
    yield _question(
        f"wsi_bench_{task}_open", str(row.get("question_id") or number), row["image"], prompt, answer
    )


def _turns(messages: Any) -> list[tuple[str, str]]:
    if not isinstance(messages, list) or len(messages) % 2 or not messages:
        raise ValueError("its conversation is no list of questions with answers")
    turns = []
    for human, gpt in zip(messages[::2], messages[1::2], strict=True):
        texts = [m.get("value") if isinstance(m, dict) else None for m in (human, gpt)]
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("a message of its conversation has no text")
        turns.append((str(texts[0]).replace(IMAGE, ""), str(texts[1])))
    return turns


def _question(benchmark: str, id: str, image: str, prompt: str, answer: str) -> Question:
    text, options = split_options(prompt)
    answer = answer.strip()
    if options:
        answer = answer.strip('". ')  # one published answer is `B "`
    if not options and answer in ("Yes", "No"):
        options, answer = ("Yes", "No"), "AB"[answer == "No"]
    if not text or not answer:
        raise ValueError("its question or its answer is empty")
    organ = image.split("/")[0].removeprefix("TCGA-") if "/" in image else None
    name = image.rsplit("/", 1)[-1]
    if not options:
        return Question(
            benchmark=benchmark, id=id, slide=name, question=text, prompt=text, answer=one_line(answer),
            metric="text", organ=organ,
        )  # fmt: skip
    if len(set(options)) < len(options) or not all(options):
        raise ValueError("an option is empty or given twice")
    if answer not in LETTERS[: len(options)]:
        raise ValueError(f"the answer {answer!r} is none of {', '.join(LETTERS[: len(options)])}")
    return Question(
        benchmark=benchmark, id=id, slide=name, question=text, prompt=numbered_prompt(text, options),
        options=options, answer=options[LETTERS.index(answer)], metric="accuracy", organ=organ,
    )  # fmt: skip
