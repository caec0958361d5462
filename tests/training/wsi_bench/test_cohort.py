"""WSI-Bench's files become a whole cohort, or what is wrong is named; nothing is dropped silently."""

from __future__ import annotations

import csv
import json
import os
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from wsi_bench_files import (
    ASK,
    ASK_REPORT,
    NAMES,
    OPTIONS,
    assert_nothing_written,
    summary_words,
    talk,
    write_rows,
    write_tokens,
)

from core_model.errors import CohortError, FeatureStoreError, UsageError
from training.cohort.cohort import load_training_cohort
from training.wsi_bench.cohort import WsiBenchRequest, make_cohort
from training.wsi_bench.overlap import tcga_patient
from training.wsi_bench.rows import read_files, read_rows
from training.wsi_bench.slides import divide
from training.wsi_bench.summary import Summary


def test_a_cohort_has_everything_that_training_reads(cohort_request: WsiBenchRequest) -> None:
    summary = make_cohort(cohort_request)
    cohort = load_training_cohort(cohort_request.out)
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


def test_splits_share_no_slide_and_no_patient(cohort_request: WsiBenchRequest) -> None:
    make_cohort(cohort_request)
    split = json.loads((cohort_request.out / "split.json").read_text())
    patients = [{tcga_patient(name) for name in split[part]} for part in ("train", "val", "test")]
    assert not patients[0] & patients[1]
    assert not (patients[0] | patients[1]) & patients[2]
    assert split["test"] == NAMES[14:]


def test_the_evaluation_reads_the_questions(cohort_request: WsiBenchRequest) -> None:
    from eval.benchmarks.multipathqa import load_multipathqa

    make_cohort(cohort_request)
    questions = load_multipathqa(cohort_request.out / "questions.csv").questions
    tested = [question for question in questions if question.benchmark == "wsi_bench_diagnosis"]
    assert [question.slide for question in tested] == [f"{name}.pt" for name in NAMES[14:]]
    assert tested[0].options == ("Well differentiated (Grade I)", "Moderate", "Poor", "None of these")
    assert (tested[0].question, tested[0].answer, tested[0].id) == (ASK, "Poor", f"{NAMES[14]}-1")
    assert {question.benchmark for question in questions} == {"wsi_bench_diagnosis", "wsi_bench_grading_val"}


def test_what_was_left_out_is_told_and_kept_in_the_summary(cohort_request: WsiBenchRequest) -> None:
    words = summary_words(cohort_request)
    assert "2 of 6 test slides also occur in the training files" in words
    assert f"left out 2 slides that are test slides ({NAMES[14]}; {NAMES[15]})" in words
    assert "14 of 16 slides of the training files: 10 train, 4 val (no patient in both, seed 0)" in words
    assert "28 conversations, 4 more about slides left out; 14 reports, 4 more about other slides" in words
    assert "questions.csv: 4 about val, 6 about test slides; 6 open test questions" in words
    assert "links to tokens of 20 slides" in words
    kept = Summary.model_validate_json((cohort_request.out / "summary.json").read_text())
    assert kept.left_out == {"that are test slides": tuple(NAMES[14:16])}
    assert "\n".join(kept.lines()) == words


def test_another_slide_of_a_test_patient_is_left_out_unless_slides_are_what_counts(
    cohort_request: WsiBenchRequest,
) -> None:
    write_rows(cohort_request.test[0], [talk(NAMES[0], ASK + OPTIONS, "C")])
    assert f"left out 1 slide of test patients ({NAMES[1]})" in summary_words(
        replace(cohort_request, test=cohort_request.test[:1])
    )
    words = summary_words(
        replace(
            cohort_request,
            test=cohort_request.test[:1],
            by_patient=False,
            out=cohort_request.out.with_name("by_slide"),
        )
    )
    assert "of test patients" not in words
    assert "15 of 16 slides" in words


def test_training_on_test_slides_must_be_asked_for_and_is_told(cohort_request: WsiBenchRequest) -> None:
    words = summary_words(replace(cohort_request, keep_overlap=True))
    assert "16 of 16 slides" in words
    assert "these are trained on" in words


def test_the_seed_decides_who_is_held_back(cohort_request: WsiBenchRequest) -> None:
    val = []
    for i, seed in enumerate([0, 0, 1, 2]):
        out = cohort_request.out.with_name(f"cohort{i}")
        make_cohort(replace(cohort_request, seed=seed, out=out))
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


def write_h5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["features"], file["coords"] = np.ones((3, 1536), np.float32), np.arange(6).reshape(3, 2)
        file["coords"].attrs.update({"patch_size_level0": 512, "level0_magnification": 40})


def test_tile_features_serve_as_well(cohort_request: WsiBenchRequest, tmp_path: Path) -> None:
    (tmp_path / "features_gigapath").mkdir()
    for name in NAMES:
        write_h5(tmp_path / "features_gigapath" / f"{name}.h5")
    assert "links to features of 20" in summary_words(
        replace(cohort_request, features=tmp_path / "features_gigapath")
    )
    cohort = load_training_cohort(cohort_request.out)
    assert set(cohort.features) == set(NAMES[:14])
    assert not cohort.tokens


def test_missing_features_are_named_with_their_count(cohort_request: WsiBenchRequest, tmp_path: Path) -> None:
    for name in NAMES[:8]:
        (cohort_request.features / "TCGA-LUSC" / f"{name}.pt").unlink()
    gone = cohort_request.features / "TCGA-LUSC" / f"{NAMES[19]}.pt"
    gone.unlink()
    gone.touch()  # an empty file is none
    listed = r"; ".join(NAMES[:5]) + " and 3 more"
    with pytest.raises(CohortError) as error:
        make_cohort(cohort_request)
    assert f"8 slides without .pt file ({listed})" in str(error.value)
    assert f"1 slide of the test files without .pt file ({NAMES[19]})" in str(error.value)
    assert "--allow-missing" in str(error.value)
    assert_nothing_written(cohort_request, tmp_path)
    words = summary_words(replace(cohort_request, allow_missing=True))
    assert f"left out 8 slides without .pt file ({listed})" in words
    assert "6 of 16 slides" in words
    assert "5 about test slides" in words


def test_missing_reports_are_named_with_their_count(cohort_request: WsiBenchRequest) -> None:
    write_rows(cohort_request.reports[0], [talk(name, ASK_REPORT, "Report.") for name in NAMES[2:]])
    with pytest.raises(CohortError, match=rf"2 slides without a report \({NAMES[0]}; {NAMES[1]}\)"):
        make_cohort(cohort_request)
    assert "12 of 16 slides" in summary_words(replace(cohort_request, allow_missing=True))


def test_a_cohort_has_one_kind_of_features_for_all_its_slides(cohort_request: WsiBenchRequest) -> None:
    write_h5(cohort_request.features / f"{NAMES[4]}.h5")
    with pytest.raises(CohortError, match=r"13 slides without \.pt and \.h5 file"):
        make_cohort(cohort_request)


def test_two_files_of_one_slide_are_an_error(cohort_request: WsiBenchRequest) -> None:
    first = cohort_request.features / "TCGA-LUSC" / f"{NAMES[4]}.pt"
    os.link(first, cohort_request.features / first.name)
    with pytest.raises(CohortError, match="of the same slide"):
        make_cohort(cohort_request)


def test_a_folder_of_something_else_is_known_at_once(cohort_request: WsiBenchRequest, tmp_path: Path) -> None:
    with pytest.raises(CohortError, match=r"holds no \.pt or \.h5 file of any of 20 slides"):
        make_cohort(replace(cohort_request, features=cohort_request.features.parent / "pt" / ".."))
    with pytest.raises(CohortError, match="is no folder"):
        make_cohort(replace(cohort_request, features=tmp_path / "nowhere"))
    first = cohort_request.features / "TCGA-LUSC" / f"{NAMES[0]}.pt"
    first.unlink()
    torch.save(torch.ones(40, 1536), first)
    with pytest.raises(FeatureStoreError, match=r"shape \(40, 1536\) where \(576, 1024\)"):
        make_cohort(cohort_request)


def test_a_folder_in_the_way_is_not_touched(cohort_request: WsiBenchRequest) -> None:
    cohort_request.out.mkdir()
    (cohort_request.out / "mine").touch()
    with pytest.raises(CohortError, match="is there already"):
        make_cohort(cohort_request)
    assert [path.name for path in cohort_request.out.iterdir()] == ["mine"]


def test_a_writer_that_fails_leaves_nothing_behind(
    cohort_request: WsiBenchRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("training.wsi_bench.cohort.flush", full)
    with pytest.raises(CohortError, match=r"cannot be written .*No space left"):
        make_cohort(cohort_request)
    assert_nothing_written(cohort_request, tmp_path)


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, float("nan")])
def test_a_share_that_is_none_is_a_usage_error(cohort_request: WsiBenchRequest, share: float) -> None:
    with pytest.raises(UsageError, match="between 0 and 1"):
        make_cohort(replace(cohort_request, val_share=share))


def test_too_few_slides_cannot_be_divided(cohort_request: WsiBenchRequest) -> None:
    write_rows(cohort_request.train[0], [talk(name, ASK, "1") for name in NAMES[:2]])
    with pytest.raises(CohortError, match="2 slides of 1 patients cannot be divided"):
        make_cohort(cohort_request)


def test_the_published_files_make_a_cohort(published: Path, tmp_path: Path) -> None:
    """With tokens for its slides; the reports published here are those of the test slides."""
    train, _ = read_rows(published / "Grading_train.json", ["conversation"])
    reports = [{"slide": row.slide, "report": row.turns[0].answer} for row in train]
    tests = [published / "Diagnosis_choice_test.json", published / "WSI-Bench-test.jsonl"]
    slides = {row.slide for row in read_files([], tests, []).test} | {row.slide for row in train}
    write_tokens(tmp_path / "tokens", sorted(slides))
    cohort_request = WsiBenchRequest(
        train=[published / "Grading_train.json"],
        reports=[write_rows(tmp_path / "reports.jsonl", reports)],
        test=tests,
        features=tmp_path / "tokens",
        out=tmp_path / "cohort",
    )
    words = summary_words(cohort_request)
    assert "test slides also occur in the training files: TCGA-" in words
    cohort = load_training_cohort(cohort_request.out)
    with (cohort_request.out / "questions.csv").open(newline="", encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == 413
    assert not {*cohort.train, *cohort.val} & {row.slide for row in read_files([], tests, []).test}
