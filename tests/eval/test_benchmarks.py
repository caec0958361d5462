"""Benchmarks as their files say them."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest

from core_model.errors import CohortError, UsageError
from eval import load_benchmark
from eval.multipathqa import bare, fill, parse_options

ROW = {
    "benchmark_name": "tcga_expert_vqa",
    "benchmark_id": "7",
    "image_path": "A.svs",
    "answer": "2",
    "options": "['Low', 'High']",
    "metric_type": "accuracy",
    "prompt": "How high is it?",
}
PROMPT = 'What is it?\n\nSelect from the following options:\n{options}\n\n```json\n{{"answer": X}}\n```'


def write(path: Path, *rows: dict[str, str]) -> Path:
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, ROW)
        table.writeheader()
        table.writerows(rows)
    return path


def test_the_published_file_loads_whole(shared: Path) -> None:
    questions = load_benchmark("multipathqa", shared / "data" / "qa" / "MultiPathQA.csv")
    assert len(questions) == 934
    assert len({q.slide for q in questions}) == 862
    counts = Counter(q.benchmark for q in questions)
    assert counts == {
        "tcga": 221, "gtex": 191, "panda": 197, "tcga_slidebench": 197, "tcga_expert_vqa": 128
    }  # fmt: skip
    assert {q.answer for q in questions if q.benchmark == "panda"} == set("012345")
    organs = {q.answer for q in questions if q.benchmark == "gtex"}
    assert len(organs) == 20
    assert "Esophagus" in organs
    assert len({q.answer for q in questions if q.benchmark == "tcga"}) == 30
    assert all(q.options and q.answer in q.options for q in questions if q.benchmark != "panda")
    assert not [q for q in questions if "{" in q.question or "Select from" in q.question]


def test_an_index_counts_from_one_even_among_numbers(tmp_path: Path) -> None:
    path = write(tmp_path / "q.csv", ROW | {"options": "['2', '3', '4', '5']", "answer": "3"})
    question = load_benchmark("multipathqa", path)[0]
    assert question.answer == "4"
    assert question.position == 3


def test_a_null_grade_is_no_cancer(tmp_path: Path) -> None:
    rows = [ROW | {"options": "", "answer": a, "benchmark_id": a} for a in ("null", "", "3")]
    answers = [q.answer for q in load_benchmark("multipathqa", write(tmp_path / "q.csv", *rows))]
    assert answers == ["0", "0", "3"]


def test_prompts_are_filled_once() -> None:
    filled = fill(PROMPT, ("{options}", "b}}"))
    assert "following options:\n1. {options}\n2. b}}\n" in filled
    assert '{"answer": X}' in filled
    assert bare(PROMPT) == "What is it?"
    assert bare("Is a {brace} fine?") == "Is a {brace} fine?"


@pytest.mark.parametrize(
    "text",
    ["__import__('os').getcwd()", "['a']", "['a', 'a']", "['a', '']", "{'a': 1}", "['a', 'b'", "(" * 9000],
)
def test_options_are_read_as_data(text: str) -> None:
    with pytest.raises(ValueError, match="option"):
        parse_options(text)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"answer": "3"}, "line 3.*none of 2 options"),
        ({"answer": "Medium"}, "line 3.*'Medium'"),
        ({"options": "Low or High"}, "line 3.*no list"),
        ({"metric_type": "f1"}, "line 3.*f1"),
        ({"benchmark_id": "1"}, "twice"),
    ],
)
def test_a_malformed_row_is_named(tmp_path: Path, change: dict[str, str], said: str) -> None:
    path = write(tmp_path / "q.csv", ROW | {"benchmark_id": "1"}, ROW | change)
    with pytest.raises(CohortError, match=said):
        load_benchmark("multipathqa", path)


def test_files_that_are_no_benchmark(tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text("a,b\n1,2\n")
    with pytest.raises(CohortError, match="no column benchmark_name"):
        load_benchmark("multipathqa", tmp_path / "q.csv")
    with pytest.raises(CohortError, match="cannot be read"):
        load_benchmark("multipathqa", tmp_path / "none.csv")
    with pytest.raises(CohortError, match=r"questions\.csv"):
        load_benchmark("cohort", tmp_path)
    with pytest.raises(UsageError, match="multipathqa"):
        load_benchmark("guesswork", tmp_path)


def test_a_cohort_is_read_from_its_folder(tmp_path: Path) -> None:
    write(tmp_path / "questions.csv", ROW)
    question = load_benchmark("cohort", tmp_path)[0]
    assert (question.slide, question.options, question.answer) == ("A.svs", ("Low", "High"), "High")
