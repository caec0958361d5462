"""A tissue mask as files for others: polygons that QuPath opens, and a picture.

QuPath crops a slide to its scanned bounds, so the polygons' coordinates count from there, in level-0 px.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from core_model.files import replacing, write_bytes, writing
from core_model.slides.box import Box
from core_model.slides.tissue import METHOD, TissueMask
from core_model.specimen.outlines import Outline, Ring, outlines
from core_model.specimen.sections import Layout

COLORS = {
    "tissue": [60, 140, 70],
    "unreadable": [200, 120, 0],
    "out of focus": [60, 110, 200],
    "folded": [150, 80, 170],
}
NOTHING: Mapping[str, TissueMask] = MappingProxyType({})
GLASS, UNKNOWN, TISSUE = 0, 128, 255
"""Grey levels of the picture."""


def tissue_geojson(
    tissue: TissueMask, bounds: Box, layout: Layout | None = None, flaws: Mapping[str, TissueMask] = NOTHING
) -> dict[str, Any]:
    """A FeatureCollection: a feature for each connected piece of tissue, largest first, then what is unknown.

    Each has its area in mm². Coordinates are level-0 px from the corner of `bounds`, the scanned part. Pieces
    say their section or core where `layout` has several; `flaws`, such as "out of focus", come last.
    """
    kinds = {"tissue": tissue.mask, "unreadable": tissue.unknown}
    kinds |= {kind: part.mask for kind, part in flaws.items()}
    features = [
        _feature(kind, f"{kind} {number}", piece, tissue, bounds, layout)
        for kind, mask in kinds.items()
        for number, piece in enumerate(outlines(mask), 1)
    ]
    return {"type": "FeatureCollection", "features": features}


def write_geojson(
    path: Path,
    tissue: TissueMask,
    bounds: Box,
    layout: Layout | None = None,
    flaws: Mapping[str, TissueMask] = NOTHING,
) -> None:
    """Write the polygons, whole or not at all. Raises `RunError`."""
    text = json.dumps(tissue_geojson(tissue, bounds, layout, flaws), separators=(",", ":"))
    with writing("the polygons", path, fix="Choose another --out"):
        write_bytes(path, text.encode())


def write_png(path: Path, tissue: TissueMask) -> None:
    """Write the mask as a grey picture, whole or not at all: tissue is 255, unknown 128, all else 0.

    Texts in it say `mpp` (µm per px of the picture), `downsample` (level-0 px per px) and `method`. Raises
    `RunError`.
    """
    grey = np.where(tissue.mask, TISSUE, np.where(tissue.unknown, UNKNOWN, GLASS)).astype(np.uint8)
    texts = PngInfo()
    facts = {"mpp": tissue.mpp, "downsample": tissue.downsample, "method": METHOD}
    for name, value in facts.items():
        texts.add_text(name, str(value))
    with writing("the mask", path, fix="Choose another --out"), replacing(path) as part:
        dpi = 25_400 / tissue.mpp
        Image.fromarray(grey).save(part, format="PNG", pnginfo=texts, dpi=(dpi, dpi))


def _feature(
    kind: str, name: str, piece: Outline, tissue: TissueMask, bounds: Box, layout: Layout | None
) -> dict[str, Any]:
    polygons = [[_placed(ring, tissue) for ring in rings] for rings in piece.polygons]
    area = sum(_area(ring) for rings in polygons for ring in rings)
    coordinates = [[_closed(ring - (bounds.x, bounds.y)) for ring in rings] for rings in polygons]
    is_one = len(coordinates) == 1
    x, y = (piece.polygons[0][0][0] + 0.5) * tissue.scale  # its first pixel
    part = layout.part_at(x, y) if layout is not None else None
    return {
        "type": "Feature",
        "geometry": {
            "type": "Polygon" if is_one else "MultiPolygon",
            "coordinates": coordinates[0] if is_one else coordinates,
        },
        "properties": {
            "objectType": "annotation",
            "name": name,
            "classification": {"name": kind, "color": COLORS[kind]},
            "measurements": {"area mm2": area * (tissue.slide_mpp / 1000) ** 2, "mask mpp": tissue.mpp},
            "metadata": {"method": METHOD} | ({"part": part} if part else {}),
        },
    }


def _placed(ring: Ring, tissue: TissueMask) -> np.ndarray:
    """(P, 2) float64: a ring in level-0 px; what lies beyond the slide's edge is cut off."""
    return np.minimum(ring * tissue.scale, (tissue.slide_box.w, tissue.slide_box.h))


def _area(ring: np.ndarray) -> float:
    """Area of a ring, below zero for a hole."""
    x, y = ring[:, 0], ring[:, 1]
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def _closed(ring: np.ndarray) -> list[list[float]]:
    """The corners as JSON takes them, the first once more at the end; whole numbers as such."""
    corners = np.round(np.concatenate([ring, ring[:1]]), 3).tolist()
    return [[int(v) if v.is_integer() else v for v in corner] for corner in corners]
