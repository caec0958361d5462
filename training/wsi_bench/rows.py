"""The rows of WSI-Bench's files, as published, each checked where it is read.

Two forms: conversations (`id`, `image`, `conversations`; every training file and the choice tests, as a JSON
list) and questions (`question_id`, `image`, `question`, `T-answer`, `metadata`; the open tests, one to a
line of a .jsonl file). A third, `slide` and `report`, is ours: the reports of a cohort.
In all published conversations human and gpt take turns and `<image>` and a line break begin the first
human turn and stand nowhere else. Just that is accepted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from core_model.errors import CohortError
from core_model.language.conversation import IMAGE, Turn
from training.cohort.corpus import SLIDE_SUFFIXES, slide_name
from training.wsi_bench.summary import FileSummary, Role

ROLES: dict[Role, tuple[str, ...]] = {
    "train": ("conversation",),
    "test": ("conversation", "question"),
    "reports": ("conversation", "question", "report"),
}
"""The forms of rows that may stand in the files of each role."""
REPORT = "Report"
"""What the published tests call the task of writing a report."""


@dataclass(frozen=True)
class Row:
    """One row that is as it should be."""

    file: Path
    number: int
    """Place in a JSON list from 1, or line of a .jsonl file."""
    id: str
    image: str
    """As published: `TCGA-LUSC/<slide>.pt`."""
    turns: tuple[Turn, ...]
    """Questions without `<image>`, answers as they are."""
    task: str
    """`metadata` of a question, else the name of the file without `_test` or `_train`."""

    @property
    def slide(self) -> str:
        return slide_name(self.image)

    @property
    def is_report(self) -> bool:
        """Whether a report is asked for. In the published files every question for one names the whole slide
        and a diagnosis, and no other question names both."""
        question = self.turns[0].question.lower()
        return self.task == REPORT or ("whole slide" in question and "diagnos" in question)

    def conversation(self) -> dict[str, Any]:
        """The row as a conversation of instructions.json."""
        messages = []
        for i, turn in enumerate(self.turns):
            lead = f"{IMAGE}\n" if i == 0 else ""
            messages += [
                {"from": "human", "value": lead + turn.question},
                {"from": "gpt", "value": turn.answer},
            ]
        return {"id": self.id, "image": self.image, "conversations": messages}


class Malformed(NamedTuple):
    """A row that is not as it should be."""

    file: Path
    number: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file.name} row {self.number}: {self.reason}"


@dataclass(frozen=True)
class Rows:
    """All rows of all files."""

    train: list[Row]
    test: list[Row]
    reports: list[Row]
    files: tuple[FileSummary, ...]
    malformed: list[Malformed]


def read_files(train: Iterable[Path], test: Iterable[Path], reports: Iterable[Path]) -> Rows:
    """Every row of every file, checked. Raises CohortError where a file as a whole cannot be read."""
    parts: dict[Role, list[Row]] = {role: [] for role in ROLES}
    files: list[FileSummary] = []
    bad_rows: dict[Malformed, None] = {}
    paths_of: dict[Role, Iterable[Path]] = {"train": train, "test": test, "reports": reports}
    for role, path in [(role, path) for role, paths in paths_of.items() for path in paths]:
        rows, wrong = read_rows(path, ROLES[role])
        parts[role] += rows
        bad_rows |= dict.fromkeys(wrong)  # a file may be read for two reasons
        double = len(rows) - len({row.id for row in rows})
        files.append(
            FileSummary(role=role, file=path.name, rows=len(rows), malformed=len(wrong), double_ids=double)
        )
    return Rows(parts["train"], parts["test"], parts["reports"], tuple(files), list(bad_rows))


def read_rows(path: Path, forms: Iterable[str]) -> tuple[list[Row], list[Malformed]]:
    """All rows of one file; `forms` are those of FORMS that may stand in it."""
    rows, bad_rows = [], []
    for number, record in _raw(path):
        try:
            rows.append(_row(path, number, record, set(forms)))
        except ValueError as error:
            bad_rows.append(Malformed(path, number, str(error)))
    return rows, bad_rows


def _raw(path: Path) -> Iterator[tuple[int, Any]]:
    """Rows as JSON gives them; a line that is no JSON comes as a `ValueError`."""
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise CohortError(f"the file cannot be read ({error})", where=path) from error
    if path.suffix.lower() == ".jsonl":
        for number, line in enumerate(text.split("\n"), start=1):  # splitlines would part texts at U+2028
            if line.strip():
                yield number, _decoded(line)
        return
    records = _decoded(text)
    if isinstance(records, ValueError):
        raise CohortError(
            f"the file is no JSON ({records})", where=path, fix="a file with a row on each line is .jsonl"
        )
    if not isinstance(records, list):
        raise CohortError(f"the file is no list of rows but a {type(records).__name__}", where=path)
    yield from enumerate(records, start=1)


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        return error


def _row(path: Path, number: int, record: Any, forms: set[str]) -> Row:
    """Raises ValueError that says what is wrong with the row."""
    if isinstance(record, ValueError):
        raise ValueError(f"no JSON ({record})")
    if not isinstance(record, dict):
        raise ValueError(f"no object but a {type(record).__name__}")
    for form, (key, reader) in FORMS.items():
        if key in record and form in forms:
            return reader(path, number, record)
    keys = " or ".join(f"'{FORMS[form][0]}'" for form in FORMS if form in forms)
    raise ValueError(f"it has no {keys}, only {', '.join(map(str, record)) or 'nothing'}")


def _conversation(path: Path, number: int, record: dict[str, Any]) -> Row:
    messages = record["conversations"]
    if not isinstance(messages, list) or not messages or len(messages) % 2:
        raise ValueError("conversations are no list of questions with their answers")
    words = [_said(message, i) for i, message in enumerate(messages)]
    lead = f"{IMAGE}\n"
    if not words[0].startswith(lead):
        raise ValueError(f"the first question does not begin with {IMAGE} and a line break")
    words[0] = words[0].removeprefix(lead)
    if any(IMAGE in text for text in words):
        raise ValueError(f"{IMAGE} stands in it more than once")
    if not words[0].strip():
        raise ValueError("the first question is empty")
    task = path.stem.removesuffix("_test").removesuffix("_train")
    turns = tuple(Turn(question, answer) for question, answer in zip(words[::2], words[1::2], strict=True))
    return Row(path, number, _text(record, "id"), _image(record, "image"), turns, task)


def _said(message: Any, place: int) -> str:
    """The words of a message whose speaker is the right one."""
    speaker = ("human", "gpt")[place % 2]
    if not isinstance(message, dict) or message.get("from") != speaker:
        sender = message.get("from") if isinstance(message, dict) else message
        raise ValueError(f"message {place + 1} is from {sender!r}, not from '{speaker}'")
    return _text(message, "value")


def _question(path: Path, number: int, record: dict[str, Any]) -> Row:
    question, answer = _text(record, "question"), _text(record, "T-answer")
    if IMAGE in question or IMAGE in answer:
        raise ValueError(f"{IMAGE} stands in its text")
    id, image = _text(record, "question_id"), _image(record, "image")
    return Row(path, number, id, image, (Turn(question, answer),), _text(record, "metadata"))


def _report(path: Path, number: int, record: dict[str, Any]) -> Row:
    name = _text(record, "slide")
    return Row(path, number, name, name, (Turn("", _text(record, "report")),), REPORT)


def _image(record: dict[str, Any], key: str) -> str:
    """The name of a slide's file."""
    image = _text(record, key)
    is_name = image.isprintable() and image.lower().endswith(SLIDE_SUFFIXES) and slide_name(image).strip()
    if not is_name:
        raise ValueError(f"{key} '{image}' is no name of a slide's file")
    return image


def _text(record: dict[str, Any], key: str) -> str:
    text = record.get(key)
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"{key} is missing" if key not in record else f"{key} is empty or no text")
    text.encode()  # half a surrogate pair is no text; its error is a ValueError
    return text


FORMS: dict[str, tuple[str, Callable[[Path, int, dict[str, Any]], Row]]] = {
    "conversation": ("conversations", _conversation),
    "question": ("question_id", _question),
    "report": ("report", _report),
}
"""The forms of a row by name: the key that tells them apart, and who reads them."""
