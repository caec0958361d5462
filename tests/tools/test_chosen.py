"""`giant index` of the tiles that a person or another tool chose, and of no others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from slide_files import ColourEncoder
from typer.testing import CliRunner

from core_model.errors import FeatureStoreError, UsageError
from core_model.features.extract import extract
from core_model.features.store import FeatureStore
from core_model.slides.slide import Slide
from core_model.specimen.annotations import AnnotationsError
from tools.chosen import Chosen, chosen_features
from tools.index import TileIndex
from tools.indexing import IndexPlan

RED = (128, 128, 512, 640)
"""Left part of the tissue of the painted slide: x, y and the corner beyond, level-0 px."""


def annotate(path: Path, x: int, y: int, right: int, bottom: int, **properties: Any) -> Path:
    """A rectangle drawn in QuPath."""
    ring = [[x, y], [right, y], [right, bottom], [x, bottom], [x, y]]
    feature = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": properties,
    }
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    return path


def trident(path: Path, coords: list[tuple[int, int]], **more: Any) -> Path:
    """Coordinates of tiles of 224 px on the painted slide."""
    with h5py.File(path, "w") as file:
        file["coords"] = np.array(coords)
        file["coords"].attrs.update(
            {"patch_size": 224, "patch_size_level0": 224, "level0_magnification": 20, "overlap": 0,
             "target_magnification": 20, "level0_width": 1024, "level0_height": 768, **more}
        )  # fmt: skip
    return path


def giant(*args: object) -> Any:
    from agent.cli.app import build_app

    return CliRunner().invoke(build_app(), [str(arg) for arg in args])


def test_only_tissue_in_the_regions_is_indexed(slide: Slide, tmp_path: Path) -> None:
    """Mini's tiles are 224 px wide; those that lie at least a quarter in the region are of it."""
    annotate(tmp_path / "painted.geojson", *RED, objectType="annotation", name="left")
    corners = [(x, y) for x in range(0, 1024, 224) for y in range(0, 768, 224)]
    inside = {
        (x, y): max(0, min(x + 224, 512) - max(x, 128)) * max(0, min(y + 224, 640) - max(y, 128))
        for x, y in corners
    }
    expected = [corner for corner in corners if inside[corner] > 0.25 * 224**2]
    for regions in (tmp_path / "painted.geojson", tmp_path):
        out = tmp_path / f"out-{regions.name}"
        result = giant("index", slide.path, "--regions", regions, "--out", out, "--quiet")
        assert result.exit_code == 0, result.stderr
        index = TileIndex.load(out / "features_mini" / "painted.tile.safetensors")
        assert sorted(map(tuple, index.coords.tolist())) == expected
        assert not (out / "features_mini" / "painted.h5").exists(), "features there are those of all tissue"
        assert not list((out / "features_mini").glob(".*unfinished"))


def test_tiles_that_another_tool_chose_are_indexed(slide: Slide, tmp_path: Path) -> None:
    trident(tmp_path / "painted_patches.h5", [(150, 150), (400, 301)])
    result = giant("index", slide.path, "--coords", tmp_path, "--out", tmp_path / "out", "--quiet")
    assert result.exit_code == 0, result.stderr
    index = TileIndex.load(tmp_path / "out" / "features_mini" / "painted.tile.safetensors")
    assert (index.coords.tolist(), index.size) == ([[150, 150], [400, 301]], 224)


def test_features_that_are_there_are_not_computed_again(slide: Slide, tmp_path: Path) -> None:
    store, encoder = FeatureStore(tmp_path / "store"), ColourEncoder("colour")
    chosen = Chosen(regions=annotate(tmp_path / "a.geojson", *RED))
    grid = chosen.grid(slide, "painted", encoder.tile_um)
    computed = chosen_features(slide, encoder, grid, store)
    whole = extract(slide, encoder, store)
    seen, encoder.encode = [], lambda images: seen.append(images)  # type: ignore[method-assign]
    found = chosen_features(slide, encoder, grid, store)
    assert not seen
    assert len(found) < len(whole)
    assert np.array_equal(found.coords, computed.coords)
    assert np.array_equal(found.features, computed.features)


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("--regions", "r.geojson"), "Give --out DIR"),
        (("--regions", "r.geojson", "--coords", "c.h5", "--out", "x"), "Leave one of them out"),
        (("--regions", "r.geojson", "--out", "x", "."), "one file chooses tiles of one slide"),
    ],
)
def test_calls_that_mean_nothing(
    slide: Slide, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    annotate(tmp_path / "r.geojson", *RED)
    (tmp_path / "second.tiff").write_bytes(slide.path.read_bytes())
    result = giant("index", slide.path, *args)
    assert (result.exit_code, told in result.stderr) == (2, True), result.stderr


def test_a_slide_without_a_file_of_its_own_is_named(slide: Slide, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for chosen in (Chosen(regions=tmp_path / "empty"), Chosen(coords=tmp_path / "empty")):
        with pytest.raises(FeatureStoreError, match=r"holds no SLIDE.* of painted"):
            chosen.grid(slide, "painted", 112.0)
    far = annotate(tmp_path / "far.geojson", 5000, 0, 6000, 100)
    with pytest.raises(AnnotationsError, match="outside of painted"):
        Chosen(regions=far).grid(slide, "painted", 112.0)
    with pytest.raises(UsageError, match="--out"):
        IndexPlan(chosen=Chosen(regions=far))
