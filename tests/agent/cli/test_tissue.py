"""`giant tissue`: a line for each slide, files where they are asked for, and one line for what fails."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cli_fakes import giant
from PIL import Image
from slide_files import stained, write_svs

from core_model.slides.slide import open_slide
from core_model.slides.tissue import find_tissue
from core_model.specimen.annotations import read_annotations


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    (tmp_path / "slides").mkdir()
    return write_svs(tmp_path / "slides" / "a.svs", stained(800, 1000), mpp=0.5)


def test_area_share_and_pieces_are_printed(slide: Path) -> None:
    result = giant("tissue", str(slide))
    assert result.exit_code == 0, result.output
    with open_slide(slide) as opened:
        tissue = find_tissue(opened)
    assert result.stdout.splitlines() == [
        f"a: {tissue.area_mm2:.2f} mm² of tissue in 1 piece, {tissue.share(opened.box):.1%} of the slide,"
        " on a mask of 8 µm/px"
    ]


def test_a_folder_is_written_as_polygons_and_pictures(slide: Path, tmp_path: Path) -> None:
    write_svs(slide.with_name("b.svs"), stained(600, 640), mpp=0.5)
    out = tmp_path / "masks"
    result = giant("tissue", str(slide.parent), "--out", str(out), "--json", "--mask-mpp", "4")
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    assert content["version"] == 1
    assert [row["slide"] for row in content["slides"]] == ["a", "b"]
    assert sorted(path.name for path in out.iterdir()) == ["a.geojson", "a.png", "b.geojson", "b.png"]
    row = content["slides"][0]
    assert row["files"] == [str(out / "a.geojson"), str(out / "a.png")]
    assert row["mask_mpp"] == 4.0
    with open_slide(slide) as opened, Image.open(out / "a.png") as image:
        tissue = find_tissue(opened, 4.0)
        regions = read_annotations(out / "a.geojson", opened)
        grey = np.asarray(image)
    assert np.array_equal(grey == 255, tissue.mask)
    assert len(regions.regions) == len(tissue.boxes())
    assert regions.regions[0].box == tissue.boxes()[0]
    assert row["pieces"] == len(tissue.boxes())
    assert row["area_mm2"] == pytest.approx(tissue.area_mm2, abs=1e-5)


def test_a_slide_that_fails_stops_no_other(slide: Path, tmp_path: Path) -> None:
    write_svs(slide.with_name("blank.svs"), np.full((400, 400, 3), 250, np.uint8), mpp=0.5)
    result = giant("tissue", str(slide.parent), "--json", "--out", str(tmp_path / "masks"))
    assert result.exit_code == 1
    lines = result.stderr.splitlines()
    assert lines[0].startswith("giant: blank: no tissue found on the slide")
    assert lines[-1] == "giant: 1 of 2 slides failed. Each is named above."
    first, second = json.loads(result.stdout)["slides"]
    assert first["area_mm2"] > 0
    assert second["slide"] == "blank"
    assert "no tissue" in second["error"]
    assert {path.stem for path in (tmp_path / "masks").iterdir()} == {"a"}


def test_a_place_that_cannot_be_written_is_one_line(slide: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = giant("tissue", str(slide), "--out", str(tmp_path / "file"))
    assert result.exit_code == 1
    assert "the polygons cannot be written" in result.stderr
    assert "Traceback" not in result.output


def test_only_tissue_in_the_annotated_regions_is_measured(slide: Path, tmp_path: Path) -> None:
    ring = [[200, 200], [600, 200], [600, 500], [200, 500], [200, 200]]
    drawn = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"name": "t"},
    }
    (tmp_path / "a.geojson").write_text(json.dumps([drawn]))
    result = giant("tissue", str(slide), "--regions", str(tmp_path), "--json")
    assert result.exit_code == 0, result.output
    (row,) = json.loads(result.stdout)["slides"]
    assert row["regions"] == ["t"]
    assert row["area_mm2"] == pytest.approx(0.2 * 0.15, rel=0.15)
    line = giant("tissue", str(slide), "--regions", str(tmp_path / "a.geojson"))
    assert "only inside 1 annotated region" in line.stdout
    write_svs(slide.with_name("b.svs"), stained(600, 640), mpp=0.5)
    several = giant("tissue", str(slide.parent), "--regions", str(tmp_path / "a.geojson"))
    assert (several.exit_code, "one file chooses tiles of one slide" in several.stderr) == (2, True)
