"""Zeiss CZI, read with pylibCZIrw where OpenSlide does not: tiles of JPEG XR above all.

A CZI is a canvas on which scenes lie. Where no tile lies nothing was scanned, and the canvas is white; the
file has no list by which a tile could be missed.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from core_model.errors import SlideError
from core_model.slides.formats.bright import check_bright_field
from core_model.slides.formats.grid import Grid, GridSource, extra
from core_model.slides.sources import WARNING, DecodeError

TILE = 512
"""Side of the parts in which the canvas is read, px of a level."""

CACHE_BYTES = 64 << 20
"""Decompressed tiles of the file that pylibCZIrw keeps."""

MOST_TILES = 2_000_000
"""Tiles of all levels; a scan of 100,000 px a side has some 200,000 at 256 px."""

JPEG_XR = 4
"""Number of the compression in the file."""

UNCHECKED = "Its tiles are JPEG XR, whose decoder does not notice most damage: a damaged tile may be shown."

KINDS = {"Gray8": "one channel of grey", "Gray16": "16-bit samples", "Bgr48": "16-bit samples",
         "Gray32Float": "32-bit floating-point numbers", "Bgra32": "4 channels"}  # fmt: skip
"""What 8-bit RGB would not show faithfully, by the pixel type."""


def open_czi(path: Path) -> GridSource:
    """Open a file. Raises `SlideError` where it holds no 8-bit RGB scan."""
    library = extra("pylibCZIrw.czi", "czi", "this CZI", path)
    cache = library.CacheOptions(library.CacheType.Standard, max_memory_usage=CACHE_BYTES)
    try:
        reader = library.CziReader(str(path), cache_options=cache)
    except RuntimeError as error:
        raise SlideError(
            f"pylibCZIrw cannot open it ({error})", where=path, fix="Copy it again from its source"
        ) from error
    try:
        return _source(path, reader)
    except (RuntimeError, ValueError, LookupError) as error:
        reader.close()
        raise SlideError(f"its directory cannot be read ({error})", where=path) from error
    except BaseException:
        reader.close()
        raise


def _source(path: Path, reader: Any) -> GridSource:
    tiles = _Tiles()
    reader.enumerate_subblocks(tiles.add)
    tiles.check(path)
    check_bright_field(reader.raw_metadata, path, rgb=True)
    canvas = _Canvas(reader, sorted(tiles.factors))
    return GridSource(
        path,
        canvas.grids,
        canvas.tile,
        vendor="zeiss",
        reader=f"pylibCZIrw {_version()}",
        properties=_properties(reader.raw_metadata) | ({WARNING: UNCHECKED} if tiles.unchecked else {}),
        free=canvas.close,
    )


class _Tiles:
    """What the directory of a file says of its tiles."""

    def __init__(self) -> None:
        self.kinds: set[str] = set()
        self.positions: dict[str, set[int]] = defaultdict(set)
        """Places that tiles have along each axis beside x and y: focal planes, channels, times."""
        self.factors: set[int] = set()
        """Level-0 px that a pixel spans, of every level."""
        self.unchecked = False
        self._count = 0

    def add(self, number: int, tile: Any) -> bool:
        """Take down one tile; False ends the listing."""
        self._count += 1
        self.kinds.add(str(tile.pixelType).rpartition(".")[2])
        for axis, place in tile.coordinate.to_dict().items():
            self.positions[str(axis).rpartition(".")[2]].add(int(place))
        wide = (tile.logicalRect.w, tile.physicalSize.w), (tile.logicalRect.h, tile.physicalSize.h)
        logical, stored = max(wide)
        if stored > 0:
            self.factors.add(max(1, round(logical / stored)))
        self.unchecked |= tile.compressionModeRaw == JPEG_XR
        return self._count <= MOST_TILES

    def check(self, path: Path) -> None:
        """Raise `SlideError` where there is more, or other, than one plane of 8-bit RGB."""
        if not 0 < self._count <= MOST_TILES or 1 not in self.factors:
            raise SlideError(f"it lists {self._count:,} tiles, or none of full size", where=path)
        for axis, places in self.positions.items():
            if axis not in ("S", "M", "B") and len(places) > 1:
                raise SlideError(
                    f"it holds {len(places)} images of one size (channels, focal planes or time points), of"
                    " which one alone would be shown",
                    where=path,
                    fix="Write the one to look at, or an RGB composite, into a file of its own",
                )
        if strange := self.kinds - {"Bgr24"}:
            kind = min(strange)
            raise SlideError(
                f"it holds {KINDS.get(kind, f'samples of type {kind}')}, which 8-bit RGB cannot show"
                " faithfully",
                where=path,
                fix="Export it from ZEN as 8-bit RGB",
            )


class _Canvas:
    """The canvas of a file at each level."""

    def __init__(self, reader: Any, factors: list[int]) -> None:
        x, y, width, height = reader.total_bounding_rectangle
        self._reader, self._corner = reader, (x, y)
        self._lock = threading.Lock()
        self._factors = [factor for factor in factors if min(width, height) >= factor]
        self.grids = [Grid((width // f, height // f), (TILE, TILE)) for f in self._factors]

    def tile(self, level: int, column: int, row: int) -> np.ndarray:
        """uint8 (h, w, 3) of a part of the canvas. Raises `DecodeError`."""
        x, y, w, h = self.grids[level].on_level(column, row)
        factor = self._factors[level]
        roi = (self._corner[0] + x * factor, self._corner[1] + y * factor, w * factor, h * factor)
        try:
            with self._lock:
                bgr = self._reader.read(
                    roi=roi, plane={"C": 0}, zoom=1 / factor, pixel_type="Bgr24", background_pixel=(1, 1, 1)
                )
        except (RuntimeError, ValueError) as error:
            raise DecodeError(f"a tile of it does not decode ({error})") from error
        return np.ascontiguousarray(bgr[..., ::-1])

    def close(self) -> None:
        """Free the file, once nobody reads in it."""
        with self._lock:
            self._reader.close()


def _properties(metadata: str) -> dict[str, str]:
    """Scale and magnification that the metadata states, under OpenSlide's names."""
    try:
        root = ElementTree.fromstring(metadata)
    except ElementTree.ParseError:
        return {}
    properties = {}
    for axis in "XY":
        metres = _number(root.findtext(f".//Scaling/Items/Distance[@Id='{axis}']/Value"))
        if metres:
            properties[f"openslide.mpp-{axis.lower()}"] = f"{metres * 1e6:.9g}"
    power = _number(root.findtext(".//Objectives/Objective/NominalMagnification"))
    if power:
        properties["openslide.objective-power"] = f"{power:g}"
    return properties


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None


def _version() -> str:
    from importlib.metadata import version

    return version("pylibCZIrw")
