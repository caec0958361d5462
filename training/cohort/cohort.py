"""A cohort folder, read and checked before anything is trained on it.

Every row is checked when it is read, so that a malformed one is named by file and number now rather than
met as a traceback an hour later.
"""

from __future__ import annotations

import ast
import csv
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from core_model.errors import CohortError
from core_model.language.conversation import Turn
from training.cohort.corpus import dialogue, slide_name, split_names
from training.phantom.truth import PhantomTruth

SOURCES = ("slides", "features", "tokens")
"""Folders of a cohort that say what its slides look like: pixels, vectors of tiles, tokens of slides."""
REPORT_CALL = "Describe the slide."
"""Asked of slides without a conversation."""
SHOWN = 5
"""Names listed in an error before "and more"."""


@dataclass(frozen=True)
class ClosedQuestion:
    """A question about a whole slide with options, from questions.csv."""

    slide: str
    question: str
    options: tuple[str, ...]
    answer: str
    """One of the options."""
    family: str
    """The kind of question, for accuracy by kind."""


@dataclass(frozen=True)
class Cohort:
    """Slides with what is said and asked about them. Mappings go by slide name."""

    root: Path
    paths: Mapping[str, Path]
    """Slide files; empty where the cohort holds features or tokens instead."""
    train: tuple[str, ...]
    val: tuple[str, ...]
    reports: Mapping[str, str]
    turns: Mapping[str, tuple[Turn, ...]]
    """Question–answer pairs of instructions.json; an options list is part of the question's text."""
    questions: tuple[ClosedQuestion, ...]
    truths: Mapping[str, PhantomTruth]
    """Truth maps; empty for a cohort of real slides."""
    features: Mapping[str, Path] = field(default_factory=dict)
    """Files of tile features, where somebody has computed them already."""
    tokens: Mapping[str, Path] = field(default_factory=dict)
    """Files of slide tokens, where somebody has computed them already."""

    def names(self, split: str) -> tuple[str, ...]:
        """Slides of "train" or "val"."""
        return self.train if split == "train" else self.val

    def closed_questions(self, split: str) -> list[ClosedQuestion]:
        """Closed questions about the slides of one split."""
        names = set(self.names(split))
        return [question for question in self.questions if question.slide in names]

    def turns_about(self, name: str) -> tuple[Turn, ...]:
        """The questions and answers about a slide: its conversation, or a call for its report."""
        return self.turns.get(name) or (Turn(REPORT_CALL, self.reports[name]),)

    @property
    def extents(self) -> dict[str, tuple[int, int]]:
        """(width, height) in level-0 px of the slides whose truth is known box by box."""
        return {name: (truth.width, truth.height) for name, truth in self.truths.items()}


def load_training_cohort(root: Path) -> Cohort:
    """Read and check a cohort folder. Raises CohortError, naming the file and row that is wrong."""
    root = Path(root)
    if not root.is_dir():
        raise CohortError(
            "this is no folder", where=root, fix="write a cohort with `giant phantom --out DIR`"
        )
    train, val = (tuple(split_names(root, split)) for split in ("train", "val"))
    if shared_names := sorted(set(train) & set(val)):
        raise CohortError(f"{_listed(shared_names)} stand in both splits", where=root / "split.json")
    if not train or not val:
        raise CohortError(
            "one of the splits is empty",
            where=root / "split.json",
            fix="name slides under both train and val",
        )
    names = (*train, *val)
    files = {folder: _files(root / folder, names) for folder in SOURCES}
    if not any(files.values()):
        raise CohortError(
            f"the cohort has none of the folders {', '.join(SOURCES)}",
            where=root,
            fix="put the slides into one of them",
        )
    questions_file = root / "questions.csv"
    return Cohort(
        root=root,
        paths=files["slides"],
        train=train,
        val=val,
        reports=_read_reports(root / "reports.jsonl", names),
        turns=_read_turns(root / "instructions.json", names),
        questions=tuple(_read_questions(questions_file, names)) if questions_file.exists() else (),
        truths={name: PhantomTruth.load(root, name) for name in names if _has_truth(root, name)},
        features=files["features"],
        tokens=files["tokens"],
    )


def _has_truth(root: Path, name: str) -> bool:
    return (root / "truth" / f"{name}.npz").is_file()


def _listed(names: list[str]) -> str:
    """The first names, and how many there are in all."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{len(names)} slide{'s' * (len(names) > 1)} ({', '.join(names[:SHOWN])}{more})"


def _files(folder: Path, names: tuple[str, ...]) -> dict[str, Path]:
    """A file for each slide; none where there is no such folder. A folder that lacks some is an error."""
    if not folder.is_dir():
        return {}
    paths = {slide_name(p.name): p for p in sorted(folder.iterdir())}
    if missing := [name for name in names if name not in paths]:
        raise CohortError(
            f"{_listed(missing)} of {len(names)} in split.json have no file",
            where=folder,
            fix="copy them there, or take them out of split.json",
        )
    return {name: paths[name] for name in names}


def _read_reports(path: Path, names: Collection[str]) -> dict[str, str]:
    reports = {}
    for number, line in enumerate(_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            name, words = slide_name(row["slide"]), row["report"]
            if not isinstance(words, str) or not words.strip():
                raise ValueError("empty report")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise _malformed(path, f"line {number}", error) from error
        if name in names:
            reports[name] = words
    if silent := [name for name in names if name not in reports]:
        raise CohortError(f"{_listed(silent)} have no report", where=path)
    return reports


def _read_turns(path: Path, names: Collection[str]) -> dict[str, tuple[Turn, ...]]:
    turns: dict[str, list[Turn]] = {name: [] for name in names}
    try:
        rows = json.loads(_text(path))
    except ValueError as error:
        raise _malformed(path, "the file", error) from error
    if not isinstance(rows, list):
        raise CohortError("the file is no list of conversations", where=path)
    for number, row in enumerate(rows):
        try:
            turns.get(slide_name(row["image"]), []).extend(dialogue(row["conversations"]))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise _malformed(path, f"conversation {number}", error) from error
    return {name: tuple(pairs) for name, pairs in turns.items()}


def _read_questions(path: Path, names: Collection[str]) -> Iterator[ClosedQuestion]:
    """Closed questions; open ones have no options and are not for measuring accuracy."""
    rows = csv.DictReader(_text(path).splitlines())
    for number, row in enumerate(rows, start=2):
        try:
            name = slide_name(row["image_path"])
            options = ast.literal_eval(row["options"]) if row["options"].strip() else []
            if name not in names or not options:
                continue
            yield ClosedQuestion(
                slide=name,
                question=row["prompt"].strip(),
                options=tuple(str(option) for option in options),
                answer=chosen(row["answer"], options),
                family=row["benchmark_name"].removeprefix("phantom_"),
            )
        except (ValueError, SyntaxError, KeyError, TypeError, AttributeError) as error:
            raise _malformed(path, f"line {number}", error) from error


def chosen(answer: str, options: list[str]) -> str:
    """The option that an answer field names: itself, or its 1-based index. Raises ValueError."""
    if answer in options:
        return answer
    index = int(answer)
    if not 1 <= index <= len(options):
        raise ValueError(f"answer {answer} is none of {len(options)} options")
    return str(options[index - 1])


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CohortError(f"the file cannot be read ({error})", where=path) from error


def _malformed(path: Path, row: str, error: Exception) -> CohortError:
    return CohortError(f"{row} is malformed ({type(error).__name__}: {error})", where=path)
