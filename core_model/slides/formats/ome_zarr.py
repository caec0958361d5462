"""OME-Zarr, read chunk by chunk with zarr.

In Zarr a chunk that is absent stands for the fill value. Here it is missing: nobody can tell one that was
never written from one that was lost.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

from core_model.errors import SlideError
from core_model.slides.formats.grid import Grid, GridSource, extra
from core_model.slides.formats.ngff import Level, Picture, read_scan
from core_model.slides.sources import DecodeError

SLACK = 1 << 16
"""Bytes by which a packed chunk may be longer than what it holds."""


def open_ome_zarr(path: Path) -> GridSource:
    """Open a store. Raises `SlideError` where it holds no 8-bit RGB scan, and `OSError`."""
    zarr = extra("zarr", "zarr", "OME-Zarr", path)
    picture = read_scan(path)
    try:
        planes = [_Plane(zarr, level, picture) for level in picture.levels]
    except (ValueError, TypeError, LookupError, NotImplementedError) as error:
        raise SlideError(f"zarr does not open it ({error})", where=path) from error
    names = ("openslide.mpp-x", "openslide.mpp-y")
    return GridSource(
        path,
        [plane.grid for plane in planes],
        lambda level, column, row: planes[level].tile(column, row),
        vendor="ome-zarr",
        reader=f"zarr {zarr.__version__}",
        properties=dict(zip(names, map(str, picture.mpp), strict=True)) if picture.mpp else {},
    )


class _Plane:
    """The one plane of a level that is shown."""

    def __init__(self, zarr: Any, level: Level, picture: Picture) -> None:
        self._level, self._axes = level, picture.axes
        store = zarr.storage.LocalStore(level.folder, read_only=True)
        self._array = zarr.open_array(store, mode="r", zarr_format=level.version)
        sides = dict(zip(picture.axes, zip(level.shape, level.chunks, strict=True), strict=True))
        (width, tile_w), (height, tile_h) = sides["x"], sides["y"]
        self.grid = Grid((width, height), (tile_w, tile_h))
        self._groups = -(-sides["c"][0] // sides["c"][1])
        """Chunks that hold the three channels of a place."""
        self._bytes = int(np.prod(level.chunks))

    def tile(self, column: int, row: int) -> np.ndarray:
        """uint8 (h, w, 3) of the chunks at a place. Raises `DecodeError`."""
        x, y, w, h = self.grid.on_level(column, row)
        for channel in range(self._groups):
            self._check_chunk({"x": column, "y": row, "c": channel})
        wanted = {"x": slice(x, x + w), "y": slice(y, y + h), "c": slice(0, 3)}
        try:
            pixels = np.asarray(self._array[tuple(wanted.get(axis, 0) for axis in self._axes)])
        except MemoryError:
            raise
        except Exception as error:  # codecs raise what they like
            raise DecodeError(f"a chunk of it does not decode ({type(error).__name__}: {error})") from error
        left = [axis for axis in self._axes if axis in wanted]
        return pixels.transpose([left.index(axis) for axis in "yxc"])

    def _check_chunk(self, place: dict[str, int]) -> None:
        """Raise where the file of a chunk is missing, or cannot hold what it should."""
        key = self._array.metadata.encode_chunk_key(tuple(place.get(axis, 0) for axis in self._axes))
        path = self._level.folder / key
        try:
            with path.open("rb") as file:
                head = file.read(16)
                size = file.seek(0, 2)
        except FileNotFoundError as error:
            raise DecodeError("a chunk of it is missing") from error
        except OSError as error:
            raise DecodeError(f"a chunk of it cannot be read ({error.strerror})") from error
        codecs = [name for name in self._level.codecs if name not in ("bytes", "transpose")]
        sealed = 4 if codecs and codecs[-1] == "crc32c" else 0
        packed = [name for name in codecs if name != "crc32c"]
        if size == 0 or size > self._bytes + SLACK or (not packed and size != self._bytes + sealed):
            raise DecodeError(f"a chunk of it has {size:,} bytes, and not what it should hold")
        if packed == ["blosc"]:
            self._check_blosc(head, size - sealed)

    def _check_blosc(self, head: bytes, size: int) -> None:
        """The lengths that a Blosc chunk states: its decoder trusts them."""
        if len(head) < 16 or struct.unpack("<4xI4xI", head) != (self._bytes, size):
            raise DecodeError("a chunk of it is truncated, or states another length than it has")
