"""Which reader opens which slide, and why: the one table.

A reader must raise where a tile is damaged, truncated or missing, and must place pixels as OpenSlide does.
"""

from __future__ import annotations

from pathlib import Path

import openslide

from core_model.errors import SlideError
from core_model.slides.parts import PICTURES, TIFFS, ZARR, is_zarr
from core_model.slides.sources import OpenSlideSource, PixelSource, PlainSource
from core_model.slides.tiff import is_tiff, read_pages, scan_page
from core_model.slides.tiff_source import by_own_tiles, open_tiff

UNREAD = {".vsi": "Olympus VSI", ".isyntax": "Philips iSyntax", ZARR: "OME-Zarr"}
"""Formats of slides for which there is no reader here."""

GENERIC = "generic-tiff"
"""What OpenSlide calls a tiled TIFF of no scanner that it knows."""

OWN_TILES = ("aperio", GENERIC)
"""Formats whose levels are whole pages of tiles that lie side by side: tiles are decoded here, five to ten
times as fast as by OpenSlide, bit for bit the same. Others are left to it: Philips leaves out tiles where
nothing was scanned, Ventana, Trestle and MIRAX place tiles with overlaps, Leica places areas on one canvas,
Hamamatsu cuts one JPEG by its restart markers, DICOM has frames. JPEG 2000 is left to it too."""

HELD_WHOLE = 1 << 26
"""Pixels of an untiled TIFF up to which it is decoded whole, at opening."""

TIFF_SUFFIXES = (*TIFFS, ".qptiff", ".btf", "")
"""Suffixes of TIFFs of no scanner that OpenSlide knows."""

PLAIN = (*PICTURES, *TIFFS, "")
"""Suffixes of plain images. A scanner's file that OpenSlide refuses must not be read as one: what decodes in
it may be its label (VSI) or its macro image (MRXS)."""


def open_source(path: Path) -> PixelSource:
    """Open the main file of a slide with the reader that its content asks for; raises `SlideError`."""
    try:
        _check_file(path)
        vendor = openslide.OpenSlide.detect_format(str(path))
        if vendor in (None, GENERIC) and is_tiff(path) and path.suffix.lower() in TIFF_SUFFIXES:
            source = _tiff(path, vendor)
            if source is not None:
                return source
        if vendor is None:
            if path.suffix.lower() in PLAIN:
                return PlainSource(path)
            raise SlideError(
                "this is no slide that OpenSlide reads; it may be truncated, or lack its other files",
                where=path,
                fix="Copy it again from its source",
            )
        return _openslide(path, vendor)
    except OSError as error:
        raise SlideError(f"it cannot be read ({error.strerror or error})", where=path) from error


def _tiff(path: Path, vendor: str | None) -> PixelSource | None:
    """A TIFF that OpenSlide does not know, or of which it would show another page than the scan."""
    pages = read_pages(path)
    page = scan_page(path, pages)
    if vendor == GENERIC and page.number == 0:
        return None
    held_whole = not page.tiled and not page.reduced and page.area <= HELD_WHOLE
    return None if vendor is None and held_whole else open_tiff(path, page, pages)


def _openslide(path: Path, vendor: str) -> PixelSource:
    """A slide that OpenSlide knows, its tiles decoded by us where `OWN_TILES` says so."""
    source = OpenSlideSource(path)
    try:
        source.check()
        return by_own_tiles(path, source) if vendor in OWN_TILES else source
    except BaseException:
        source.close()
        raise


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
