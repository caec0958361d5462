"""Where pixels come from: OpenSlide for whole-slide formats, Pillow for plain images.

Both give the same small interface, `PixelSource`; everything above works on level pixels of it.
"""

from __future__ import annotations

import os
import queue
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Protocol

import openslide
from PIL import Image

from core_model.errors import SlideError
from core_model.slides.kinds import PICTURES, TIFFS, ZARR, is_zarr
from core_model.slides.parts import parts_of
from core_model.slides.plain import PlainSource, on_background
from core_model.slides.tiff import check_tiled, is_tiff, ome_mpp

CACHE_BYTES = 64 << 20
"""Decoded tiles kept per slide, shared by all its handles."""

UNREAD = {".vsi": "Olympus VSI", ".isyntax": "Philips iSyntax", ZARR: "OME-Zarr"}
"""Formats of slides for which there is no reader here."""

PLAIN = (*PICTURES, *TIFFS, "")
"""Suffixes of plain images. A scanner's file that OpenSlide refuses must not be read as one: what decodes in
it may be its label (VSI) or its macro image (MRXS)."""


class DecodeError(Exception):
    """A rectangle that did not decode; `Slide` turns it into `RegionUnreadable` with the box."""


class PixelSource(Protocol):
    """An open image pyramid."""

    vendor: str
    properties: Mapping[str, str]
    level_dimensions: tuple[tuple[int, int], ...]
    """Width and height per level, level 0 first."""

    def tile_size(self, level: int) -> tuple[int, int]:
        """Width and height of the tiles in which the file holds a level."""

    def read_level(
        self, level: int, x: int, y: int, w: int, h: int
    ) -> tuple[Image.Image, tuple[float, float]]:
        """RGB of a rectangle in pixels of `level`, and how far (right, down) its true origin lies from x, y.

        The offset is below one level-0 pixel. Raises `DecodeError`.
        """

    def close(self) -> None:
        """Free the file."""


class OpenSlideSource:
    """A slide that OpenSlide reads.

    OpenSlide's errors are sticky and spread to whoever shares the handle. So a handle serves one read
    at a time, and one that failed is closed and never used again.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._cache = openslide.OpenSlideCache(CACHE_BYTES)
        self._idle: queue.SimpleQueue[openslide.OpenSlide] = queue.SimpleQueue()
        self._closed = False
        first = self._open()
        self.properties: Mapping[str, str] = dict(first.properties)
        self.vendor = self.properties.get("openslide.vendor", "unknown")
        self.level_dimensions = tuple((int(w), int(h)) for w, h in first.level_dimensions)
        self._downsamples = tuple(float(d) for d in first.level_downsamples)
        self._background = "#" + self.properties.get("openslide.background-color", "ffffff")
        self._idle.put(first)

    def check(self) -> None:
        """Raise `SlideError` where OpenSlide would show something else than the file holds."""
        if not is_tiff(self._path):
            return
        pages = check_tiled(self._path, self.vendor, self.level_dimensions[0])
        stated = ome_mpp(pages)
        if stated is not None and "openslide.mpp-x" not in self.properties:
            names = ("openslide.mpp-x", "openslide.mpp-y")
            self.properties = {**self.properties, **dict(zip(names, map(str, stated), strict=True))}

    def tile_size(self, level: int) -> tuple[int, int]:
        """Width and height of the file's tiles; 256 px where OpenSlide does not say."""
        names = (f"openslide.level[{level}].tile-{side}" for side in ("width", "height"))
        width, height = (int(self.properties.get(name, 256)) for name in names)
        return max(width, 1), max(height, 1)

    def _open(self) -> openslide.OpenSlide:
        try:
            handle = openslide.OpenSlide(str(self._path))
            handle.set_cache(self._cache)
        except (openslide.OpenSlideError, OSError) as error:
            reason = self._told(error)
            raise SlideError(f"OpenSlide cannot open it ({reason})", where=self._path) from error
        return handle

    def _told(self, error: Exception) -> str:
        """What OpenSlide says, without folders and names of files that belong to the slide.

        They may name a patient, and the words go into run folders and to models.
        """
        text = str(error)
        for name in self._part_names:
            text = text.replace(name, "a file of it")
        return text.replace(f"{self._path.parent}{os.sep}", "")

    @cached_property
    def _part_names(self) -> list[str]:
        """Paths and names of the slide's files, longest first; none where they cannot be listed."""
        try:
            parts = parts_of(self._path)[1:]
        except OSError:
            return []
        return sorted({*map(str, parts), *(part.name for part in parts)}, key=len, reverse=True)

    def _borrow(self) -> openslide.OpenSlide:
        if self._closed:
            raise SlideError("the slide is closed", where=self._path)
        try:
            return self._idle.get_nowait()
        except queue.Empty:
            return self._open()

    def read_level(
        self, level: int, x: int, y: int, w: int, h: int
    ) -> tuple[Image.Image, tuple[float, float]]:
        """RGB of a rectangle and its offset; unscanned parts get the slide's background colour."""
        factor = self._downsamples[level]
        level_w, level_h = self.level_dimensions[level]
        # OpenSlide takes the origin in whole level-0 pixels and interpolates to the fraction that
        # leaves; rounding down at the far edges keeps the read inside the level.
        x0 = int(x * factor) if x + w >= level_w else round(x * factor)
        y0 = int(y * factor) if y + h >= level_h else round(y * factor)
        handle = self._borrow()
        try:
            rgba = handle.read_region((x0, y0), level, (w, h))
        except (openslide.OpenSlideError, OSError) as error:
            handle.close()
            raise DecodeError(self._told(error)) from error
        self._idle.put(handle)
        return on_background(rgba, self._background), (x0 / factor - x, y0 / factor - y)

    def close(self) -> None:
        """Close the idle handles; a read in progress ends first and its handle goes with the object."""
        self._closed = True
        while True:
            try:
                self._idle.get_nowait().close()
            except queue.Empty:
                return


def open_source(path: Path) -> PixelSource:
    """Open the main file of a slide with the reader that its content asks for; raises `SlideError`."""
    try:
        _check_file(path)
        if openslide.OpenSlide.detect_format(str(path)) is None:
            if path.suffix.lower() in PLAIN:
                return PlainSource(path)
            raise SlideError(
                "this is no slide that OpenSlide reads; it may be truncated, or lack its other files",
                where=path,
                fix="Copy it again from its source",
            )
        source = OpenSlideSource(path)
        try:
            source.check()
        except BaseException:
            source.close()
            raise
        return source
    except OSError as error:
        raise SlideError(f"it cannot be read ({error.strerror or error})", where=path) from error


def _check_file(path: Path) -> None:
    """Raise where there is nothing to open, or nothing that opens it."""
    suffix = ZARR if is_zarr(path) else path.suffix.lower()
    if suffix in UNREAD and path.exists():
        raise SlideError(
            f"{UNREAD[suffix]} cannot be read",
            where=path,
            fix="Convert it to a pyramidal OME-TIFF, for example with bioformats2raw and raw2ometiff",
        )
    if path.is_dir():
        raise SlideError("this is a folder, not a slide", where=path, fix="Name a slide file in it")
    if not path.exists():
        raise SlideError("there is no such file", where=path)
    if path.stat().st_size == 0:
        raise SlideError("the file is empty", where=path, fix="Copy it again from its source")
