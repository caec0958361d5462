"""QuPath's rules for GeoJSON, as strict as its importer: whatever is odd fails."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

PROPERTIES = {"objectType", "name", "classification", "measurements", "metadata"}


def read_qupath(path: Path, width: int, height: int) -> list[dict[str, Any]]:
    """The features of a file for an image of that size, as QuPath shows it (cropped to its bounds)."""
    found = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_constant, object_pairs_hook=_once)
    assert set(found) == {"type", "features"}
    assert found["type"] == "FeatureCollection"
    for feature in found["features"]:
        assert set(feature) == {"type", "geometry", "properties"}
        assert feature["type"] == "Feature"
        _check_geometry(feature["geometry"], width, height)
        _check_properties(feature["properties"])
    return list(found["features"])


def _check_geometry(geometry: Any, width: int, height: int) -> None:
    assert set(geometry) == {"type", "coordinates"}
    assert geometry["type"] == "Polygon"
    assert len(geometry["coordinates"]) == 1
    ring = geometry["coordinates"][0]
    assert len(ring) == 5
    assert ring[0] == ring[-1]
    assert all(len(point) == 2 and all(type(value) is int for value in point) for point in ring)
    area = sum(a[0] * b[1] - b[0] * a[1] for a, b in pairwise(ring)) / 2
    assert area > 0, "a simple ring with area, wound one way"
    assert all(-width <= x <= 2 * width and -height <= y <= 2 * height for x, y in ring)


def _check_properties(properties: Any) -> None:
    assert set(properties) == PROPERTIES
    assert properties["objectType"] == "annotation"
    assert isinstance(properties["name"], str)
    assert properties["name"]
    classification = properties["classification"]
    assert set(classification) == {"name", "color"}, "QuPath refuses a classification without colour"
    assert isinstance(classification["name"], str)
    assert len(classification["color"]) == 3
    assert all(type(value) is int and 0 <= value <= 255 for value in classification["color"])
    for name, value in properties["measurements"].items():
        assert isinstance(name, str)
        assert type(value) in (int, float)
        assert math.isfinite(value)
    for name, value in properties["metadata"].items():
        assert isinstance(name, str)
        assert type(value) in (str, int, float, bool)


def _no_constant(name: str) -> Any:
    raise AssertionError(f"{name} is no JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    assert len(set(names)) == len(names), "a name stands twice"
    return dict(pairs)
