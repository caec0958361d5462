"""WSI-Bench's files become a cohort whole, or what is wrong with them is named; nothing goes silently."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from core_model.errors import CohortError, FeatureStoreError, UsageError
from core_model.language.conversation import Turn
from core_model.words import split_options
from training.cohort.cohort import load_training_cohort
from training.wsi_bench.choices import choice_questions
from training.wsi_bench.cli import wsi_bench
from training.wsi_bench.cohort import WsiBenchRequest, make_cohort
from training.wsi_bench.overlap import tcga_patient
from training.wsi_bench.rows import Row, read_files, read_rows
from training.wsi_bench.slides import divide
from training.wsi_bench.summary import Summary

ROOT = Path(__file__).resolve().parents[3]
NAMES = [f"TCGA-AA-{i // 2:04d}-01Z-00-DX{i % 2 + 1}.8288ca92-b611" for i in range(20)]
"""Two slides of each of ten patients."""
ASK = "What is the grade?"
ASK_REPORT = "What does the whole slide histopathology image depict, and what is the diagnosis?"
OPTIONS = " A) Well differentiated (Grade I) B) Moderate C) Poor D) None of these"


def talk(name: str, question: str, answer: str, number: int = 1) -> dict[str, Any]:
    """A conversation as published."""
    return {
        "id": f"{name}-{number}",
        "image": f"TCGA-LUSC/{name}.pt",
        "conversations": [
            {"from": "human", "value": f"<image>\n{question}"},
            {"from": "gpt", "value": answer},
        ],
    }


def asked(name: str, question: str = ASK, task: str = "Grade") -> dict[str, str]:
    """An open test question as published."""
    return {
        "question_id": f"{task}_{name}-1_1",
        "image": f"TCGA-LUSC/{name}.pt",
        "question": question,
        "T-answer": "Grade 2.",
        "metadata": task,
    }


def write_rows(path: Path, rows: list[Any]) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    if path.suffix == ".jsonl":
        path.write_text("\n".join(lines), "utf-8")
    else:
        path.write_text("[" + ",\n".join(lines) + "]", "utf-8")
    return path


def write_tokens(folder: Path, names: list[str]) -> None:
    """Released slide tokens; all slides share one file's content."""
    folder.mkdir(parents=True)
    torch.save(torch.zeros(576, 1024, dtype=torch.float16), folder / f"{names[0]}.pt")
    for name in names[1:]:
        os.link(folder / f"{names[0]}.pt", folder / f"{name}.pt")


@pytest.fixture
def wanted(tmp_path: Path) -> WsiBenchRequest:
    """16 slides to train on; 6 test slides, of which 2 are among them."""
    train = [talk(name, ASK, f"Grade {i}.", 4) for i, name in enumerate(NAMES[:16])]
    train += [talk(name, ASK + OPTIONS, "B", 5) for name in NAMES[:16]]
    reports = [talk(name, ASK_REPORT, f"Report of {name}.") for name in NAMES[:18]]
    chosen = [talk(name, ASK + OPTIONS, "C") for name in NAMES[14:]]
    write_tokens(tmp_path / "pt" / "TCGA-LUSC", NAMES)
    return WsiBenchRequest(
        train=[write_rows(tmp_path / "Grading_train.json", train)],
        reports=[write_rows(tmp_path / "Report_train.json", reports)],
        test=[
            write_rows(tmp_path / "Diagnosis_choice_test.json", chosen),
            write_rows(tmp_path / "WSI-Bench-test.jsonl", [asked(name) for name in NAMES[14:]]),
        ],
        features=tmp_path / "pt",
        out=tmp_path / "cohort",
        val_share=0.2,
    )


def told(wanted: WsiBenchRequest) -> str:
    return "\n".join(make_cohort(wanted).lines())


def only(wanted: WsiBenchRequest, folder: Path) -> None:
    """Nothing was written beside the sources."""
    assert not wanted.out.exists()
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


# --- the cohort that comes out ----------------------------------------------------------------------------


def test_a_cohort_has_everything_that_training_reads(wanted: WsiBenchRequest) -> None:
    summary = make_cohort(wanted)
    cohort = load_training_cohort(wanted.out)
    assert (len(cohort.train), len(cohort.val)) == (summary.train, summary.val) == (10, 4)
    assert sorted((*cohort.train, *cohort.val)) == NAMES[:14]
    assert cohort.reports[NAMES[3]] == f"Report of {NAMES[3]}."
    graded, chosen = cohort.turns[NAMES[3]]
    assert (graded.question, graded.answer, chosen.answer) == (ASK, "Grade 3.", "B")
    assert all(torch.load(path, weights_only=True).shape == (576, 1024) for path in cohort.tokens.values())
    assert {question.slide for question in cohort.closed_questions("val")} == set(cohort.val)
    assert (
        cohort.closed_questions("val")[0].options[1] == cohort.closed_questions("val")[0].answer == "Moderate"
    )
    assert cohort.closed_questions("train") == []


def test_splits_share_no_slide_and_no_patient(wanted: WsiBenchRequest) -> None:
    make_cohort(wanted)
    split = json.loads((wanted.out / "split.json").read_text())
    patients = [{tcga_patient(name) for name in split[part]} for part in ("train", "val", "test")]
    assert not patients[0] & patients[1]
    assert not (patients[0] | patients[1]) & patients[2]
    assert split["test"] == NAMES[14:]


def test_the_evaluation_reads_the_questions(wanted: WsiBenchRequest) -> None:
    from eval.benchmarks.multipathqa import load_multipathqa

    make_cohort(wanted)
    questions = load_multipathqa(wanted.out / "questions.csv").questions
    tested = [question for question in questions if question.benchmark == "wsi_bench_diagnosis"]
    assert [question.slide for question in tested] == [f"{name}.pt" for name in NAMES[14:]]
    assert tested[0].options == ("Well differentiated (Grade I)", "Moderate", "Poor", "None of these")
    assert (tested[0].question, tested[0].answer, tested[0].id) == (ASK, "Poor", f"{NAMES[14]}-1")
    assert {question.benchmark for question in questions} == {"wsi_bench_diagnosis", "wsi_bench_grading_val"}


def test_what_was_left_out_is_told_and_kept_in_the_summary(wanted: WsiBenchRequest) -> None:
    words = told(wanted)
    assert "2 of 6 test slides also occur in the training files" in words
    assert f"left out 2 slides that are test slides ({NAMES[14]}; {NAMES[15]})" in words
    assert "14 of 16 slides of the training files: 10 train, 4 val (no patient in both, seed 0)" in words
    assert "28 conversations, 4 more about slides left out; 14 reports, 4 more about other slides" in words
    assert "questions.csv: 4 about val, 6 about test slides; 6 open test questions" in words
    assert "links to tokens of 20 slides" in words
    kept = Summary.model_validate_json((wanted.out / "summary.json").read_text())
    assert kept.left_out == {"that are test slides": tuple(NAMES[14:16])}
    assert "\n".join(kept.lines()) == words


def test_another_slide_of_a_test_patient_is_left_out_unless_slides_are_what_counts(
    wanted: WsiBenchRequest,
) -> None:
    write_rows(wanted.test[0], [talk(NAMES[0], ASK + OPTIONS, "C")])
    assert f"left out 1 slide of test patients ({NAMES[1]})" in told(replace(wanted, test=wanted.test[:1]))
    words = told(
        replace(wanted, test=wanted.test[:1], by_patient=False, out=wanted.out.with_name("by_slide"))
    )
    assert "of test patients" not in words
    assert "15 of 16 slides" in words


def test_training_on_test_slides_must_be_asked_for_and_is_told(wanted: WsiBenchRequest) -> None:
    words = told(replace(wanted, keep_overlap=True))
    assert "16 of 16 slides" in words
    assert "these are trained on" in words


def test_the_seed_decides_who_is_held_back(wanted: WsiBenchRequest) -> None:
    val = []
    for i, seed in enumerate([0, 0, 1, 2]):
        out = wanted.out.with_name(f"cohort{i}")
        make_cohort(replace(wanted, seed=seed, out=out))
        val.append(load_training_cohort(out).val)
    assert val[0] == val[1]
    assert len(set(val)) > 1


@given(
    slides=st.sets(st.sampled_from(NAMES), min_size=3),
    share=st.floats(0.01, 0.99),
    seed=st.integers(0, 99),
    by_patient=st.booleans(),
)
def test_every_slide_is_in_one_part_and_patients_stay_together(
    slides: set[str], share: float, seed: int, by_patient: bool
) -> None:
    try:
        train, val = divide(sorted(slides), share, seed, by_patient)
    except CohortError:
        assert share > 0.5 or len({tcga_patient(name) for name in slides}) < 2
        return
    assert sorted([*train, *val]) == sorted(slides)
    assert train
    assert round(share * len(slides)) <= len(val) <= max(1, round(share * len(slides))) + by_patient
    if by_patient:
        assert not {tcga_patient(name) for name in train} & {tcga_patient(name) for name in val}
    assert divide(sorted(slides, reverse=True), share, seed, by_patient) == (train, val)


# --- features ---------------------------------------------------------------------------------------------


def write_h5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["features"], file["coords"] = np.ones((3, 1536), np.float32), np.arange(6).reshape(3, 2)
        file["coords"].attrs.update({"patch_size_level0": 512, "level0_magnification": 40})


def test_tile_features_serve_as_well(wanted: WsiBenchRequest, tmp_path: Path) -> None:
    (tmp_path / "features_gigapath").mkdir()
    for name in NAMES:
        write_h5(tmp_path / "features_gigapath" / f"{name}.h5")
    assert "links to features of 20" in told(replace(wanted, features=tmp_path / "features_gigapath"))
    cohort = load_training_cohort(wanted.out)
    assert set(cohort.features) == set(NAMES[:14])
    assert not cohort.tokens


def test_missing_features_are_named_with_their_count(wanted: WsiBenchRequest, tmp_path: Path) -> None:
    for name in NAMES[:8]:
        (wanted.features / "TCGA-LUSC" / f"{name}.pt").unlink()
    gone = wanted.features / "TCGA-LUSC" / f"{NAMES[19]}.pt"
    gone.unlink()
    gone.touch()  # an empty file is none
    listed = r"; ".join(NAMES[:5]) + " and 3 more"
    with pytest.raises(CohortError) as caught:
        make_cohort(wanted)
    assert f"8 slides without .pt file ({listed})" in str(caught.value)
    assert f"1 slide of the test files without .pt file ({NAMES[19]})" in str(caught.value)
    assert "--allow-missing" in str(caught.value)
    only(wanted, tmp_path)
    words = told(replace(wanted, allow_missing=True))
    assert f"left out 8 slides without .pt file ({listed})" in words
    assert "6 of 16 slides" in words
    assert "5 about test slides" in words


def test_missing_reports_are_named_with_their_count(wanted: WsiBenchRequest) -> None:
    write_rows(wanted.reports[0], [talk(name, ASK_REPORT, "Report.") for name in NAMES[2:]])
    with pytest.raises(CohortError, match=rf"2 slides without a report \({NAMES[0]}; {NAMES[1]}\)"):
        make_cohort(wanted)
    assert "12 of 16 slides" in told(replace(wanted, allow_missing=True))


def test_a_cohort_has_one_kind_of_features_for_all_its_slides(wanted: WsiBenchRequest) -> None:
    write_h5(wanted.features / f"{NAMES[4]}.h5")
    with pytest.raises(CohortError, match=r"13 slides without \.pt and \.h5 file"):
        make_cohort(wanted)


def test_two_files_of_one_slide_are_an_error(wanted: WsiBenchRequest) -> None:
    first = wanted.features / "TCGA-LUSC" / f"{NAMES[4]}.pt"
    os.link(first, wanted.features / first.name)
    with pytest.raises(CohortError, match="of the same slide"):
        make_cohort(wanted)


def test_a_folder_of_something_else_is_known_at_once(wanted: WsiBenchRequest, tmp_path: Path) -> None:
    with pytest.raises(CohortError, match=r"holds no \.pt or \.h5 file of any of 20 slides"):
        make_cohort(replace(wanted, features=wanted.features.parent / "pt" / ".."))
    with pytest.raises(CohortError, match="is no folder"):
        make_cohort(replace(wanted, features=tmp_path / "nowhere"))
    first = wanted.features / "TCGA-LUSC" / f"{NAMES[0]}.pt"
    first.unlink()
    torch.save(torch.ones(40, 1536), first)
    with pytest.raises(FeatureStoreError, match=r"shape \(40, 1536\) where \(576, 1024\)"):
        make_cohort(wanted)


# --- rows ---------------------------------------------------------------------------------------------------


def changed(**changes: Any) -> dict[str, Any]:
    row = talk(NAMES[0], ASK, "Grade 2.")
    return {key: value for key, value in (row | changes).items() if value is not ...}


def said(*messages: tuple[str, Any]) -> dict[str, Any]:
    return changed(conversations=[{"from": who, "value": words} for who, words in messages])


BAD_ROWS = [
    (["a", "list"], "no object but a list"),
    (changed(id=...), "id is missing"),
    (changed(id=7), "id is empty or no text"),
    (changed(id=" "), "id is empty or no text"),
    (changed(image=...), "image is missing"),
    (changed(image="TCGA-LUSC/"), "image 'TCGA-LUSC/' is no name of a slide's file"),
    (changed(image="TCGA-LUSC/.pt"), "image 'TCGA-LUSC/.pt' is no name of a slide's file"),
    (changed(image="TCGA-21-1083.json"), "is no name of a slide's file"),
    (changed(image="a\nb.pt"), "is no name of a slide's file"),
    (changed(conversations=...), "it has no 'conversations', only id, image"),
    (changed(conversations=[]), "no list of questions with their answers"),
    (changed(conversations="x"), "no list of questions with their answers"),
    (said(("human", "<image>\nq")), "no list of questions with their answers"),
    (said(("gpt", "<image>\nq"), ("human", "a")), "message 1 is from 'gpt', not from 'human'"),
    (said(("human", "<image>\nq"), ("human", "a")), "message 2 is from 'human', not from 'gpt'"),
    (changed(conversations=["q", "a"]), "message 1 is from 'q', not from 'human'"),
    (said(("human", "<image>\nq"), ("gpt", " ")), "value is empty or no text"),
    (said(("human", "<image>\nq"), ("gpt", None)), "value is empty or no text"),
    (said(("human", "<image>\n "), ("gpt", "a")), "the first question is empty"),
    (said(("human", "q"), ("gpt", "a")), "does not begin with <image> and a line break"),
    (said(("human", "q\n<image>"), ("gpt", "a")), "does not begin with <image>"),
    (said(("human", "<image>\n<image>\nq"), ("gpt", "a")), "<image> stands in it more than once"),
    (said(("human", "<image>\nq"), ("gpt", "<image>")), "<image> stands in it more than once"),
    (
        said(("human", "<image>\nq"), ("gpt", "a"), ("human", "<image>\nq"), ("gpt", "a")),
        "<image> stands in it more than once",
    ),
    (said(("human", "<image>\nq"), ("gpt", "\ud800")), "surrogates not allowed"),
    (asked(NAMES[0]), "it has no 'conversations', only question_id, image"),
]


@pytest.mark.parametrize(("row", "reason"), BAD_ROWS)
def test_a_malformed_row_is_named_with_the_reason(wanted: WsiBenchRequest, row: Any, reason: str) -> None:
    good = json.loads(wanted.train[0].read_text())
    write_rows(wanted.train[0], [*good, row])
    with pytest.raises(CohortError) as caught:
        make_cohort(wanted)
    assert "1 malformed row (Grading_train.json row 33: " in str(caught.value)
    assert reason in str(caught.value)
    assert "--skip-malformed" in str(caught.value)
    assert "left out 1 malformed row (Grading_train.json row 33: " in told(
        replace(wanted, skip_malformed=True)
    )


def without(key: str) -> dict[str, str]:
    return {name: value for name, value in asked(NAMES[0]).items() if name != key}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("{", "no JSON"),
        (without("question_id"), "it has no 'conversations' or 'question_id'"),
        (without("image"), "image is missing"),
        (without("question"), "question is missing"),
        (without("T-answer"), "T-answer is missing"),
        (without("metadata"), "metadata is missing"),
        (asked(NAMES[0], "<image>\nwhat?"), "<image> stands in its text"),
    ],
)
def test_a_malformed_test_row_is_named_by_its_line(wanted: WsiBenchRequest, row: Any, reason: str) -> None:
    write_rows(wanted.test[1], [asked(NAMES[18]), "", row, asked(NAMES[19])])
    with pytest.raises(CohortError) as caught:
        make_cohort(wanted)
    assert f"(WSI-Bench-test.jsonl row 3: {reason}" in str(caught.value)


def test_all_malformed_rows_are_told_at_once_and_counted(wanted: WsiBenchRequest, tmp_path: Path) -> None:
    write_rows(wanted.train[0], [{"id": i} for i in range(4)])
    write_rows(wanted.test[0], [{"id": i} for i in range(4)])
    with pytest.raises(CohortError) as caught:
        make_cohort(wanted)
    assert "8 malformed rows (Grading_train.json row 1: " in str(caught.value)
    assert "Diagnosis_choice_test.json row 1: " in str(caught.value)
    assert "and 3 more" in str(caught.value)
    assert "\n" not in str(caught.value)
    only(wanted, tmp_path)


def test_skipped_rows_are_all_in_the_summary(wanted: WsiBenchRequest) -> None:
    good = json.loads(wanted.train[0].read_text())
    write_rows(wanted.train[0], [*({"id": i} for i in range(7)), *good])
    words = told(replace(wanted, skip_malformed=True))
    assert "train Grading_train.json: 32 rows, 7 malformed, 0 ids repeated" in words
    assert "left out 7 malformed rows (Grading_train.json row 1: it has no 'conversations', only id;" in words
    kept = Summary.model_validate_json((wanted.out / "summary.json").read_text())
    assert len(kept.malformed) == 7


@pytest.mark.parametrize(
    ("text", "reason"),
    [("{}", "no list of rows but a dict"), ('[{"id": 1}', "is no JSON"), ("", "is no JSON"), (None, "read")],
)
def test_a_file_that_is_no_list_of_rows_is_named(
    wanted: WsiBenchRequest, text: str | None, reason: str
) -> None:
    wanted.train[0].unlink() if text is None else wanted.train[0].write_text(text)
    with pytest.raises(CohortError, match=rf"Grading_train\.json: .*{reason}"):
        make_cohort(wanted)


def test_repeated_ids_and_conversations_are_counted_and_kept(wanted: WsiBenchRequest) -> None:
    rows = json.loads(wanted.train[0].read_text())
    write_rows(wanted.train[0], [*rows, rows[0], talk(NAMES[0], "Other?", "Yes.", 4)])
    words = told(wanted)
    assert "train Grading_train.json: 34 rows, 0 malformed, 2 ids repeated" in words
    assert "conversations that repeat an earlier one, kept: 1" in words
    assert len(load_training_cohort(wanted.out).turns[NAMES[0]]) == 4


def test_several_turns_stay_one_conversation(wanted: WsiBenchRequest) -> None:
    row = said(("human", "<image>\nq1"), ("gpt", "a1"), ("human", "q2\u2028more"), ("gpt", "a2"))
    write_rows(wanted.train[0], [*json.loads(wanted.train[0].read_text()), row])
    make_cohort(wanted)
    assert row in json.loads((wanted.out / "instructions.json").read_text())
    assert load_training_cohort(wanted.out).turns[NAMES[0]][-1] == Turn("q2\u2028more", "a2")


def test_reports_come_in_three_forms_and_other_rows_are_passed_over(
    wanted: WsiBenchRequest, tmp_path: Path
) -> None:
    mixed = [*(talk(name, ASK, "No.") for name in NAMES), talk(NAMES[0], ASK_REPORT, "r0")]
    ours = [{"slide": name, "report": f"r\u2028{i}"} for i, name in enumerate(NAMES) if i > 1]
    reports = [
        write_rows(tmp_path / "all.json", mixed),
        write_rows(tmp_path / "open.jsonl", [asked(NAMES[1], "Any words", "Report"), asked(NAMES[2])]),
        write_rows(tmp_path / "ours.jsonl", ours),
    ]
    make_cohort(replace(wanted, reports=reports))
    found = load_training_cohort(wanted.out).reports
    assert [found[name] for name in NAMES[:3]] == ["r0", "Grade 2.", "r\u20282"]


def test_of_several_reports_the_first_is_taken_and_it_is_told(wanted: WsiBenchRequest) -> None:
    rows = json.loads(wanted.reports[0].read_text())
    write_rows(wanted.reports[0], [*rows, rows[1], talk(NAMES[0], ASK_REPORT, "Another.", 2)])
    assert f"took the first of 1 slide with several reports ({NAMES[0]})" in told(wanted)
    assert load_training_cohort(wanted.out).reports[NAMES[0]] == f"Report of {NAMES[0]}."


# --- choice questions ---------------------------------------------------------------------------------------


def choice(question: str, answer: str) -> Row:
    return Row(Path("T_choice_test.json"), 1, "id", "x.pt", (Turn(question, answer),), "T_choice")


@pytest.mark.parametrize(
    ("text", "question", "options"),
    [
        ("Which? A) one B) two", "Which?", ("one", "two")),
        ("Which? A) I (Grade I) B) a) b) C)three D) 4", "Which?", ("I (Grade I)", "a) b)", "three", "4")),
        ("Which?\nA) one\nof two\nB) two", "Which?", ("one of two", "two")),
        ("What of vitamin A) here?", "What of vitamin A) here?", ()),
        ("Which? A) one C) three", "Which? A) one C) three", ()),
        ("Open?", "Open?", ()),
        ("(A) or (B)?", "(A) or (B)?", ()),
    ],
)
def test_options_are_read_from_the_question(text: str, question: str, options: tuple[str, ...]) -> None:
    assert split_options(text) == (question, options)


def test_yes_and_no_are_options_too() -> None:
    (found,), unusable, opened = choice_questions([choice("Is the prognosis poor?", "No")])
    assert (found.options, found.answer) == (("Yes", "No"), 2)
    assert (unusable, opened) == ([], 0)


@pytest.mark.parametrize(
    ("question", "answer", "reason"),
    [
        ("Which? A) one B) two", 'B "', "the answer 'B \"' is none of A, B"),
        ("Which? A) one B) two", "C", "the answer 'C' is none of A, B"),
        ("Which? A) one B) one", "A", "an option is empty or given twice"),
        ("Which? A) B) two", "A", "an option is empty or given twice"),
        ("A) one B) two", "A", "no question before the options"),
    ],
)
def test_a_choice_that_cannot_be_put_is_named(question: str, answer: str, reason: str) -> None:
    found, unusable, opened = choice_questions([choice(question, answer)])
    assert (found, opened) == ([], 0)
    assert unusable == [f"T_choice_test.json row 1: {reason}"]


def test_ids_given_twice_stay_apart(wanted: WsiBenchRequest) -> None:
    from eval.benchmarks.multipathqa import load_multipathqa

    row = talk(NAMES[18], ASK + OPTIONS, "C")
    write_rows(wanted.test[0], [row, row, talk(NAMES[19], ASK + OPTIONS, "A) Well")])
    assert "not in questions.csv: 1 question (Diagnosis_choice_test.json row 3: the answer" in told(wanted)
    questions = load_multipathqa(wanted.out / "questions.csv").questions
    ids = [q.id for q in questions if "diagnosis" in q.benchmark]
    assert ids == [row["id"], f"{row['id']} (row 2)"]


# --- the folder ---------------------------------------------------------------------------------------------


def test_a_folder_in_the_way_is_not_touched(wanted: WsiBenchRequest) -> None:
    wanted.out.mkdir()
    (wanted.out / "mine").touch()
    with pytest.raises(CohortError, match="is there already"):
        make_cohort(wanted)
    assert [path.name for path in wanted.out.iterdir()] == ["mine"]


def test_a_writer_that_fails_leaves_nothing_behind(
    wanted: WsiBenchRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("training.wsi_bench.cohort.flush", full)
    with pytest.raises(CohortError, match=r"cannot be written .*No space left"):
        make_cohort(wanted)
    only(wanted, tmp_path)


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, float("nan")])
def test_a_share_that_is_none_is_a_usage_error(wanted: WsiBenchRequest, share: float) -> None:
    with pytest.raises(UsageError, match="between 0 and 1"):
        make_cohort(replace(wanted, val_share=share))


def test_too_few_slides_cannot_be_divided(wanted: WsiBenchRequest) -> None:
    write_rows(wanted.train[0], [talk(name, ASK, "1") for name in NAMES[:2]])
    with pytest.raises(CohortError, match="2 slides of 1 patients cannot be divided"):
        make_cohort(wanted)


def test_the_command_prints_the_summary_and_the_folder(wanted: WsiBenchRequest) -> None:
    app = typer.Typer()
    app.command()(wsi_bench)
    words = ["--train", *wanted.train, "--reports", *wanted.reports, "--features", wanted.features]
    words += ["--out", wanted.out, "--test", wanted.test[0], "--test", wanted.test[1], "--val-share", 0.2]
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    assert "2 of 6 test slides also occur in the training files: TCGA-" in done.output
    assert done.output.replace("\n", "").endswith(str(wanted.out))
    assert isinstance(CliRunner().invoke(app, [str(word) for word in words]).exception, CohortError)


def test_the_command_loads_nothing_heavy_before_it_runs() -> None:
    code = (
        "import sys, training.wsi_bench.cli; "
        "heavy = {'torch', 'numpy', 'h5py', 'pydantic'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


# --- the published files ------------------------------------------------------------------------------------


@pytest.fixture
def published(shared: Path) -> Path:
    return shared / "data/qa/wsi-bench"


def test_every_published_row_is_read_and_comes_out_as_it_went_in(published: Path) -> None:
    counts = {}
    for path in sorted(published.glob("*.json*")):
        rows, malformed = read_rows(path, ["conversation", "question"])
        assert malformed == []
        counts[path.name] = len(rows)
        if path.suffix == ".json":
            assert [row.conversation() for row in rows] == json.loads(path.read_text("utf-8"))
    assert counts == {
        "1_Report_test.json": 208,
        "Diagnosis_choice_test.json": 413,
        "Grading_test.json": 128,
        "Grading_train.json": 5552,
        "Morphology_choice_test.json": 682,
        "Staging_choice_test.json": 145,
        "WSI-Bench-Report-only.jsonl": 208,
        "WSI-Bench-test.jsonl": 2838,
    }


def test_published_reports_are_told_by_their_questions(published: Path) -> None:
    rows, _ = read_rows(published / "WSI-Bench-test.jsonl", ["question"])
    unnamed = [replace(row, task="?") for row in rows]
    assert [row.is_report for row in unnamed] == [row.task == "Report" for row in rows]
    asked, _ = read_rows(published / "1_Report_test.json", ["conversation"])
    others, _ = read_rows(published / "Grading_train.json", ["conversation"])
    assert all(row.is_report for row in asked)
    assert not any(row.is_report for row in others)


def test_published_choices_are_parsed_but_for_one_answer(published: Path) -> None:
    rows = read_files([], sorted(published.glob("*_choice_test.json")), []).test
    found, unusable, opened = choice_questions(rows)
    assert (len(found), opened) == (1239, 0)
    assert unusable == ["Morphology_choice_test.json row 579: the answer 'B \"' is none of A, B, C, D"]
    assert all(len(choice.options) == 4 for choice in found)


def test_the_published_files_make_a_cohort(published: Path, tmp_path: Path) -> None:
    """With tokens for its slides; the reports published here are those of the test slides."""
    train, _ = read_rows(published / "Grading_train.json", ["conversation"])
    reports = [{"slide": row.slide, "report": row.turns[0].answer} for row in train]
    tests = [published / "Diagnosis_choice_test.json", published / "WSI-Bench-test.jsonl"]
    slides = {row.slide for row in read_files([], tests, []).test} | {row.slide for row in train}
    write_tokens(tmp_path / "tokens", sorted(slides))
    wanted = WsiBenchRequest(
        train=[published / "Grading_train.json"],
        reports=[write_rows(tmp_path / "reports.jsonl", reports)],
        test=tests,
        features=tmp_path / "tokens",
        out=tmp_path / "cohort",
    )
    words = told(wanted)
    assert "test slides also occur in the training files: TCGA-" in words
    cohort = load_training_cohort(wanted.out)
    with (wanted.out / "questions.csv").open(newline="", encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == 413
    assert not {*cohort.train, *cohort.val} & {row.slide for row in read_files([], tests, []).test}
