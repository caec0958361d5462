"""Slides are found under the names that downloads and conversions give them, and never guessed."""

from __future__ import annotations

from pathlib import Path

import pytest
from multi_files import write_dicom
from slide_files import stained

from core_model.errors import GiantError
from eval.asking.slides import SlideFolder

UUID, OTHER = "0a1b2c3d-0000-4000-8000-0123456789ab", "ffffffff-0000-4000-8000-0123456789ab"
TCGA = "TCGA-02-0266-01Z-00-DX1"


def folder(root: Path, *names: str) -> SlideFolder:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return SlideFolder(root)


@pytest.mark.parametrize(
    ("there", "asked"),
    [
        ("a.svs", "a.svs"),
        ("a.tiff", "a.svs"),
        ("A.TIFF", "a.svs"),
        ("a.dcm", "a.svs"),
        ("deep/er/a.svs", "a.svs"),
        ("deep/er/a.tiff", "TCGA-LUSC/a.pt"),
        ("deep/a.svs", "deep/a.svs"),
        (f"{TCGA}.{UUID}.svs", f"{TCGA}.svs"),
        (f"{TCGA.lower()}.{UUID}.tiff", f"{TCGA}.svs"),
        (f"{UUID}/{TCGA}.{UUID}.svs", f"{TCGA}.svs"),
        (f"{TCGA}.svs", f"{TCGA}.{UUID}.svs"),
        (f"{TCGA}.{UUID}.svs", f"{TCGA}.{UUID}.pt"),
        (f"{TCGA}/level0.dcm", f"{TCGA}.svs"),
        (f"x/{TCGA}.{UUID}/level0.dcm", f"{TCGA}.svs"),
        ("GTEX-1.2/1.dcm", "GTEX-1.2.tiff"),
    ],
)
def test_a_slide_is_found(tmp_path: Path, there: str, asked: str) -> None:
    assert folder(tmp_path, there, "b.svs", "notes.txt").find(asked) == tmp_path / there


@pytest.mark.parametrize(
    ("there", "asked"),
    [
        (f"{TCGA}.{OTHER}.svs", f"{TCGA}.{UUID}.svs"),
        ("TCGA-02-0266-01Z-00-DX2.svs", f"{TCGA}.svs"),
        ("a.b.svs", "a.svs"),
        ("ab.svs", "a.svs"),
        ("a.txt", "a.svs"),
        (".a.svs", "a.svs"),
        ("../a.svs", "a.svs"),
    ],
)
def test_another_slide_is_not_taken_for_it(tmp_path: Path, there: str, asked: str) -> None:
    root = tmp_path / "in"
    root.mkdir()
    with pytest.raises(GiantError, match=r"holds none of .* with another suffix"):
        folder(root, there).find(asked)


def test_a_dicom_slide_is_found_by_its_folder_whatever_its_files_are_called(tmp_path: Path) -> None:
    for number, suffix in enumerate((".dcm", "")):
        write_dicom(tmp_path / f"slide{number}", stained(256, 256), series=number + 1, suffix=suffix)
    found = SlideFolder(tmp_path)
    assert found.find("slide0.svs") == tmp_path / "slide0" / "IM1_0.dcm"
    assert found.find("slide1.svs") == tmp_path / "slide1" / "IM2_0"


def test_linked_folders_are_looked_through_and_loops_end(tmp_path: Path) -> None:
    store, cohort = tmp_path / "store", tmp_path / "cohort"
    folder(store, "deep/a.svs", "b.png")
    cohort.mkdir()
    (cohort / "linked").symlink_to(store)
    (store / "deep" / "loop").symlink_to(cohort)
    (cohort / "c.svs").symlink_to(tmp_path / "nowhere.svs")
    paths, missing = SlideFolder(cohort).find_all(["a.svs", "b.png", "c.svs"])
    assert set(paths) == {"a.svs", "b.png"}, "a picture that a benchmark names is its slide"
    assert [item.slide for item in missing] == ["c.svs"]


def test_of_two_suffixes_the_usual_one_and_of_two_places_none(tmp_path: Path) -> None:
    found = folder(
        tmp_path, "a.tiff", "a.svs", "one/b.svs", "two/b.svs", f"{TCGA}.{UUID}.svs", f"{TCGA}.{OTHER}.svs"
    )
    assert found.find("a.mrxs") == tmp_path / "a.svs"
    for name in ("b.svs", "b.tiff", f"{TCGA}.svs"):
        with pytest.raises(GiantError, match="more than once"):
            found.find(name)


def test_what_is_missing_is_listed_with_what_was_looked_for(tmp_path: Path) -> None:
    found, missing = folder(tmp_path, "a.svs").find_all(["a.svs", f"{TCGA}.svs", "a.svs"])
    assert found == {"a.svs": tmp_path / "a.svs"}
    (one,) = missing
    assert one.slide == f"{TCGA}.svs"
    assert f"{TCGA} with another suffix" in one.why
    assert f"{TCGA}.<uuid>" in one.why
    with pytest.raises(GiantError, match="--slides"):
        SlideFolder(tmp_path / "nowhere")
