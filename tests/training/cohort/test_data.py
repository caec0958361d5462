"""A cohort folder is read whole, or the file and row that is wrong is named."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from core_model.errors import CohortError
from training.cohort.cohort import load_training_cohort

COLUMNS = ["benchmark_name", "image_path", "answer", "options", "prompt"]
ROW = ["phantom_grade", "a.b.1.tiff", "2", "['grade 1', 'grade 2']", "grade?"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three slides of a hospital: no truth maps, dots in their names."""
    names = ["a.b.1", "a.b.2", "c"]
    (tmp_path / "slides").mkdir()
    for name in names:
        (tmp_path / f"slides/{name}.tiff").touch()
    (tmp_path / "split.json").write_text(json.dumps({"train": ["a.b.1.tiff", "a.b.2"], "val": ["c"]}))
    rows = [json.dumps({"slide": name, "report": f"Report of {name}."}) for name in names]
    (tmp_path / "reports.jsonl").write_text("\n".join(rows) + "\n")
    talk = [{"from": "human", "value": "<image>\nGrade?"}, {"from": "gpt", "value": "Grade 2."}]
    (tmp_path / "instructions.json").write_text(json.dumps([{"image": "X/a.b.1.pt", "conversations": talk}]))
    write_questions(tmp_path, [ROW, ["gtex", "c.tiff", "Lung", "['Lung', 'Liver']", "Organ?"]])
    return tmp_path


def write_questions(folder: Path, rows: list[list[str]]) -> None:
    with (folder / "questions.csv").open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])


def test_a_foreign_cohort_is_read(folder: Path) -> None:
    cohort = load_training_cohort(folder)
    assert cohort.train == ("a.b.1", "a.b.2")
    assert cohort.val == ("c",)
    assert cohort.reports["a.b.2"] == "Report of a.b.2."
    (turn,) = cohort.turns["a.b.1"]
    assert (turn.question, turn.answer) == ("Grade?", "Grade 2.")
    assert cohort.truths == {}
    assert cohort.extents == {}
    (train,), (val,) = cohort.closed_questions("train"), cohort.closed_questions("val")
    assert (train.family, train.answer) == ("grade", "grade 2")  # an index into the options
    assert (val.family, val.answer) == ("gtex", "Lung")  # or the option itself


def lose_slides(folder: Path) -> None:
    for name in ("a.b.1", "c"):
        (folder / f"slides/{name}.tiff").unlink()


def spoil_report(folder: Path) -> None:
    lines = (folder / "reports.jsonl").read_text().splitlines()
    (folder / "reports.jsonl").write_text("\n".join([lines[0], '{"slide": "a.b.2"}', lines[2]]))


def drop_report(folder: Path) -> None:
    (folder / "reports.jsonl").write_text((folder / "reports.jsonl").read_text().splitlines()[0])


def spoil_turns(folder: Path) -> None:
    talk = [{"from": "human", "value": "Grade?"}]
    (folder / "instructions.json").write_text(json.dumps([{"image": "c.pt", "conversations": talk}]))


def spoil_split(folder: Path) -> None:
    (folder / "split.json").write_text(json.dumps({"train": ["c", "a.b.1"], "val": ["c"]}))


def empty_split(folder: Path) -> None:
    (folder / "split.json").write_text(json.dumps({"train": ["c"], "val": []}))


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lose_slides, r"2 slides \(a.b.1, c\) of 3"),
        (spoil_report, "line 2 is malformed"),
        (drop_report, r"2 slides \(a.b.2, c\) have no report"),
        (spoil_turns, "conversation 0 is malformed"),
        (spoil_split, r"1 slide \(c\) stand in both splits"),
        (empty_split, "empty"),
        (lambda folder: (folder / "reports.jsonl").unlink(), "cannot be read"),
        (lambda folder: write_questions(folder, [ROW, [*ROW[:2], "3", *ROW[3:]]]), "line 3 is malformed"),
        (lambda folder: write_questions(folder, [[*ROW[:3], "['a", ROW[4]]]), "line 2 is malformed"),
    ],
)
def test_what_is_wrong_is_named(folder: Path, spoil: Callable[[Path], None], told: str) -> None:
    spoil(folder)
    with pytest.raises(CohortError, match=told):
        load_training_cohort(folder)


def test_no_folder_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(CohortError, match="giant phantom"):
        load_training_cohort(tmp_path / "nothing")
