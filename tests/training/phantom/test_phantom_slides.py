"""Procedural slides: what is drawn is what the truth says, and the same seed draws the same slide."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import openslide
import pytest

from core_model.errors import BoxError, CohortError, UsageError
from training.phantom import cohort
from training.phantom.geojson import trace_outlines, write_geojson
from training.phantom.render import render_slide
from training.phantom.slide_writer import write_slide
from training.phantom.spec import SlideSpec, sample_spec
from training.phantom.truth import BENIGN, PhantomTruth, Zone


def small(seed: int, index: int, **changes: object) -> SlideSpec:
    spec = replace(sample_spec(seed, index), mpp=0.5, width=1024, height=960, form="resection", artefact=None)
    return replace(spec, **changes)


@pytest.fixture(scope="module")
def squamous() -> tuple[np.ndarray, PhantomTruth]:
    return render_slide(
        small(
            3, 1, diagnosis="squamous cell carcinoma", grade=2, tumour_share=0.6, necrosis_share=0.3,
            lymphocytes_per_mm2=650.0, mitoses_per_mm2=90.0,
        )
    )  # fmt: skip


def test_the_truth_of_a_slide_is_what_its_specification_asked_for(
    squamous: tuple[np.ndarray, PhantomTruth],
) -> None:
    t = squamous[1].describe()
    assert (t.diagnosis, t.grade) == ("squamous cell carcinoma", 2)
    assert (t.necrosis, t.lymphocytes, t.mitoses) == ("extensive", "moderate", "high")
    assert t.tumour_share == pytest.approx(0.6, abs=0.06)
    assert t.area_mm2 == pytest.approx(1024 * 960 * 0.25e-6)


def test_a_box_is_described_by_what_lies_in_it(squamous: tuple[np.ndarray, PhantomTruth]) -> None:
    truth = squamous[1]
    size = truth.cell_px
    y, x = np.argwhere(truth.zones == Zone.NECROSIS)[0]
    dead = truth.describe((int(x) * size, int(y) * size, size, size))
    assert (dead.necrosis, dead.necrosis_share, dead.diagnosis) == ("extensive", 1.0, truth.diagnosis)
    y, x = np.argwhere(truth.zones == Zone.NORMAL_GLAND)[0]
    normal = truth.describe((int(x) * size, int(y) * size, 1, 1))
    assert (normal.diagnosis, normal.grade, normal.necrosis, normal.mitoses) == (
        BENIGN,
        None,
        "absent",
        "low",
    )
    halves = [truth.describe((0, top, 1024, 480)) for top in (0, 480)]
    whole = truth.describe()
    assert sum(h.tissue_share for h in halves) / 2 == pytest.approx(whole.tissue_share)
    with pytest.raises(BoxError):
        truth.describe((1000, 0, 100, 100))


def test_each_mitosis_is_drawn_where_the_truth_says(squamous: tuple[np.ndarray, PhantomTruth]) -> None:
    pixels, truth = squamous
    assert len(truth.mitosis_xy) == truth.mitoses.sum() > 3
    for x, y in truth.mitosis_xy:
        assert truth.mitoses[y // truth.cell_px, x // truth.cell_px] >= 1
        assert truth.zones[y // truth.cell_px, x // truth.cell_px] == Zone.TUMOUR
        assert pixels[max(y - 8, 0) : y + 9, max(x - 8, 0) : x + 9, 0].min() < 90


def darkness(pixels: np.ndarray) -> float:
    return float(np.mean(pixels[..., 0] < 70))


def test_more_lymphocytes_make_more_dark_pixels() -> None:
    plain = small(
        4, 0, diagnosis=BENIGN, grade=None, tumour_share=0.0, necrosis_share=0.0, mitoses_per_mm2=0.0
    )
    drawn = [darkness(render_slide(replace(plain, lymphocytes_per_mm2=d))[0]) for d in (50.0, 650.0, 2000.0)]
    assert drawn[1] > drawn[0] + 0.002
    assert drawn[2] > 2 * drawn[1]


def test_glass_is_bright_and_tissue_is_not(squamous: tuple[np.ndarray, PhantomTruth]) -> None:
    pixels, truth = squamous
    rows, columns = (np.repeat(np.arange(n), truth.cell_px) for n in truth.zones.shape)
    glass = (truth.zones == Zone.GLASS)[rows][:, columns]
    assert pixels[glass].mean() > 220
    assert pixels[~glass].mean() < 200


def test_the_same_seed_draws_the_same_pixels_and_another_seed_others() -> None:
    first, truth = render_slide(small(5, 2))
    again, same = render_slide(small(5, 2))
    other, _ = render_slide(small(6, 2))
    assert np.array_equal(first, again)
    assert np.array_equal(truth.lymphocytes, same.lymphocytes)
    assert not np.array_equal(first, other)


def test_openslide_reads_size_mpp_and_pixels(
    tmp_path: Path, squamous: tuple[np.ndarray, PhantomTruth]
) -> None:
    for mpp in (0.25, 0.5):
        write_slide(tmp_path / "s.tiff", squamous[0], mpp, 90)
        with openslide.OpenSlide(str(tmp_path / "s.tiff")) as slide:
            assert slide.dimensions == (1024, 960)
            assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(mpp, rel=1e-4)
            assert slide.level_count == 2
            read = np.asarray(slide.read_region((256, 128), 0, (300, 200)).convert("RGB"), int)
        assert np.abs(read - squamous[0][128:328, 256:556]).mean() < 8
    assert [p.name for p in tmp_path.iterdir()] == ["s.tiff"]


def test_attributes_are_balanced_and_independent() -> None:
    specs = [sample_spec(9, i) for i in range(960)]
    grades = Counter(spec.grade for spec in specs)
    assert set(grades.values()) == {240}
    assert sum(s.diagnosis == "small cell carcinoma" for s in specs) == 120
    assert all(s.grade == 3 for s in specs if s.diagnosis == "small cell carcinoma")
    benign = [s for s in specs if s.diagnosis == BENIGN]
    assert all(s.necrosis_share == s.mitoses_per_mm2 == s.tumour_share == 0 for s in benign)
    shares = Counter(s.lymphocytes_per_mm2 > 1150 for s in specs)
    assert shares[True] == 320
    for diagnosis in {s.diagnosis for s in specs}:
        dense = [s.lymphocytes_per_mm2 > 1150 for s in specs if s.diagnosis == diagnosis]
        assert np.mean(dense) == pytest.approx(1 / 3, abs=0.12)
    tumours = [s for s in specs if s.grade]
    both = np.corrcoef([s.necrosis_share for s in tumours], [s.mitoses_per_mm2 for s in tumours])[0, 1]
    assert abs(both) < 0.12


def test_outlines_enclose_exactly_the_mask_and_its_holes() -> None:
    mask = np.zeros((6, 7), bool)
    mask[1:5, 1:6] = True
    mask[2, 2] = mask[3, 3] = False  # two holes that touch at a corner
    rings = trace_outlines(mask)
    areas = []
    for ring in rings:
        assert ring[0] == ring[-1]
        x, y = np.array(ring, float).T
        areas.append(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]) / 2)
    assert areas[0] == 20
    assert sum(areas) == np.count_nonzero(mask)


@pytest.fixture
def shrunk(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, int, int], Path]:
    """`write_cohort` with small slides."""
    monkeypatch.setattr(cohort, "sample_spec", lambda seed, i: replace(small(seed, i), width=768, height=768))
    return lambda out, slides, workers: cohort.write_cohort(out, slides, 11, workers)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".npz"
    }


def test_a_cohort_is_complete_resumable_and_the_same_with_any_workers(
    tmp_path: Path, shrunk: Callable[[Path, int, int], Path]
) -> None:
    one = shrunk(tmp_path / "one", 3, 1)
    reference = contents(one)
    names = [f"phantom_11_{i:05d}" for i in range(3)]
    split = json.loads((one / "split.json").read_text())
    assert sorted(split["train"] + split["val"]) == names
    assert split["val"]
    reports = [json.loads(line) for line in (one / "reports.jsonl").read_text().splitlines()]
    assert [row["slide"] for row in reports] == names

    untouched = (one / "slides" / f"{names[0]}.tiff").stat().st_mtime_ns
    (one / "slides" / f"{names[1]}.tiff").unlink()
    (one / "truth" / f"{names[2]}.npz").unlink()
    shrunk(one, 3, 1)
    assert (one / "slides" / f"{names[0]}.tiff").stat().st_mtime_ns == untouched
    assert contents(one) == reference
    assert contents(shrunk(tmp_path / "two", 3, 2)) == reference


def test_truth_files_alone_give_the_truth_back_and_qupath_can_read_them(
    tmp_path: Path, squamous: tuple[np.ndarray, PhantomTruth]
) -> None:
    truth = squamous[1]
    truth.save(tmp_path)
    assert PhantomTruth.load(tmp_path, truth.name).describe() == truth.describe()
    write_geojson(truth, tmp_path / "truth" / f"{truth.name}.geojson")
    collection = json.loads((tmp_path / "truth" / f"{truth.name}.geojson").read_text())
    assert collection["type"] == "FeatureCollection"
    for feature in collection["features"]:
        assert feature["properties"]["objectType"] == "annotation"
        assert len(feature["properties"]["classification"]["color"]) == 3
        if feature["geometry"]["type"] == "Polygon":
            assert all(ring[0] == ring[-1] for ring in feature["geometry"]["coordinates"])
    tumour = [f for f in collection["features"] if f["properties"]["name"] == "Tumor"]
    area = sum(f["properties"]["measurements"]["Area mm^2"] for f in tumour)
    assert area == pytest.approx(np.count_nonzero(truth.zones == Zone.TUMOUR) * 0.016**2, rel=1e-3)
    (tmp_path / "truth" / f"{truth.name}.npz").write_bytes(b"PK not a truth")
    with pytest.raises(CohortError):
        PhantomTruth.load(tmp_path, truth.name)


def test_senseless_numbers_and_unwritable_places_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        cohort.write_cohort(tmp_path, 0, 1)
    (tmp_path / "file").write_text("")
    with pytest.raises(CohortError):
        cohort.write_cohort(tmp_path / "file", 1, 1)
