"""How many test slides were trained on, by slide and by patient, counted and said in words."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.wsi_bench.overlap import find_overlap, tcga_patient
from training.wsi_bench.rows import read_files

SLIDES = st.lists(
    st.builds(
        "TCGA-{}-{}-01Z-00-DX{}".format,
        st.sampled_from(["AA", "B1"]),
        st.sampled_from(["0001", "A2B3", "ZZZZ"]),
        st.integers(1, 3),
    ),
    max_size=20,
)


@pytest.mark.parametrize(
    ("slide", "patient"),
    [
        ("TCGA-21-1083-01Z-00-DX1.8288ca92-b611-4acf-986e-0b8a3f620b94", "TCGA-21-1083"),
        ("tcga-gn-a4u3-06Z-00-DX1", "TCGA-GN-A4U3"),
        ("TCGA-21-1083", "TCGA-21-1083"),
        ("C3L-00001-21", "C3L-00001-21"),  # other cohorts name no patient that we know how to read
        ("TCGA-slide", "TCGA-slide"),
    ],
)
def test_a_patient_is_the_first_three_fields_of_a_barcode(slide: str, patient: str) -> None:
    assert tcga_patient(slide) == patient


def test_slides_and_patients_are_told_with_the_first_names() -> None:
    train = [f"TCGA-AA-000{i}-01Z-00-DX1" for i in range(9)]
    test = [*train[:5], "TCGA-AA-0007-01Z-00-DX2", "TCGA-BB-0000-01Z-00-DX1"]
    slides, patients = find_overlap(train, [*test, *test]).lines()
    assert slides == (
        "5 of 7 test slides also occur in the training files: TCGA-AA-0000-01Z-00-DX1,"
        " TCGA-AA-0001-01Z-00-DX1, TCGA-AA-0002-01Z-00-DX1 and 2 more"
    )
    assert patients == (
        "6 of 7 test patients also occur in the training files:"
        " TCGA-AA-0000, TCGA-AA-0001, TCGA-AA-0002 and 3 more"
    )


def test_no_overlap_is_said_too() -> None:
    assert find_overlap(["a"], [f"b{i}" for i in range(1200)]).lines() == [
        "no test slide of 1,200 occurs in the training files",
        "no test patient of 1,200 occurs in the training files",
    ]


@given(train=SLIDES, test=SLIDES)
def test_shared_slides_are_shared_by_patient_too(train: list[str], test: list[str]) -> None:
    found = find_overlap(train, test)
    assert set(found.slides) == set(train) & set(test)
    assert {tcga_patient(slide) for slide in found.slides} <= set(found.patients)
    assert len(found.slides) <= found.test_slides
    assert len(found.patients) <= found.test_patients <= found.test_slides


def test_the_published_files_share_slides(shared: Path) -> None:
    """The only training file beside all test files here: with the others of WSI-Bench it would be more."""
    folder = shared / "data/qa/wsi-bench"
    tests = sorted([*folder.glob("*_test.json"), *folder.glob("*.jsonl")])
    rows = read_files([folder / "Grading_train.json"], tests, [])
    assert len(tests) == 7
    slides, patients = find_overlap((r.slide for r in rows.train), (r.slide for r in rows.test)).lines()
    assert slides.startswith("326 of 806 test slides also occur in the training files: TCGA-")
    assert patients.startswith("320 of 789 test patients also occur in the training files: TCGA-")
