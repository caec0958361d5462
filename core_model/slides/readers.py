"""Which reader opens which slide, and why: the one table.

A reader must raise where a tile is damaged, truncated or missing, and must place pixels as OpenSlide does.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import openslide

from core_model.errors import SlideError
from core_model.slides.file_tiles import JPEG2000
from core_model.slides.parts import CZI, ISYNTAX, OLYMPUS, PICTURES, TIFFS, ZARR, is_dicom, is_zarr
from core_model.slides.sources import ExtraMissing, OpenSlideSource, PixelSource, PlainSource
from core_model.slides.tiff import is_tiff, read_pages, scan_page
from core_model.slides.tiff_source import by_own_tiles, open_tiff

Opener = Callable[[Path], PixelSource]

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
        if (opener := OWN_LIBRARY.get(ZARR if is_zarr(path) else path.suffix.lower())) is not None:
            return opener(path)
        vendor = openslide.OpenSlide.detect_format(str(path))
        if vendor in (None, GENERIC) and is_tiff(path) and path.suffix.lower() in TIFF_SUFFIXES:
            source = _tiff(path, vendor)
            if source is not None:
                return source
        behind = _behind_openslide(path)
        if vendor is not None:
            return _openslide(path, vendor) if behind is None else _either(path, vendor, behind)
        if behind is not None:
            return behind(path)
        if path.suffix.lower() in PLAIN:
            return PlainSource(path)
        raise SlideError(
            "this is no slide that OpenSlide reads; it may be truncated, or lack its other files",
            where=path,
            fix="Copy it again from its source",
        )
    except OSError as error:
        raise SlideError(f"it cannot be read ({error.strerror or error})", where=path) from error


def _behind_openslide(path: Path) -> Opener | None:
    """What reads a format of which OpenSlide opens some files and others not."""
    if path.suffix.lower() == CZI:
        return _czi
    return _dicom if is_dicom(path) else None


def _either(path: Path, vendor: str, behind: Opener) -> PixelSource:
    """By OpenSlide, and where it does not open the file by what is behind it."""
    try:
        return _openslide(path, vendor)
    except SlideError as error:
        refusal = error
    try:
        return behind(path)
    except ExtraMissing as error:
        raise SlideError(
            refusal.what, where=path, fix=f"What reads more of it is an extra: {error.fix}"
        ) from error


def _tiff(path: Path, vendor: str | None) -> PixelSource | None:
    """A TIFF that OpenSlide does not know, or of which it would show another page than the scan."""
    pages = read_pages(path)
    page = scan_page(path, pages)
    if vendor == GENERIC and page.number == 0 and page.compression != JPEG2000:
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


def _ome_zarr(path: Path) -> PixelSource:
    from core_model.slides.formats.ome_zarr import open_ome_zarr

    return open_ome_zarr(path)


def _czi(path: Path) -> PixelSource:
    from core_model.slides.formats.czi import open_czi

    return open_czi(path)


def _dicom(path: Path) -> PixelSource:
    from core_model.slides.formats.dicom import open_dicom

    return open_dicom(path)


def _fastslide(path: Path) -> PixelSource:
    from core_model.slides.formats.by_fastslide import open_by_fastslide

    return open_by_fastslide(path)


OWN_LIBRARY: dict[str, Opener] = {ZARR: _ome_zarr, OLYMPUS: _fastslide, ISYNTAX: _fastslide}
"""Formats of which OpenSlide opens no file. fastslide is for those alone that nothing else reads: it does not
notice damaged tiles, and one of zeros keeps it for ever."""


def _check_file(path: Path) -> None:
    """Raise where there is nothing to open."""
    if path.is_dir() and not is_zarr(path):
        raise SlideError("this is a folder, not a slide", where=path, fix="Name a slide file in it")
    if not path.exists():
        raise SlideError("there is no such file", where=path)
    if path.is_file() and path.stat().st_size == 0:
        raise SlideError("the file is empty", where=path, fix="Copy it again from its source")
