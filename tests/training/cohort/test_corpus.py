"""Texts of a cohort: which slides they come from, what they hold, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from core_model.errors import CohortError
from core_model.language.conversation import EOS, answer_spans
from training.cohort.corpus import (
    closed_reading,
    cohort_questions,
    cohort_readings,
    cohort_texts,
    random_boxes,
    slide_name,
    truth_document,
)
from training.phantom.truth import BoxTruth, PhantomTruth, Zone


def phantom(name: str, diagnosis: str, grade: int | None) -> PhantomTruth:
    """A small slide: glass around stroma, a tumour in one half where there is one."""
    zones = np.full((40, 40), Zone.STROMA, np.uint8)
    zones[:2] = Zone.GLASS
    if grade is not None:
        zones[5:35, 5:20] = Zone.TUMOUR
    return PhantomTruth(
        name=name,
        seed=0,
        index=0,
        width=1280,
        height=1280,
        mpp=0.5,
        cell_px=32,
        stain="plain",
        diagnosis=diagnosis,
        grade=grade,
        zones=zones,
        lymphocytes=np.ones((40, 40), np.uint8),
        mitoses=np.zeros((40, 40), np.uint8),
        mitosis_xy=np.zeros((0, 2), np.int32),
    )


def write_words(folder: Path, slides: dict[str, str]) -> Path:
    """The word files of a cohort: one report and two questions per slide, the last slide in val."""
    names = list(slides)
    folder.mkdir(exist_ok=True)
    (folder / "split.json").write_text(json.dumps({"train": names[:-1], "val": names[-1:]}))
    lines = [json.dumps({"slide": f"{name}.tiff", "report": text}) for name, text in slides.items()]
    (folder / "reports.jsonl").write_text("\n".join(lines) + "\n")
    rows = [
        {
            "id": f"{name}-{i}",
            "image": f"any/{name}.pt",
            "conversations": [
                {"from": "human", "value": f"<image>\nQuestion {i} on {name}?\nOptions: yes; no"},
                {"from": "gpt", "value": "yes"},
            ],
        }
        for name in names
        for i in range(2)
    ]
    (folder / "instructions.json").write_text(json.dumps(rows))
    return folder


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A cohort with words only."""
    return write_words(
        tmp_path / "foreign", {"TCGA-1.a-b": "First report.", "two": "Second.", "three": "Third."}
    )


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    """A cohort with truth maps."""
    folder = write_words(tmp_path / "cohort", {"one": "First report.", "two": "Second.", "three": "Third."})
    phantom("one", "adenocarcinoma", 2).save(folder)
    phantom("two", "benign tissue", None).save(folder)
    phantom("three", "papillary carcinoma", 1).save(folder)
    return folder


def test_a_foreign_cohort_gives_reports_and_its_questions_about_them(foreign: Path) -> None:
    texts = cohort_texts(foreign, "train")
    assert sorted(text for text in texts if "USER:" not in text) == [f"First report.{EOS}", f"Second.{EOS}"]
    reading = next(text for text in texts if text.startswith("USER: First report."))
    assert reading.count("USER:") == 2
    assert "Question 1 on TCGA-1.a-b?\nOptions: yes; no ASSISTANT: yes</s>" in reading
    assert "<image>" not in "".join(texts)


def test_texts_of_the_other_split_stay_out(foreign: Path, cohort: Path) -> None:
    for folder in (foreign, cohort):
        assert "Third" not in "".join(cohort_texts(folder, "train", per_slide=3))
        assert "Third" in "".join(cohort_texts(folder, "val", per_slide=3))
    assert "papillary" not in "".join(
        text for text in cohort_texts(cohort, "train", per_slide=6) if "Options" not in text
    )


def test_truth_maps_add_documents_that_the_seed_decides(cohort: Path) -> None:
    few, many = (cohort_texts(cohort, "train", per_slide=n) for n in (2, 12))
    assert len(many) - len(few) == 20
    assert cohort_texts(cohort, "train", per_slide=12) == many
    assert cohort_texts(cohort, "train", per_slide=12, seed=5) != many
    assert all(text.endswith(EOS) for text in many)


def test_reading_documents_answer_after_the_report() -> None:
    rng = np.random.default_rng(0)
    t = BoxTruth(1.0, 0.9, 0.5, 0.1, 700.0, 30.0, "adenocarcinoma", 2)
    texts = [truth_document(t, rng) for _ in range(40)]
    readings = [text for text in texts if text.startswith("USER:")]
    assert 20 < len(readings) < 40
    for text in readings:
        spans = answer_spans(text)
        assert 1 <= len(spans) <= 6
        assert all(text[a:b].endswith(EOS) for a, b in spans)
        assert "adenocarcinoma" in text[: spans[0][0]].lower()


def test_boxes_begin_with_the_slide_and_hold_tissue() -> None:
    truth = phantom("one", "adenocarcinoma", 2)
    found = list(random_boxes(truth, np.random.default_rng(1), 30))
    assert len(found) == 30
    assert found[0] == truth.describe()
    assert {t.diagnosis for t in found} == {"adenocarcinoma", "benign tissue"}
    assert min(t.tissue_share for t in found) >= 0.2
    assert min(t.area_mm2 for t in found) >= 0.012


def test_a_slide_of_glass_ends_the_search() -> None:
    truth = phantom("glass", "benign tissue", None)
    truth.zones[:] = Zone.GLASS
    assert len(list(random_boxes(truth, np.random.default_rng(1), 5))) == 1


def test_held_out_readings_are_closed_and_from_their_split(cohort: Path, foreign: Path) -> None:
    readings = cohort_readings(cohort, "val", per_slide=3)
    assert len(readings) == 3
    assert all(turn.options and turn.answer in turn.options for reading in readings for turn in reading.turns)
    assert "papillary carcinoma" in readings[0].context.lower()
    assert cohort_readings(foreign, "val") == []
    t = BoxTruth(1.0, 0.9, 0.5, 0.1, 700.0, 30.0, "adenocarcinoma", 2)
    assert len(closed_reading(t, np.random.default_rng(0)).turns) in (5, 6)


def test_cohort_questions_hold_questions_and_options_only(cohort: Path) -> None:
    texts = cohort_questions(cohort, "train", per_slide=4)
    assert len(texts) > 40
    assert any("small cell carcinoma" in text for text in texts)
    assert not any("ASSISTANT" in text or "First report" in text for text in texts)


@pytest.mark.parametrize("path", ["any/TCGA-1.a-b.pt", "TCGA-1.a-b.tiff", "TCGA-1.a-b"])
def test_slide_names_keep_their_dots(path: str) -> None:
    assert slide_name(path) == "TCGA-1.a-b"


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("split.json", "[]", "train"),
        ("split.json", "not json", "cannot be read"),
        ("reports.jsonl", '{"slide": "one"}', "reports"),
        *(
            ("instructions.json", text, "malformed")
            for text in ('[{"image": "one.pt", "conversations": [{"from": "gpt"}]}]', '{"image": 1}')
        ),
    ],
)
def test_malformed_files_are_named(foreign: Path, file: str, text: str, message: str) -> None:
    (foreign / file).write_text(text)
    with pytest.raises(CohortError, match=message) as caught:
        cohort_texts(foreign)
    assert file in str(caught.value)


def test_a_missing_file_is_named(foreign: Path) -> None:
    (foreign / "reports.jsonl").unlink()
    with pytest.raises(CohortError, match=r"reports\.jsonl"):
        cohort_texts(foreign)
