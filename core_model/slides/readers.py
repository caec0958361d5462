"""Which reader opens which slide, and why: the one table.

A reader must raise where a tile is damaged, truncated or missing, and must place pixels as OpenSlide does.
"""

from __future__ import annotations

from pathlib import Path

import openslide

from core_model.errors import SlideError
from core_model.slides.parts import PICTURES, TIFFS, ZARR, is_zarr
from core_model.slides.sources import OpenSlideSource, PixelSource, PlainSource

UNREAD = {".vsi": "Olympus VSI", ".isyntax": "Philips iSyntax", ZARR: "OME-Zarr"}
"""Formats of slides for which there is no reader here."""

PLAIN = (*PICTURES, *TIFFS, "")
"""Suffixes of plain images. A scanner's file that OpenSlide refuses must not be read as one: what decodes in
it may be its label (VSI) or its macro image (MRXS)."""


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
