"""Rows of WSI-Bench's files are read as published, or named with the reason why not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from wsi_bench_files import (
    ASK,
    ASK_REPORT,
    NAMES,
    OPTIONS,
    assert_nothing_written,
    open_question,
    summary_words,
    talk,
    write_rows,
)

from core_model.errors import CohortError
from core_model.language.conversation import Turn
from core_model.words import split_options
from training.cohort.cohort import load_training_cohort
from training.wsi_bench.choices import choice_questions
from training.wsi_bench.cohort import WsiBenchRequest, make_cohort
from training.wsi_bench.rows import Row, read_files, read_rows
from training.wsi_bench.summary import Summary


def row_with(**changes: Any) -> dict[str, Any]:
    row = talk(NAMES[0], ASK, "Grade 2.")
    return {key: value for key, value in (row | changes).items() if value is not ...}


def row_of_messages(*messages: tuple[str, Any]) -> dict[str, Any]:
    return row_with(conversations=[{"from": who, "value": words} for who, words in messages])


BAD_ROWS = [
    (["a", "list"], "no object but a list"),
    (row_with(id=...), "id is missing"),
    (row_with(id=7), "id is empty or no text"),
    (row_with(id=" "), "id is empty or no text"),
    (row_with(image=...), "image is missing"),
    (row_with(image="TCGA-LUSC/"), "image 'TCGA-LUSC/' is no name of a slide's file"),
    (row_with(image="TCGA-LUSC/.pt"), "image 'TCGA-LUSC/.pt' is no name of a slide's file"),
    (row_with(image="TCGA-21-1083.json"), "is no name of a slide's file"),
    (row_with(image="a\nb.pt"), "is no name of a slide's file"),
    (row_with(conversations=...), "it has no 'conversations', only id, image"),
    (row_with(conversations=[]), "no list of questions with their answers"),
    (row_with(conversations="x"), "no list of questions with their answers"),
    (row_of_messages(("human", "<image>\nq")), "no list of questions with their answers"),
    (row_of_messages(("gpt", "<image>\nq"), ("human", "a")), "message 1 is from 'gpt', not from 'human'"),
    (row_of_messages(("human", "<image>\nq"), ("human", "a")), "message 2 is from 'human', not from 'gpt'"),
    (row_with(conversations=["q", "a"]), "message 1 is from 'q', not from 'human'"),
    (row_of_messages(("human", "<image>\nq"), ("gpt", " ")), "value is empty or no text"),
    (row_of_messages(("human", "<image>\nq"), ("gpt", None)), "value is empty or no text"),
    (row_of_messages(("human", "<image>\n "), ("gpt", "a")), "the first question is empty"),
    (row_of_messages(("human", "q"), ("gpt", "a")), "does not begin with <image> and a line break"),
    (row_of_messages(("human", "q\n<image>"), ("gpt", "a")), "does not begin with <image>"),
    (row_of_messages(("human", "<image>\n<image>\nq"), ("gpt", "a")), "<image> stands in it more than once"),
    (row_of_messages(("human", "<image>\nq"), ("gpt", "<image>")), "<image> stands in it more than once"),
    (
        row_of_messages(("human", "<image>\nq"), ("gpt", "a"), ("human", "<image>\nq"), ("gpt", "a")),
        "<image> stands in it more than once",
    ),
    (row_of_messages(("human", "<image>\nq"), ("gpt", "\ud800")), "surrogates not allowed"),
    (open_question(NAMES[0]), "it has no 'conversations', only question_id, image"),
]


@pytest.mark.parametrize(("row", "reason"), BAD_ROWS)
def test_a_malformed_row_is_named_with_the_reason(
    cohort_request: WsiBenchRequest, row: Any, reason: str
) -> None:
    good = json.loads(cohort_request.train[0].read_text())
    write_rows(cohort_request.train[0], [*good, row])
    with pytest.raises(CohortError) as error:
        make_cohort(cohort_request)
    assert "1 malformed row (Grading_train.json row 33: " in str(error.value)
    assert reason in str(error.value)
    assert "--skip-malformed" in str(error.value)
    assert "left out 1 malformed row (Grading_train.json row 33: " in summary_words(
        replace(cohort_request, skip_malformed=True)
    )


def without(key: str) -> dict[str, str]:
    return {name: value for name, value in open_question(NAMES[0]).items() if name != key}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("{", "no JSON"),
        (without("question_id"), "it has no 'conversations' or 'question_id'"),
        (without("image"), "image is missing"),
        (without("question"), "question is missing"),
        (without("T-answer"), "T-answer is missing"),
        (without("metadata"), "metadata is missing"),
        (open_question(NAMES[0], "<image>\nwhat?"), "<image> stands in its text"),
    ],
)
def test_a_malformed_test_row_is_named_by_its_line(
    cohort_request: WsiBenchRequest, row: Any, reason: str
) -> None:
    write_rows(cohort_request.test[1], [open_question(NAMES[18]), "", row, open_question(NAMES[19])])
    with pytest.raises(CohortError) as error:
        make_cohort(cohort_request)
    assert f"(WSI-Bench-test.jsonl row 3: {reason}" in str(error.value)


def test_all_malformed_rows_are_told_at_once_and_counted(
    cohort_request: WsiBenchRequest, tmp_path: Path
) -> None:
    write_rows(cohort_request.train[0], [{"id": i} for i in range(4)])
    write_rows(cohort_request.test[0], [{"id": i} for i in range(4)])
    with pytest.raises(CohortError) as error:
        make_cohort(cohort_request)
    assert "8 malformed rows (Grading_train.json row 1: " in str(error.value)
    assert "Diagnosis_choice_test.json row 1: " in str(error.value)
    assert "and 3 more" in str(error.value)
    assert "\n" not in str(error.value)
    assert_nothing_written(cohort_request, tmp_path)


def test_skipped_rows_are_all_in_the_summary(cohort_request: WsiBenchRequest) -> None:
    good = json.loads(cohort_request.train[0].read_text())
    write_rows(cohort_request.train[0], [*({"id": i} for i in range(7)), *good])
    words = summary_words(replace(cohort_request, skip_malformed=True))
    assert "train Grading_train.json: 32 rows, 7 malformed, 0 ids repeated" in words
    assert "left out 7 malformed rows (Grading_train.json row 1: it has no 'conversations', only id;" in words
    kept = Summary.model_validate_json((cohort_request.out / "summary.json").read_text())
    assert len(kept.malformed) == 7


@pytest.mark.parametrize(
    ("text", "reason"),
    [("{}", "no list of rows but a dict"), ('[{"id": 1}', "is no JSON"), ("", "is no JSON"), (None, "read")],
)
def test_a_file_that_is_no_list_of_rows_is_named(
    cohort_request: WsiBenchRequest, text: str | None, reason: str
) -> None:
    cohort_request.train[0].unlink() if text is None else cohort_request.train[0].write_text(text)
    with pytest.raises(CohortError, match=rf"Grading_train\.json: .*{reason}"):
        make_cohort(cohort_request)


def test_repeated_ids_and_conversations_are_counted_and_kept(cohort_request: WsiBenchRequest) -> None:
    rows = json.loads(cohort_request.train[0].read_text())
    write_rows(cohort_request.train[0], [*rows, rows[0], talk(NAMES[0], "Other?", "Yes.", 4)])
    words = summary_words(cohort_request)
    assert "train Grading_train.json: 34 rows, 0 malformed, 2 ids repeated" in words
    assert "conversations that repeat an earlier one, kept: 1" in words
    assert len(load_training_cohort(cohort_request.out).turns[NAMES[0]]) == 4


def test_several_turns_stay_one_conversation(cohort_request: WsiBenchRequest) -> None:
    row = row_of_messages(("human", "<image>\nq1"), ("gpt", "a1"), ("human", "q2\u2028more"), ("gpt", "a2"))
    write_rows(cohort_request.train[0], [*json.loads(cohort_request.train[0].read_text()), row])
    make_cohort(cohort_request)
    assert row in json.loads((cohort_request.out / "instructions.json").read_text())
    assert load_training_cohort(cohort_request.out).turns[NAMES[0]][-1] == Turn("q2\u2028more", "a2")


def test_reports_come_in_three_forms_and_other_rows_are_passed_over(
    cohort_request: WsiBenchRequest, tmp_path: Path
) -> None:
    mixed = [*(talk(name, ASK, "No.") for name in NAMES), talk(NAMES[0], ASK_REPORT, "r0")]
    ours = [{"slide": name, "report": f"r\u2028{i}"} for i, name in enumerate(NAMES) if i > 1]
    reports = [
        write_rows(tmp_path / "all.json", mixed),
        write_rows(
            tmp_path / "open.jsonl", [open_question(NAMES[1], "Any words", "Report"), open_question(NAMES[2])]
        ),
        write_rows(tmp_path / "ours.jsonl", ours),
    ]
    make_cohort(replace(cohort_request, reports=reports))
    found = load_training_cohort(cohort_request.out).reports
    assert [found[name] for name in NAMES[:3]] == ["r0", "Grade 2.", "r\u20282"]


def test_of_several_reports_the_first_is_taken_and_it_is_told(cohort_request: WsiBenchRequest) -> None:
    rows = json.loads(cohort_request.reports[0].read_text())
    write_rows(cohort_request.reports[0], [*rows, rows[1], talk(NAMES[0], ASK_REPORT, "Another.", 2)])
    assert f"took the first of 1 slide with several reports ({NAMES[0]})" in summary_words(cohort_request)
    assert load_training_cohort(cohort_request.out).reports[NAMES[0]] == f"Report of {NAMES[0]}."


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
        *(("Which? A) one B) two", said, f"the answer '{said}' is none of A, B") for said in ('B "', "C")),
        *(
            (f"Which? {options}", "A", "an option is empty or given twice")
            for options in ("A) one B) one", "A) B) two")
        ),
        ("A) one B) two", "A", "no question before the options"),
    ],
)
def test_a_choice_that_cannot_be_put_is_named(question: str, answer: str, reason: str) -> None:
    found, unusable, opened = choice_questions([choice(question, answer)])
    assert (found, opened) == ([], 0)
    assert unusable == [f"T_choice_test.json row 1: {reason}"]


def test_ids_given_twice_stay_apart(cohort_request: WsiBenchRequest) -> None:
    from eval.benchmarks.multipathqa import load_multipathqa

    row = talk(NAMES[18], ASK + OPTIONS, "C")
    write_rows(cohort_request.test[0], [row, row, talk(NAMES[19], ASK + OPTIONS, "A) Well")])
    assert "not in questions.csv: 1 question (Diagnosis_choice_test.json row 3: the answer" in summary_words(
        cohort_request
    )
    questions = load_multipathqa(cohort_request.out / "questions.csv").questions
    ids = [q.id for q in questions if "diagnosis" in q.benchmark]
    assert ids == [row["id"], f"{row['id']} (row 2)"]


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
