"""Olympus VSI and Philips iSyntax, read with fastslide: in a child process alone, and with a warning.

fastslide 0.8.1 gives pictures for tiles that are damaged, and never comes back from a JPEG tile of zeros. A
child has a limit of time; the warning stands in the answer.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from core_model.errors import SlideError
from core_model.slides.formats.grid import Grid, GridSource, extra
from core_model.slides.sources import WARNING, DecodeError, NeedsChild

CHILD = "core_model.slides.isolation.child"
"""What the main module of a child is called."""

TILE = 512
"""Side of the parts in which a level is read, px."""

CACHE_BYTES = 64 << 20
"""Decoded tiles of the file that fastslide keeps."""

UNCHECKED = "It is read by fastslide, which does not notice damaged tiles: one may be shown."

CONVERT = "Convert it to a pyramidal OME-TIFF, for example with bioformats2raw and raw2ometiff"


def open_by_fastslide(path: Path) -> GridSource:
    """Open a slide. Raises `SlideError` where it holds no 8-bit RGB scan, `NeedsChild` outside of a child."""
    library = extra("fastslide", "fastslide", "this format", path, otherwise=CONVERT)
    if not in_child():
        raise NeedsChild("it is read in a child process alone", where=path, fix="Give --isolate")
    try:
        slide = library.FastSlide.from_file_path(str(path), apply_icc=False, cache=CACHE_BYTES)
        return _source(path, slide, library.__version__)
    except (RuntimeError, ValueError, TypeError, LookupError) as error:
        raise SlideError(
            f"fastslide cannot open it ({_said(error, path)})", where=path, fix=CONVERT
        ) from error


def in_child() -> bool:
    """Whether this process is one that reads a slide for another, within limits."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return spec is not None and spec.name == CHILD


def _source(path: Path, slide: Any, version: str) -> GridSource:
    image = _scan(slide, path)
    grids = [Grid((int(w), int(h)), (TILE, TILE)) for w, h in image.level_dimensions]

    def tile(level: int, column: int, row: int) -> np.ndarray:
        x, y, w, h = grids[level].on_level(column, row)
        try:
            return np.asarray(image.read_region((x, y), level, (w, h)).to_interleaved().numpy())
        except (RuntimeError, ValueError, TypeError) as error:
            raise DecodeError(f"a tile of it does not decode ({_said(error, path)})") from error

    names = ("openslide.mpp-x", "openslide.mpp-y")
    return GridSource(
        path,
        grids,
        tile,
        vendor="olympus" if path.suffix.lower() == ".vsi" else "philips-isyntax",
        reader=f"fastslide {version}",
        properties=dict(zip(names, map(str, image.mpp), strict=True)) | {WARNING: UNCHECKED},
    )


def _scan(slide: Any, path: Path) -> Any:
    """The largest image of a file, if it is one plane of 8-bit RGB."""
    images = sorted(slide.images, key=lambda item: item.dimensions[0] * item.dimensions[1], reverse=True)
    image = images[0]
    counts = (sum(item.dimensions == image.dimensions for item in images), image.z_count, image.t_count)
    if max(counts) > 1:
        raise SlideError(
            f"it holds {max(counts)} images of one size (scans, focal planes or time points), of which one"
            " alone would be shown",
            where=path,
            fix="Export the one to look at into a file of its own",
        )
    if slide.dtype != "uint8" or image.num_channels != 3:
        raise SlideError(
            f"it holds {image.num_channels} channels of {slide.dtype}, which 8-bit RGB cannot show",
            where=path,
            fix="Export it as 8-bit RGB",
        )
    return image


def _said(error: Exception, path: Path) -> str:
    """The first line of what fastslide says, without folders."""
    lines = str(error).replace(f"{path.parent}/", "").splitlines()
    return lines[0][:200] if lines else type(error).__name__
