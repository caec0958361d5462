"""Benchmarks as their files say them."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from pathlib import Path

import pytest

from core_model.errors import CohortError, UsageError
from eval import load_benchmark
from eval.benchmarks.multipathqa import bare, fill, parse_options
from eval.benchmarks.questions import Question
from eval.benchmarks.rarity import rarity
from eval.benchmarks.registry import read_benchmark

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
        ({"benchmark_id": "1"}, "line 3.*twice"),
    ],
)
def test_a_malformed_row_is_named(tmp_path: Path, change: dict[str, str], said: str) -> None:
    path = write(tmp_path / "q.csv", ROW | {"benchmark_id": "1"}, ROW | change)
    found = read_benchmark("multipathqa", path)
    assert [q.id for q in found.questions] == ["1"]
    assert len(found.unusable) == 1
    assert re.search(said, f"{found.unusable[0].row}: {found.unusable[0].why}")


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


def test_data_without_a_usable_question_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "q.csv", ROW | {"answer": "9"})
    with pytest.raises(CohortError, match=r"no question that can be used.*line 2.*none of 2"):
        read_benchmark("multipathqa", path)


def test_grades_are_a_scale_under_their_own_key(shared: Path) -> None:
    found = read_benchmark("multipathqa", shared / "data" / "qa" / "MultiPathQA.csv")
    assert not found.unusable
    panda = [q for q in found.questions if q.benchmark == "panda"]
    assert {(q.labels, q.answer_key, q.organ) for q in panda} == {(tuple("012345"), "isup_grade", "prostate")}


@pytest.mark.parametrize(
    ("name", "file", "tasks", "slides"),
    [
        ("slidebench", "slidebench_small.csv", {"slidebench_tcga": 200}, 186),
        ("wsi-vqa", "wsi-vqa/WsiVQA_test.json", {"wsi_vqa_closed": 390, "wsi_vqa_open": 345}, 86),
        ("wsi-bench", "wsi-bench/Morphology_choice_test.json", {"wsi_bench_morphology": 682}, None),
        ("wsi-bench", "wsi-bench/Diagnosis_choice_test.json", {"wsi_bench_diagnosis": 413}, None),
        ("wsi-bench", "wsi-bench/Staging_choice_test.json", {"wsi_bench_staging": 145}, None),
    ],
)
def test_published_files_load_whole(
    shared: Path, name: str, file: str, tasks: dict[str, int], slides: int | None
) -> None:
    found = read_benchmark(name, shared / "data" / "qa" / file)
    assert not found.unusable
    assert Counter(q.benchmark for q in found.questions) == tasks
    assert slides is None or len({q.slide for q in found.questions}) == slides
    assert all(q.answer in q.options for q in found.questions if q.options)
    assert all((q.metric == "text") == (q.options is None) for q in found.questions)


def test_wsi_benchs_folder_without_its_training_file(shared: Path) -> None:
    found = read_benchmark("wsi-bench", shared / "data" / "qa" / "wsi-bench")
    assert not found.unusable
    assert len({q.key for q in found.questions}) == len(found.questions)
    assert len({q.slide for q in found.questions}) == 806
    assert not [q for q in found.questions if "<image>" in q.question]


def test_slidebench_of_bcnb(tmp_path: Path) -> None:
    path = tmp_path / "bcnb.csv"
    header = "Slide,Question,A,B,C,D,Answer,Category"
    path.write_text(f"{header}\n17.jpg,Is it ER positive?,Yes,No,,,B,ER\n18.jpg,Which?,a,,c,,A,x\n")
    found = read_benchmark("slidebench", path)
    (question,) = found.questions
    assert (question.benchmark, question.options, question.answer) == ("slidebench_bcnb", ("Yes", "No"), "No")
    assert (question.organ, question.category) == ("BRCA", "ER")
    assert "without a gap" in found.unusable[0].why


def test_malformed_rows_of_json_are_named(tmp_path: Path) -> None:
    rows: list[object] = [
        {"image": "TCGA-X/a.pt", "conversations": [{"from": "human", "value": "<image>\nWhy? A) x B) y"}]},
        {"image": "TCGA-X/a.pt", "question": "Why?"},
        {"question": "Why?"},
        17,
        {
            "image": "TCGA-X/a.pt",
            "question_id": "q",
            "question": "Why?",
            "T-answer": "So.",
            "metadata": "Stage",
        },
    ]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_benchmark("wsi-bench", tmp_path / "x.jsonl")
    assert [(q.benchmark, q.answer, q.organ) for q in found.questions] == [
        ("wsi_bench_stage_open", "So.", "X")
    ]
    assert [u.row for u in found.unusable] == [f"x.jsonl row {n}" for n in (1, 2, 3, 4)]


def test_anybodys_own_questions(tmp_path: Path) -> None:
    rows = [
        {"slide": "a.svs", "question": "Grade?", "options": ["1", "2"], "answer": "2", "task": "grades"},
        {"slide": "a.svs", "question": "ISUP?", "labels": ["0", "1"], "answer": "0", "organ": "prostate"},
        {"slide": "a.svs", "question": "Describe.", "answer": "Glands."},
        {"slide": "a.svs", "question": "Which?", "options": ["1", "2"], "answer": "7"},
        {"slide": "", "question": "Which?", "answer": "7"},
    ]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_benchmark("generic", tmp_path / "q.jsonl")
    assert [(q.benchmark, q.metric) for q in found.questions] == [
        ("grades", "accuracy"), ("questions", "accuracy"), ("questions", "text")
    ]  # fmt: skip
    assert [u.why for u in found.unusable] == ["the answer '7' is none of its options", "it has no slide"]
    table = "slide,question,answer,options\nb.svs,Which?,right,left | right\n"
    (tmp_path / "q.csv").write_text(table)
    assert read_benchmark("generic", tmp_path / "q.csv").questions[0].options == ("left", "right")


def test_a_cohort_is_read_from_its_folder(tmp_path: Path) -> None:
    write(tmp_path / "questions.csv", ROW)
    question = load_benchmark("cohort", tmp_path)[0]
    assert (question.slide, question.options, question.answer) == ("A.svs", ("Low", "High"), "High")


def test_rare_and_common_tumours() -> None:
    """By the diagnosis where the task asks for it, by the tumour's code elsewhere; an organ has no rarity."""

    def about(task: str, answer: str, organ: str | None) -> Question:
        return Question(
            benchmark=task, id="1", slide="s", question="?", prompt="?", answer=answer, metric="accuracy",
            organ=organ,
        )  # fmt: skip

    assert rarity(about("tcga", "Thymoma", None)) == "rare"
    assert rarity(about("tcga", "Lung adenocarcinoma", None)) == "common"
    assert rarity(about("wsi_vqa_closed", "Yes", "UVM")) == "rare"
    assert rarity(about("wsi_vqa_closed", "Yes", "BRCA")) == "common"
    assert rarity(about("panda", "3", "prostate")) is None
    assert rarity(about("gtex", "Lung", None)) is None


def test_zero_and_false_are_answers(tmp_path: Path) -> None:
    """An ISUP grade of 0 is a grade, and a row that answers no is a row."""
    grades = [
        {"slide": "a", "question": f"Grade {i}?", "answer": i, "labels": [0, 1, 2, 3, 4, 5]} for i in range(6)
    ]
    words = [
        {"slide": "a", "question": "Necrosis?", "answer": answer, "options": [True, False]}
        for answer in (True, False)
    ]
    more = [
        {"slide": "a", "question": "Count?", "answer": 0},
        {"slide": "a", "question": "No answer?", "answer": None},
    ]
    file = tmp_path / "q.jsonl"
    file.write_text("\n".join(map(json.dumps, [*grades, *words, *more])))
    found = read_benchmark("generic", file)
    assert [question.answer for question in found.questions] == [*"012345", "true", "false", "0"]
    assert [row.row for row in found.unusable] == ["q.jsonl line 10"]
    from eval.asking.baselines import constant_results

    assert {result.said for result in constant_results(found.questions[:6])} != {None}


def test_an_answer_that_could_be_a_place_or_a_value_is_none(tmp_path: Path) -> None:
    row = {"slide": "a", "question": "Grade?", "options": ["Grade 3", "Grade 2", "Grade 1"]}
    file = tmp_path / "q.jsonl"
    file.write_text(
        "\n".join(json.dumps(row | {"answer": answer, "id": answer}) for answer in (3, 2, "Grade 3"))
    )
    found = read_benchmark("generic", file)
    assert [question.answer for question in found.questions] == ["Grade 2", "Grade 3"]
    assert len(found.unusable) == 1
