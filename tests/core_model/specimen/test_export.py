"""Tissue masks as files: polygons that are exactly the mask, and a picture that knows its resolution."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from core_model.errors import RunError
from core_model.slides.box import Box
from core_model.slides.tissue import METHOD, TissueMask
from core_model.specimen.annotations import read_annotations
from core_model.specimen.export import tissue_geojson, write_geojson, write_png


def tissue_of(mask: np.ndarray, unknown: np.ndarray | None = None, lacking: int = 0) -> TissueMask:
    """A slide at 0.5 µm/px under a mask of 8 µm/px, `lacking` px narrower and lower than the mask."""
    h, w = mask.shape
    box = Box(0, 0, w * 16 - lacking, h * 16 - lacking)
    nothing = np.zeros_like(mask) if unknown is None else unknown
    return TissueMask(mask, nothing, 8.0, box, 0.5, (w * 16.0, h * 16.0))


def blob() -> np.ndarray:
    mask = np.zeros((12, 15), dtype=bool)
    mask[1:6, 1:8] = True
    mask[2:4, 3:5] = False
    mask[6:8, 8:10] = True  # touches by a corner
    mask[10:12, 12:15] = True  # to the slide's edge
    return mask


def test_pieces_have_names_areas_and_holes() -> None:
    tissue = tissue_of(blob())
    content = tissue_geojson(tissue, tissue.slide_box)
    first, second = content["features"]
    assert (first["geometry"]["type"], second["geometry"]["type"]) == ("MultiPolygon", "Polygon")
    assert [len(rings) for rings in first["geometry"]["coordinates"]] == [2, 1]
    for feature in content["features"]:
        properties = feature["properties"]
        assert properties["objectType"] == "annotation"
        assert properties["classification"]["name"] == "tissue"
        assert all(isinstance(value, float) for value in properties["measurements"].values())
        assert all(isinstance(value, str) for value in properties["metadata"].values())
    assert [f["properties"]["name"] for f in content["features"]] == ["tissue 1", "tissue 2"]
    areas = [f["properties"]["measurements"]["area mm2"] for f in content["features"]]
    assert areas == pytest.approx([35 * 0.008**2, 6 * 0.008**2])
    ring = second["geometry"]["coordinates"][0]
    assert ring[0] == ring[-1] == [192, 160]
    assert ring[2] == [240, 192]


def test_coordinates_count_from_the_scanned_part_and_end_at_the_slides_edge() -> None:
    tissue = tissue_of(blob(), lacking=5)
    content = tissue_geojson(tissue, Box(100, 50, 100, 100))
    ring = content["features"][1]["geometry"]["coordinates"][0]
    assert ring[0] == [92, 110]
    assert ring[2] == [240 - 5 - 100, 192 - 5 - 50]
    areas = [f["properties"]["measurements"]["area mm2"] for f in content["features"]]
    assert sum(areas) == pytest.approx(tissue.area_mm2)


def test_what_cannot_be_read_is_told_apart() -> None:
    unknown = np.zeros((12, 15), dtype=bool)
    unknown[0:2, 10:12] = True
    content = tissue_geojson(tissue_of(blob(), unknown), Box(0, 0, 240, 192))
    assert [f["properties"]["classification"]["name"] for f in content["features"]] == [
        "tissue",
        "tissue",
        "unreadable",
    ]


@given(mask=arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))), lacking=st.integers(0, 6))
@settings(max_examples=80, deadline=None)
def test_the_polygons_read_again_are_the_mask(
    tmp_path_factory: pytest.TempPathFactory, mask: np.ndarray, lacking: int
) -> None:
    mask[0, 0] = True
    tissue, path = tissue_of(mask, lacking=lacking), tmp_path_factory.mktemp("out") / "a.geojson"
    bounds = Box(3, 2, 5, 5)
    write_geojson(path, tissue, bounds)
    slide: Any = SimpleNamespace(name="a", box=tissue.slide_box, bounds=bounds)
    again = read_annotations(path, slide)
    box = tissue.slide_box
    level0 = again.raster((box.h, box.w), (box.w, box.h))
    assert np.array_equal(level0[8::16, 8::16], mask), "in the middle of each of its pixels"
    areas = [f["properties"]["measurements"]["area mm2"] for f in json.loads(path.read_text())["features"]]
    assert sum(areas) == pytest.approx(tissue.area_mm2)


def test_the_picture_is_the_mask_and_says_its_resolution(tmp_path: Path) -> None:
    unknown = np.zeros((12, 15), dtype=bool)
    unknown[0, :] = True
    tissue = tissue_of(blob(), unknown)
    write_png(tmp_path / "a.png", tissue)
    with Image.open(tmp_path / "a.png") as image:
        assert image.info["mpp"] == "8.0"
        assert image.info["downsample"] == "16.0"
        assert image.info["method"] == METHOD
        assert 25_400 / image.info["dpi"][0] == pytest.approx(8.0, rel=1e-3)
        grey = np.asarray(image)
    assert np.array_equal(grey == 255, blob())
    assert np.array_equal(grey == 128, unknown)
    assert ((grey == 0) | (grey == 128) | (grey == 255)).all()


@pytest.mark.parametrize("kind", ["geojson", "png"])
def test_a_full_disk_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    path = tmp_path / f"a.{kind}"
    path.write_text("before")

    def full(part: Path, *args: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    more = (Box(0, 0, 240, 192),) if kind == "geojson" else ()
    write: Any = write_png if kind == "png" else write_geojson
    with pytest.raises(RunError, match="cannot be written"):
        write(path, tissue_of(blob()), *more)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]
