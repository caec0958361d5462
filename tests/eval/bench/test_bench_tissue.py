"""The bench of tissue finds the same level, the same pixels and the drawn truth; no time is asserted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from core_model.errors import CohortError, UsageError
from core_model.slides.box import Box
from core_model.slides.tissue import TissueMask
from eval.bench.tissue import cohort_agreement, drawn_tissue, iou, main, measure, otsu_mask
from training.phantom.truth import PhantomTruth

GLASS, PINK, INK = (243, 243, 243), (215, 120, 170), (40, 90, 90)


def write_slide(path: Path, width: int = 1024, height: int = 768) -> Path:
    """Glass at 1 µm/px with tissue at x and y 256 to 512, ink above it; four levels."""
    rgb = np.full((height, width, 3), GLASS, dtype=np.uint8)
    rgb[256:512, 256:512] = PINK
    rgb[64:128, 256:512] = INK
    path.parent.mkdir(parents=True, exist_ok=True)
    with tifffile.TiffWriter(path) as tiff:
        for level in range(4):
            small = np.ascontiguousarray(rgb[:: 2**level, :: 2**level])
            tiff.write(small, tile=(128, 128), photometric="rgb", compression="adobe_deflate",
                       metadata=None, subfiletype=int(level > 0), resolution=(1e4, 1e4),
                       resolutionunit="CENTIMETER")  # fmt: skip
    return path


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    """A slide, and the truth that only its tissue was drawn."""
    write_slide(tmp_path / "slides" / "a.tiff")
    (tmp_path / "truth").mkdir()
    zones = np.zeros((48, 64), dtype=np.uint8)
    zones[16:32, 16:32] = 2
    none = np.zeros_like(zones)
    nowhere = np.zeros((0, 2), dtype=np.int32)
    truth = PhantomTruth(
        "a", 0, 0, 1024, 768, 1.0, 16, "pink", "benign tissue", None, zones, none, none, nowhere
    )  # fmt: skip
    truth.save(tmp_path)
    return tmp_path


def test_the_level_of_the_mask_is_read_and_the_grid_laid(cohort: Path) -> None:
    speed = measure(cohort / "slides" / "a.tiff", rounds=2)
    assert speed.level == (128, 96)
    assert speed.level_mpp == speed.mask_mpp == 8.0
    assert speed.tiles == 9, "tiles of 112 px over 256 px of tissue, from (0, 0)"
    assert min(speed.baseline, speed.reading, speed.tissue, speed.grid) > 0
    assert speed.ratio == (speed.tissue + speed.grid) / speed.baseline


def test_a_level_that_openslide_lacks_is_no_baseline(cohort: Path) -> None:
    from PIL import Image

    picture = cohort / "plain.png"
    Image.open(cohort / "slides" / "a.tiff").save(picture, dpi=(25400, 25400))
    with pytest.raises(UsageError, match="openslide-python does not read"):
        measure(picture, rounds=1)


def test_masks_are_held_against_the_truth_of_a_cohort(cohort: Path) -> None:
    (row,) = cohort_agreement(cohort)
    assert row.slide == "a"
    assert row.ours_truth == 1.0
    assert row.otsu_truth == pytest.approx(4 / 5), "Otsu's threshold takes the ink, a quarter of the tissue"
    assert row.ours_otsu == row.otsu_truth


def test_a_cohort_without_truth_is_said(cohort: Path) -> None:
    path = cohort / "truth" / "a.npz"
    path.write_bytes(b"PK")
    with pytest.raises(CohortError, match="truth of this slide"):
        cohort_agreement(cohort)
    path.unlink()
    with pytest.raises(UsageError, match="no slides with truth"):
        cohort_agreement(cohort)
    with pytest.raises(UsageError, match="a slide or a cohort"):
        main(None, None, 1, True)


def test_everything_is_printed_as_json(cohort: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(cohort / "slides" / "a.tiff", cohort, 1, True)
    content = json.loads(capsys.readouterr().out)
    assert content["speed"]["tiles"] == 9
    assert [row["ours_truth"] for row in content["iou"]] == [None, 1.0]
    main(cohort / "slides" / "a.tiff", cohort, 1, False)
    printed = capsys.readouterr().out
    assert "tissue and grid" in printed
    assert "ours, truth" in printed


@given(
    zones=arrays(np.uint8, st.tuples(st.integers(1, 6), st.integers(1, 6)), elements=st.integers(0, 2)),
    side=st.integers(1, 40),
    scale=st.sampled_from([1.0, 2.0, 2.5, 16.0]),
)
@settings(max_examples=60, deadline=None)
def test_the_truth_at_a_pixel_is_that_of_the_cell_under_its_centre(
    tmp_path_factory: pytest.TempPathFactory, zones: np.ndarray, side: int, scale: float
) -> None:
    path = tmp_path_factory.mktemp("truth") / "a.npz"
    np.savez(path, meta=np.array(json.dumps({"cell_px": side})), zones=zones)
    h, w = int(np.ceil(zones.shape[0] * side / scale)), int(np.ceil(zones.shape[1] * side / scale))
    mask = np.zeros((h, w), dtype=bool)
    box = Box(0, 0, zones.shape[1] * side, zones.shape[0] * side)
    tissue = TissueMask(mask, mask, scale, box, 1.0, (w * scale, h * scale))
    drawn = drawn_tissue(path, tissue)
    assert drawn.shape == mask.shape
    for y in range(h):
        for x in range(w):
            row, column = int((y + 0.5) * scale / side), int((x + 0.5) * scale / side)
            here = zones[min(row, zones.shape[0] - 1), min(column, zones.shape[1] - 1)]
            assert drawn[y, x] == (here > 0)


def test_otsu_parts_two_kinds_of_saturation() -> None:
    rgb = np.full((10, 10, 3), (240, 235, 238), dtype=np.uint8)
    rgb[:4] = (200, 100, 160)
    mask = otsu_mask(rgb)
    assert mask[:4].all()
    assert not mask[4:].any()
    assert not otsu_mask(np.full((4, 4, 3), 200, np.uint8)).any(), "of one colour nothing stands out"


def test_intersection_over_union() -> None:
    a, b = np.array([1, 1, 0, 0], bool), np.array([1, 0, 1, 0], bool)
    assert iou(a, b) == pytest.approx(1 / 3)
    assert iou(a, a) == 1.0
    assert iou(a, ~a) == 0.0
    assert iou(a & ~a, b & ~b) == 1.0
