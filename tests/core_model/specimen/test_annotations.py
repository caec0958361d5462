"""Annotations made in QuPath become regions of the slide, or one line that says what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from core_model.errors import NoTissue
from core_model.slides.box import Box
from core_model.slides.tissue import TissueMask
from core_model.specimen import annotations
from core_model.specimen.annotations import AnnotationsError, read_annotations

SLIDE = SimpleNamespace(name="a", box=Box(0, 0, 1000, 800), bounds=Box(0, 0, 1000, 800))


def square(x: float, y: float, side: float) -> list[list[float]]:
    return [[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]]


def feature(
    geometry: Any, name: str | None = None, label: str | None = None, kind: str | None = "annotation"
) -> dict[str, Any]:
    """A feature as QuPath 0.5 exports it."""
    properties: dict[str, Any] = {} if kind is None else {"objectType": kind}
    properties |= {} if name is None else {"name": name}
    properties |= {} if label is None else {"classification": {"name": label, "color": [200, 0, 0]}}
    return {"type": "Feature", "id": "1b", "geometry": geometry, "properties": properties}


def polygon(*rings: Any) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": list(rings)}


def write(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "regions.geojson"


def test_polygons_with_names_classes_and_holes_are_regions(path: Path) -> None:
    several = {"type": "MultiPolygon", "coordinates": [[square(500, 500, 50)], [square(700, 500, 50)]]}
    ring, hole = square(100, 100, 200), square(150, 150, 50)
    features = [feature(polygon(ring, hole), "left", "Tumor"), feature(several, label="Stroma")]
    collection = {"type": "FeatureCollection", "features": [*features, feature(polygon(square(0, 0, 9)))]}
    found = read_annotations(write(path, collection), SLIDE)
    assert [(region.name, region.label) for region in found.regions] == [
        ("left", "Tumor"), ("Stroma", "Stroma"), ("annotation 3", None),
    ]  # fmt: skip
    assert [region.box for region in found.regions] == [
        (100, 100, 200, 200), (500, 500, 250, 50), (0, 0, 9, 9),
    ]  # fmt: skip
    assert [[len(ring) for ring in rings] for rings in found.regions[0].polygons] == [[4, 4]]
    assert found.notices == ()


@pytest.mark.parametrize("form", [list, lambda features: features[0]])
def test_a_bare_array_and_a_single_feature_are_read_too(path: Path, form: Any) -> None:
    assert read_annotations(write(path, form([feature(polygon(square(0, 0, 9)), "a")])), SLIDE).regions


def test_tridents_contours_have_no_object_type(path: Path) -> None:
    contour = feature(polygon(square(0, 0, 9)), kind=None) | {"properties": {"tissue_id": 0}}
    collection = {"type": "FeatureCollection", "crs": {"type": "name"}, "features": [contour]}
    assert len(read_annotations(write(path, collection), SLIDE).regions) == 1


def test_what_is_no_area_is_left_out_and_told(path: Path) -> None:
    line = {"type": "LineString", "coordinates": [[0, 0], [9, 9]]}
    cells = [feature(polygon(square(0, 0, 9)), kind="detection")] * 3
    content = [feature(line), feature(None), *cells, feature(polygon(square(0, 0, 9)))]
    found = read_annotations(write(path, content), SLIDE)
    assert len(found.regions) == 1
    assert found.notices == (
        "1 left out: a LineString, no area", "1 left out: a None, no area", "3 left out: of type detection",
    )  # fmt: skip


def test_coordinates_count_from_the_scanned_part(path: Path) -> None:
    """QuPath crops a slide to its bounds."""
    write(path, [feature(polygon(square(10, 20, 100)))])
    mirax = SimpleNamespace(name="a", box=SLIDE.box, bounds=Box(300, 400, 500, 300))
    assert read_annotations(path, mirax).regions[0].box == (310, 420, 100, 100)


LONG = [[0.0, 0.0], *[[float(i % 900), float(i % 700)] for i in range(40)]]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "no JSON"),
        ("{", "no JSON"),
        ('{"type": "FeatureCollection"}', "neither a FeatureCollection nor a list"),
        ("3", "neither a FeatureCollection"),
        ("[3]", "object 1 is no feature"),
        ("[]", "no annotated area"),
        ("[" * 100_000, "too deep"),
        ('{"features": ' * 100_000, "too deep"),
        ('[{"geometry": NaN}]', "NaN stands in it"),
        ([feature({"type": "Point", "coordinates": [1, 2]})], "no annotated area .1 left out: a Point"),
        ([feature(polygon())], "annotation 1 .'annotation 1'. has no corners"),
        ([feature({"type": "MultiPolygon", "coordinates": []})], "no corners"),
        ([feature({"type": "Polygon", "coordinates": "all"})], "no corners"),
        ([feature(polygon([[0, 0], [1, 1], [0, 0]]))], "fewer than three corners"),
        ([feature(polygon([[0, 0], [1, "1"], [2, 0]]))], "no x, y"),
        ([feature(polygon([[0, 0], [1, True], [2, 0]]))], "no x, y"),
        ([feature(polygon([[0, 0], [1], [2, 0]]))], "no x, y"),
        ([feature(polygon(square(0, 0, 10**400)))], "no JSON|no place"),
        ('[{"geometry": {"type": "Polygon", "coordinates": [[[0,0],[1e999,0],[0,1]]]}}]', "no place"),
        (
            [feature(polygon(square(5000, 100, 10)), "far")],
            "'far'. spans x 5000 to 5010, .* outside of a, which",
        ),
        ([feature(polygon(square(0, 0, 50), square(0, 0, 1e9)))], "outside of a"),
        ([feature(polygon(square(990, 100, 100)))], "has 1000 x 800 px"),
        ([feature(polygon(LONG))] * 30, "more than 1,000 corners"),
        ([feature(polygon(square(-900, 0, 10)), "a\nb" * 99)], "outside of a"),
        (b"\xff\xfe[]", "no text in UTF-8"),
        (" " * 20_001 + "[]", "MB, and"),
    ],
)
def test_what_is_wrong_is_one_line(
    path: Path, content: Any, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(annotations, "MOST_CORNERS", 1000)
    path.write_bytes(content) if isinstance(content, bytes) else write(path, content)
    if "MB" in told:
        monkeypatch.setattr(annotations, "MOST_BYTES", 20_000)
    with pytest.raises(AnnotationsError, match=told) as caught:
        read_annotations(path, SLIDE)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_a_missing_file_is_named(path: Path) -> None:
    with pytest.raises(AnnotationsError, match="cannot be read"):
        read_annotations(path, SLIDE)


def test_a_slip_of_the_hand_beyond_the_edge_is_none(path: Path) -> None:
    assert read_annotations(write(path, [feature(polygon(square(905, 100, 100)))]), SLIDE).regions


# ---- rasters ----


def test_a_raster_is_what_the_polygons_cover(path: Path) -> None:
    ring, hole = square(100, 100, 200), square(150, 150, 50)
    found = read_annotations(
        write(path, [feature(polygon(ring, hole)), feature(polygon(square(600, 0, 100)))]), SLIDE
    )
    raster = found.raster((80, 100), (1000, 800))  # 10 px a pixel
    expected = np.zeros((80, 100), dtype=bool)
    expected[10:30, 10:30], expected[15:20, 15:20], expected[0:10, 60:70] = True, False, True
    assert abs(int(raster.sum()) - int(expected.sum())) <= 80, "to a pixel along the edges"
    assert raster[12, 12] and raster[5, 65] and not raster[17, 17] and not raster[50, 50]  # noqa: PT018


def test_tissue_is_restricted_to_the_regions(path: Path) -> None:
    tissue = TissueMask(np.ones((80, 100), bool), np.zeros((80, 100), bool), 5.0, SLIDE.box, 0.5)
    found = read_annotations(write(path, [feature(polygon(square(100, 100, 200)))]), SLIDE).within(tissue)
    assert found.share(Box(110, 110, 100, 100)) == 1
    assert found.share(Box(500, 500, 100, 100)) == 0
    assert found.area_mm2 == pytest.approx(0.01, rel=0.15)
    glass = TissueMask(np.zeros((80, 100), bool), np.zeros((80, 100), bool), 5.0, SLIDE.box, 0.5)
    with pytest.raises(NoTissue, match="no tissue lies in 1 annotated region "):
        read_annotations(path, SLIDE).within(glass)


def test_many_small_regions_on_a_large_slide_take_no_time(path: Path) -> None:
    """The cost follows the regions, not regions times raster."""
    large = SimpleNamespace(name="a", box=Box(0, 0, 100_000, 80_000), bounds=Box(0, 0, 100_000, 80_000))
    squares = [feature(polygon(square(i * 97 % 99_000, i * 89 % 79_000, 50))) for i in range(2000)]
    found = read_annotations(write(path, squares), large)
    drawn: list[int] = []
    original = annotations._filled

    def counted(rings: Any, shape: tuple[int, ...]) -> np.ndarray:
        drawn.append(shape[0] * shape[1])
        return original(rings, shape)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(annotations, "_filled", counted)
        found.raster((4000, 5000), (100_000, 80_000))
    assert sum(drawn) < 2000 * 50
