"""The text of a cohort for the small language model: what it reads before it ever sees a slide.

The heart are reading documents: a report in the place where the slide tokens will stand, followed by
questions about it and their answers, in the template of `core_model.conversation`. A model that has learnt
to look answers up in what precedes needs only a projector that says the same in its language.

Sources: `reports.jsonl` and `instructions.json` of any cohort; where the cohort holds truth maps, also
reports, captions and questions about random boxes of its slides.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from core_model.errors import CohortError
from core_model.language.conversation import EOS, IMAGE, Turn, conversation, without_special_tokens
from training.phantom.language import QA, benchmark_questions, caption, pathology_report, questions
from training.phantom.truth import BoxTruth, PhantomTruth

SLIDE_SUFFIXES = (".tiff", ".tif", ".svs", ".ndpi", ".mrxs", ".scn", ".dcm", ".pt", ".h5")
MIN_TISSUE = 0.2
"""Share of a box that must be tissue for it to be described."""
SMALLEST_UM = 112.0
"""Shortest side of a described box, µm: one tile of the embedded encoder."""
TURNS = 6
"""Most questions in one reading document."""


@dataclass(frozen=True)
class ReadingDocument:
    """A text with questions about it."""

    context: str
    """The text to read."""
    turns: tuple[Turn, ...]

    def document(self) -> str:
        """The training text: the context in place of the image tokens, then the turns."""
        return conversation(self.turns, context=self.context)[0]


def cohort_texts(cohort: Path, split: str = "train", *, per_slide: int = 32, seed: int = 0) -> list[str]:
    """Training documents from the slides of one split, shuffled; each is one text with its `</s>`.

    `per_slide` documents come from the truth map of each slide that has one: mostly reading documents,
    a few plain descriptions told twice or once. Raises CohortError where a file is missing or malformed.
    """
    names = split_names(cohort, split)
    rng = np.random.default_rng([seed, len(names)])
    texts = [reading.document() for reading in _written_readings(cohort, names)]
    texts += [
        f"{without_special_tokens(text)}{EOS}" for name, text in _reports(cohort).items() if name in names
    ]
    for truth in _truths(cohort, names):
        texts += [truth_document(t, rng) for t in random_boxes(truth, rng, per_slide)]
    return [texts[i] for i in rng.permutation(len(texts))]


def cohort_readings(
    cohort: Path, split: str = "val", *, per_slide: int = 2, seed: int = 1
) -> list[ReadingDocument]:
    """Closed questions about reports of random boxes, one question per reading's turn, for measuring.

    Only slides with truth maps have any.
    """
    rng = np.random.default_rng(seed)
    return [
        closed_reading(t, rng)
        for truth in _truths(cohort, split_names(cohort, split))
        for t in random_boxes(truth, rng, per_slide)
    ]


def cohort_questions(cohort: Path, split: str = "train", *, per_slide: int = 8, seed: int = 2) -> list[str]:
    """Questions with their options as one text each: what counts as a familiar question."""
    names = split_names(cohort, split)
    rng = np.random.default_rng(seed)
    turns = [turn for reading in _written_readings(cohort, names) for turn in reading.turns]
    for truth in _truths(cohort, names):
        for t in random_boxes(truth, rng, per_slide):
            turns += [_turn(qa) for qa in questions(t, rng)]
    return [" ".join([turn.question, *(turn.options or ())]) for turn in turns]


def split_names(cohort: Path, split: str) -> list[str]:
    """Slide names of one split of split.json. Raises CohortError if there is no such split."""
    splits = _json(Path(cohort) / "split.json")
    if not isinstance(splits, dict) or not isinstance(splits.get(split), list):
        raise CohortError(f"there is no list of slides under '{split}'", where=Path(cohort) / "split.json")
    return [slide_name(name) for name in splits[split]]


def slide_name(path: str) -> str:
    """A slide's name from a path, with or without folder and suffix; dots inside the name stay."""
    name = str(path).rsplit("/", 1)[-1]
    for suffix in SLIDE_SUFFIXES:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


def random_boxes(truth: PhantomTruth, rng: np.random.Generator, count: int) -> Iterator[BoxTruth]:
    """The whole slide, then truths of random boxes with tissue: sides log-uniform from one tile up."""
    yield truth.describe()
    boxes, tries = 1, 0
    while boxes < count and tries < 50 * count:
        tries += 1
        sides = [
            int(np.exp(rng.uniform(np.log(min(SMALLEST_UM / truth.mpp, side)), np.log(side))))
            for side in (truth.width, truth.height)
        ]
        w, h = (max(1, side) for side in sides)
        x, y = int(rng.integers(truth.width - w + 1)), int(rng.integers(truth.height - h + 1))
        t = truth.describe((x, y, w, h))
        if t.tissue_share >= MIN_TISSUE:
            boxes += 1
            yield t


def truth_document(t: BoxTruth, rng: np.random.Generator) -> str:
    """One training text about one truth: four times in five a reading, else a description told twice."""
    if rng.random() < 0.8:
        return truth_reading(t, rng).document()
    second = pathology_report(t, rng) if rng.random() < 0.5 else caption(t, rng)
    return f"{pathology_report(t, rng)} {second}{EOS}"


def truth_reading(t: BoxTruth, rng: np.random.Generator) -> ReadingDocument:
    """A report with a few questions about it."""
    return ReadingDocument(pathology_report(t, rng), tuple(_turn(qa) for qa in questions(t, rng)[:TURNS]))


def closed_reading(t: BoxTruth, rng: np.random.Generator) -> ReadingDocument:
    """A report with one benchmark question per family."""
    return ReadingDocument(pathology_report(t, rng), tuple(_turn(qa) for qa in benchmark_questions(t, rng)))


def _turn(qa: QA) -> Turn:
    return Turn(qa.question, qa.answer, qa.options)


def _truths(cohort: Path, names: Sequence[str]) -> Iterator[PhantomTruth]:
    """Truth maps of the slides that have one."""
    for name in names:
        if (Path(cohort) / "truth" / f"{name}.npz").is_file():
            yield PhantomTruth.load(Path(cohort), name)


def _written_readings(cohort: Path, names: Sequence[str]) -> Iterator[ReadingDocument]:
    """The conversations of instructions.json, those about one slide joined, each with its slide's report.

    A conversation about a slide without report has nothing to read and is left out: answers without their
    grounds would teach guessing.
    """
    path = Path(cohort) / "instructions.json"
    rows, reports = _json(path), _reports(cohort)
    turns: dict[str, list[Turn]] = {name: [] for name in names if name in reports}
    try:
        for row in rows:
            turns.get(slide_name(row["image"]), []).extend(dialogue(row["conversations"]))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise CohortError(f"a conversation is malformed ({error!r})", where=path) from error
    for name, pairs in turns.items():
        for start in range(0, len(pairs), TURNS):
            yield ReadingDocument(reports[name], tuple(pairs[start : start + TURNS]))


def dialogue(messages: Sequence[dict[str, Any]]) -> Iterator[Turn]:
    """Question–answer pairs of one conversation in WSI-Bench's format."""
    for human, answer in zip(messages[::2], messages[1::2], strict=True):
        if (human["from"], answer["from"]) != ("human", "gpt"):
            raise ValueError("human and gpt must take turns")
        yield Turn(human["value"].replace(IMAGE, "").strip(), answer["value"])


def _reports(cohort: Path) -> dict[str, str]:
    """Report of each slide by name."""
    path = Path(cohort) / "reports.jsonl"
    try:
        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]
        return {slide_name(row["slide"]): str(row["report"]) for row in rows}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CohortError(f"the reports cannot be read ({error!r})", where=path) from error


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise CohortError(f"the file cannot be read ({error})", where=path) from error
