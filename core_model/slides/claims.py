"""What the files of a slide claim, checked before any pixel is read: names of other files, links, sizes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from core_model.errors import SlideError
from core_model.slides.parts import (
    HAMAMATSU,
    MIRAX,
    MIRAX_INDEX,
    is_dicom,
    is_file_name,
    is_packed,
    parts_of,
)

if TYPE_CHECKING:
    from core_model.slides.sources import PixelSource

MOST_INDEX = 1 << 20
"""Bytes of an index that names files; real ones have a few thousand."""

MOST_AREA = 10**12
"""Pixels of level 0. The largest scans have some 10¹¹."""

MOST_PER_BYTE = 20_000
"""Pixels that a byte of a file may stand for: JPEG keeps 400 of an empty slide, the densest codecs 10,000."""

MOST_TILE = 1 << 27
"""Pixels of a tile. A plain image is one tile, and is held in memory."""

SMALL = 1 << 26
"""Pixels below which a level does no harm, whatever its file says."""

_NAMES_FILE = re.compile(r"(?:.*(?:File|Image)(?:\([\d,\s]*\))?|FILE_\d+|INDEXFILE)", re.IGNORECASE)
"""Keys of a Hamamatsu index or of a MIRAX Slidedat.ini whose value OpenSlide opens as a file."""

_HAMAMATSU = b"Virtual Microscope Specimen]"


def check_names(main: Path) -> None:
    """Raise `SlideError` where an index of the slide names a file that is not beside it.

    Raises `OSError` where it cannot be read.
    """
    if not main.is_file():
        return
    if main.suffix.lower() == MIRAX:
        index = main.with_suffix("") / MIRAX_INDEX
        if index.is_file():
            _check_index(main, index)
    elif _is_hamamatsu(main):
        if main.suffix.lower() not in HAMAMATSU:
            raise SlideError(
                "this is a Hamamatsu index under another suffix", where=main, fix="Rename it to .vms or .vmu"
            )
        _check_index(main, main)


def check_links(main: Path) -> None:
    """Raise `SlideError` where a file that belongs to the slide is a link that leads out of its folder.

    The main file itself may be a link: the user named it. Raises `OSError`.
    """
    home = (main if main.is_dir() else main.parent).resolve(strict=True)
    links = _links_below(main) if main.is_dir() else parts_of(main)[1:] if main.exists() else []
    if all(link.resolve(strict=True).is_relative_to(home) for link in links):
        return
    raise SlideError(
        "a file of it is a link that leads out of its folder",
        where=main,
        fix="Copy the files themselves, or give --no-isolate if you trust the slide",
    )


def _links_below(folder: Path) -> Iterator[Path]:
    """Links to files and folders in a folder and below, without going through any."""
    for home, folders, names in os.walk(folder):
        for name in (*folders, *names):
            if (path := Path(home, name)).is_symlink():
                yield path


def check_packing(main: Path) -> None:
    """Raise `SlideError` where the slide is a DICOM file that is packed as a whole. Raises `OSError`."""
    if main.is_file() and is_dicom(main) and is_packed(main):
        raise SlideError(
            "this is a DICOM file that is deflated as a whole, which may unpack to any size",
            where=main,
            fix="Write it without that, for example with `dcmconv +te`",
        )


def check_size(main: Path, source: PixelSource) -> None:
    """Raise `SlideError` where levels or tiles are larger than those of slides, or than what files can hold.

    Raises `OSError`.
    """
    for level, _ in enumerate(source.level_dimensions):
        w, h = source.tile_size(level)
        if w * h > MOST_TILE:
            raise SlideError(f"its tiles claim to be {w:,} x {h:,} px, which cannot be read", where=main)
    width, height = max(source.level_dimensions, key=lambda size: size[0] * size[1])
    area = width * height
    if area > MOST_AREA:
        raise SlideError(f"it claims to be {width:,} x {height:,} px, which no slide is", where=main)
    if area <= SMALL:
        return
    size = sum(part.stat().st_size for part in parts_of(main))
    if area > size * MOST_PER_BYTE:
        raise SlideError(
            f"it claims to be {width:,} x {height:,} px, which {size:,} bytes cannot hold",
            where=main,
            fix="Copy it again from its source",
        )


def _is_hamamatsu(path: Path) -> bool:
    if path.stat().st_size > MOST_INDEX and path.suffix.lower() not in HAMAMATSU:
        return False
    with path.open("rb") as file:
        return _HAMAMATSU in file.read(MOST_INDEX)


def _check_index(main: Path, index: Path) -> None:
    with index.open("rb") as file:
        text = file.read(MOST_INDEX + 1)
    if len(text) > MOST_INDEX:
        raise SlideError("the index of its files is too long", where=main)
    for line in text.splitlines():
        key, equals, value = (os.fsdecode(part.strip()) for part in line.partition(b"="))
        if equals and value and _NAMES_FILE.fullmatch(key) and not is_file_name(value):
            raise SlideError(
                "its index names a file that is not beside it, which is not followed",
                where=main,
                fix="Put the files of the slide into one folder",
            )
