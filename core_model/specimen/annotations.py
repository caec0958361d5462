"""Regions that a person drew in QuPath, or a tool wrote as GeoJSON: read without trust, in level-0 px.

QuPath exports a FeatureCollection, or in older versions the bare array of its features. Each has a `geometry`
and `properties`: objectType ("annotation", and others that are no region), name, classification {name}. It
crops a slide to its scanned bounds, from where its coordinates count. TRIDENT's contours have no objectType
and are regions too. Polygons and multi-polygons, with holes, are areas; what is no area is left out and told.

The file may be anybody's: its size, its depth and the number of its corners are limited, and a number that is
none, or a place off the slide, is one line that says where.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn, Protocol

import numpy as np
from PIL import Image, ImageDraw

from core_model.errors import GiantError, NoTissue, printable
from core_model.slides.box import Box
from core_model.slides.tissue import TissueMask

MOST_BYTES = 64 << 20
MOST_CORNERS = 2_000_000
"""Of all polygons of a file."""
MOST_NAMED = 5
BEYOND = 0.01
"""By how much of a slide's side a region may reach beyond it: drawn by hand, or by rounding."""
LONGEST = 120
"""Letters of a name that are kept."""
_FIX = "Export the annotations alone from QuPath: File > Export objects as GeoJSON"

Ring = np.ndarray
"""(P, 2) float64: x, y of the corners of a polygon, in level-0 px."""


class AnnotationsError(GiantError):
    """A file of annotations that cannot be read, or does not belong to the slide."""


class Placed(Protocol):
    """What a slide says of its place."""

    @property
    def name(self) -> str:
        """The file's stem."""

    @property
    def box(self) -> Box:
        """The whole slide, in level-0 px."""

    @property
    def bounds(self) -> Box:
        """Its scanned part."""


@dataclass(frozen=True)
class Region:
    """An annotated area."""

    name: str
    """Its own, else its class, else a number."""
    label: str | None
    """Name of its class, where it has one."""
    polygons: tuple[tuple[Ring, ...], ...]
    """Each an outer ring, and then its holes."""

    @property
    def box(self) -> Box:
        """What it spans, in level-0 px."""
        outer = np.concatenate([rings[0] for rings in self.polygons])  # (P, 2)
        (x, y), (right, bottom) = np.floor(outer.min(axis=0)), np.ceil(outer.max(axis=0))
        return Box(int(x), int(y), int(right - x), int(bottom - y))


@dataclass(frozen=True)
class Annotations:
    """The regions of one slide."""

    regions: tuple[Region, ...]
    notices: tuple[str, ...]
    """What was left out, and why: a sentence each."""

    @property
    def words(self) -> str:
        """How many there are, and the names of the first."""
        names = [region.name for region in self.regions[:MOST_NAMED]]
        more = ", …" if len(self.regions) > MOST_NAMED else ""
        count = len(self.regions)
        return f"{count} annotated region{'' if count == 1 else 's'} ({', '.join(names)}{more})"

    def raster(self, shape: tuple[int, int], extent: tuple[float, float]) -> np.ndarray:
        """Where a region lies, bool (H, W) of `shape`, over `extent` level-0 px in width and height."""
        height, width = shape
        scale = np.array([width / extent[0], height / extent[1]])
        raster = np.zeros(shape, dtype=bool)
        for rings in (rings for region in self.regions for rings in region.polygons):
            corners = [ring * scale for ring in rings]
            low = np.clip(np.floor(corners[0].min(axis=0)).astype(int), 0, (width, height))
            high = np.clip(np.ceil(corners[0].max(axis=0)).astype(int), low, (width, height))
            part = raster[low[1] : high[1], low[0] : high[0]]
            if part.size:
                part |= _filled([ring - low for ring in corners], part.shape)
        return raster

    def within(self, tissue: TissueMask) -> TissueMask:
        """The tissue inside the regions. Raises `NoTissue` where there is none."""
        spans = tissue.extent or (tissue.slide_box.w, tissue.slide_box.h)
        inside = self.raster(tissue.mask.shape, spans)
        inner_tissue = replace(tissue, mask=tissue.mask & inside, unknown=tissue.unknown & inside)
        if not inner_tissue.mask.any() and not inner_tissue.unknown.any():
            raise NoTissue(f"no tissue lies in {self.words}", fix="Draw them over tissue")
        return inner_tissue


def read_annotations(path: str | Path, slide: Placed) -> Annotations:
    """The annotated regions of a slide. Raises `AnnotationsError`, one line that says what is wrong where."""
    path = Path(path)
    try:
        features = _features(_content(path))
        regions, left_out = _regions(features, slide)
    except ValueError as error:  # in our words
        raise AnnotationsError(f"the annotations cannot be used: {error}", where=path, fix=_FIX) from error
    if not regions:
        reasons = f" ({'; '.join(left_out)})" if left_out else ""
        raise AnnotationsError(f"the file holds no annotated area{reasons}", where=path, fix=_FIX)
    return Annotations(tuple(regions), tuple(left_out))


def _filled(rings: list[Ring], shape: tuple[int, ...]) -> np.ndarray:
    """The pixels, bool (H, W), in an outer ring and outside of its holes, all in px."""
    image = Image.new("1", (shape[1], shape[0]))
    draw = ImageDraw.Draw(image)
    for number, ring in enumerate(rings):
        inside = int(number == 0)
        corners = ring - 0.5  # Pillow names pixels by their centres
        draw.polygon([tuple(corner) for corner in corners.tolist()], fill=inside, outline=inside)
    return np.asarray(image)


def _content(path: Path) -> Any:
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise ValueError(f"it has {size / 1e6:.0f} MB, and {MOST_BYTES / 1e6:.0f} are read at most")
        content = path.read_bytes()[: MOST_BYTES + 1]  # it may grow
        return json.loads(content.decode("utf-8-sig"), parse_constant=_no_constant)
    except OSError as error:
        raise AnnotationsError(f"the file cannot be read ({error.strerror or error})", where=path) from error
    except UnicodeDecodeError as error:
        raise ValueError("it is no text in UTF-8") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"it is no JSON ({error})") from error
    except RecursionError as error:
        raise ValueError("its lists lie too deep in each other") from error


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} stands in it, which is no JSON")


def _features(content: Any) -> list[Any]:
    """The features of a collection, a bare array, or a single one."""
    if isinstance(content, dict) and content.get("type") == "Feature":
        return [content]
    features = content.get("features") if isinstance(content, dict) else content
    if not isinstance(features, list):
        raise ValueError("it is no GeoJSON: neither a FeatureCollection nor a list of features")
    return features


def _regions(features: list[Any], slide: Placed) -> tuple[list[Region], list[str]]:
    regions: list[Region] = []
    left_out: Counter[str] = Counter()
    corners = 0
    for number, feature in enumerate(features, 1):
        if not isinstance(feature, dict):
            raise ValueError(f"object {number} is no feature")
        if (why := _why_not(feature)) is not None:
            left_out[why] += 1
            continue
        region = _region(feature, number, slide)
        corners += sum(len(ring) for rings in region.polygons for ring in rings)
        if corners > MOST_CORNERS:
            raise ValueError(f"its polygons have more than {MOST_CORNERS:,} corners")
        regions.append(region)
    return regions, [f"{count} left out: {why}" for why, count in sorted(left_out.items())]


def _why_not(feature: dict[str, Any]) -> str | None:
    """Why a feature is no region; None where it is one."""
    kind = _table(feature, "properties").get("objectType", "annotation")
    if kind != "annotation":
        return f"of type {printable(str(kind))[:LONGEST]}"
    shape = _table(feature, "geometry").get("type")
    return None if shape in ("Polygon", "MultiPolygon") else f"a {printable(str(shape))[:LONGEST]}, no area"


def _region(feature: dict[str, Any], number: int, slide: Placed) -> Region:
    properties, geometry = _table(feature, "properties"), _table(feature, "geometry")
    label = _text(_table(properties, "classification").get("name"))
    name = _text(properties.get("name")) or label or f"annotation {number}"
    title = f"annotation {number} ('{name}')"
    coordinates = geometry.get("coordinates")
    polygons = [coordinates] if geometry["type"] == "Polygon" else coordinates
    if not isinstance(polygons, list) or not polygons:
        raise ValueError(f"{title} has no corners")
    origin = np.array([slide.bounds.x, slide.bounds.y])
    shifted = tuple(tuple(ring + origin for ring in _rings(polygon, title)) for polygon in polygons)
    region = Region(name, label, shifted)
    _check_place(region, slide, title)
    return region


def _rings(polygon: Any, title: str) -> list[Ring]:
    """Outer ring and holes of one polygon, without the corner that closes each."""
    if not isinstance(polygon, list) or not polygon:
        raise ValueError(f"{title} has no corners")
    return [_ring(points, title) for points in polygon]


def _ring(points: Any, title: str) -> Ring:
    if not isinstance(points, list) or len(points) > MOST_CORNERS:
        raise ValueError(f"{title} has no list of corners, or more than {MOST_CORNERS:,}")
    for point in points:
        numbers = isinstance(point, list) and len(point) in (2, 3)
        if not numbers or any(type(value) not in (int, float) for value in point):
            raise ValueError(f"{title} has a corner that is no x, y")
    try:
        ring = np.array([point[:2] for point in points], dtype=np.float64).reshape(-1, 2)
    except OverflowError as error:
        raise ValueError(f"{title} has a corner that is no place") from error
    if not np.isfinite(ring).all():
        raise ValueError(f"{title} has a corner that is no place")
    if len(ring) > 1 and (ring[0] == ring[-1]).all():
        ring = ring[:-1]
    if len(np.unique(ring, axis=0)) < 3:
        raise ValueError(f"{title} has fewer than three corners")
    return ring


def _check_place(region: Region, slide: Placed, title: str) -> None:
    """Raise `ValueError` where a region reaches beyond the slide by more than hand and rounding do."""
    corners = np.concatenate([ring for rings in region.polygons for ring in rings])  # (P, 2)
    low, high = corners.min(axis=0), corners.max(axis=0)
    size = np.array([slide.box.w, slide.box.h])
    if (low < -BEYOND * size).any() or (high > size * (1 + BEYOND)).any():
        spans = f"x {low[0]:.0f} to {high[0]:.0f}, y {low[1]:.0f} to {high[1]:.0f}"
        of = f"{printable(slide.name)}, which has {slide.box.w} x {slide.box.h} px"
        raise ValueError(f"{title} spans {spans}, outside of {of}")


def _table(of: dict[str, Any], name: str) -> dict[str, Any]:
    """An object within an object; an empty one where there is none."""
    value = of.get(name)
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return printable(value.strip())[:LONGEST] if isinstance(value, str) and value.strip() else None
