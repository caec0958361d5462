"""The truth as QuPath annotations: outlines of the zones and points for the mitoses.

Outlines follow the cells of the truth grid, in level-0 pixels. QuPath refuses a classification without a
colour. Procedural slides have no `openslide.bounds-*`, so nothing needs to be shifted.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from core_model.files import write_bytes

if TYPE_CHECKING:
    from training.phantom.truth import PhantomTruth

Ring = list[list[int]]

CLASSES: dict[int, tuple[str, list[int]]] = {
    1: ("Stroma", [150, 200, 150]),
    2: ("Normal gland", [100, 150, 250]),
    3: ("Tumor", [200, 0, 0]),
    4: ("Necrosis", [50, 50, 50]),
    5: ("Adipose", [250, 220, 100]),
}
"""Name and colour of each zone as QuPath names them."""
MITOSIS = ("Mitosis", [250, 120, 0])


def write_geojson(truth: PhantomTruth, path: Path) -> None:
    """Write one annotation per connected zone and one for all mitoses, through a temporary name."""
    features = [
        _feature(geometry, *CLASSES[zone], metadata)
        for zone in CLASSES
        for geometry, metadata in _zone_polygons(truth, zone)
    ]
    if len(truth.mitosis_xy):
        points = {"type": "MultiPoint", "coordinates": truth.mitosis_xy.tolist()}
        features.append(_feature(points, *MITOSIS, {"count": len(truth.mitosis_xy)}))
    write_bytes(path, json.dumps({"type": "FeatureCollection", "features": features}).encode())


def _feature(
    geometry: dict[str, Any], name: str, color: list[int], measurements: dict[str, float]
) -> dict[str, Any]:
    return {
        "type": "Feature",
        "geometry": geometry,
        "properties": {
            "objectType": "annotation",
            "name": name,
            "classification": {"name": name, "color": color},
            "measurements": measurements,
        },
    }


def _zone_polygons(truth: PhantomTruth, zone: int) -> list[tuple[dict[str, Any], dict[str, float]]]:
    """Polygons of the connected parts of a zone, with their area in mm²."""
    parts, _ = ndimage.label(truth.zones == zone)
    polygons = []
    for number, window in enumerate(ndimage.find_objects(parts), start=1):
        mask = parts[window] == number
        offset = (window[1].start, window[0].start)
        rings = [_to_pixels(ring, offset, truth) for ring in trace_outlines(mask)]
        area = float(np.count_nonzero(mask)) * (truth.cell_px * truth.mpp * 1e-3) ** 2
        polygons.append(({"type": "Polygon", "coordinates": rings}, {"Area mm^2": round(area, 6)}))
    return polygons


def _to_pixels(ring: Ring, offset: tuple[int, int], truth: PhantomTruth) -> Ring:
    size = truth.cell_px
    return [
        [min((x + offset[0]) * size, truth.width), min((y + offset[1]) * size, truth.height)] for x, y in ring
    ]


def trace_outlines(mask: npt.NDArray[np.bool_]) -> list[Ring]:
    """Closed outlines (x, y of cell corners) of a 4-connected mask: the outer one first, then its holes.

    Each border edge is walked once with the mask on its right; where two cells touch at a corner only,
    the walk turns right and so stays with its own cell.
    """
    edges = _edges(mask)
    rings: list[Ring] = []
    while edges:
        start = min(edges)
        ring, point, came = [list(start)], start, (1, 0)
        while True:
            ends = edges[point]
            step = min(ends, key=lambda s: _turn(came, s)) if len(ends) > 1 else ends[0]
            ends.remove(step)
            if not ends:
                del edges[point]
            point = (point[0] + step[0], point[1] + step[1])
            if step == came and len(ring) > 1:
                ring[-1] = list(point)
            else:
                ring.append(list(point))
            came = step
            if point == start:
                break
        rings.append(ring)
    return sorted(rings, key=_signed_area, reverse=True)


def _edges(mask: npt.NDArray[np.bool_]) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """Steps along the border from each corner, mask on the right hand (y grows downwards)."""
    frame = np.pad(mask, 1)
    inside = frame[1:-1, 1:-1]
    edges: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for neighbour, (dx, dy), step in (
        (frame[:-2, 1:-1], (0, 0), (1, 0)),  # top
        (frame[1:-1, 2:], (1, 0), (0, 1)),  # right
        (frame[2:, 1:-1], (1, 1), (-1, 0)),  # bottom
        (frame[1:-1, :-2], (0, 1), (0, -1)),  # left
    ):
        rows, columns = np.nonzero(inside & ~neighbour)
        for x, y in zip((columns + dx).tolist(), (rows + dy).tolist(), strict=True):
            edges.setdefault((x, y), []).append(step)
    return edges


def _turn(came: tuple[int, int], step: tuple[int, int]) -> int:
    """-1 for a right turn (seen with y downwards), 1 for a left turn, 0 straight on."""
    return came[1] * step[0] - came[0] * step[1]


def _signed_area(ring: Ring) -> float:
    points = np.asarray(ring, float)
    x, y = points[:, 0], points[:, 1]
    return float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]) / 2)
