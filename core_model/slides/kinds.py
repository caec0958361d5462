"""What a file or folder is by its name and first bytes: which suffixes slides have, which images are none."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, NamedTuple

SUFFIXES = (
    *(".svs", ".tif", ".tiff", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".czi", ".dcm"),
    *(".svslide", ".png", ".jpg", ".jpeg", ".vsi", ".isyntax", ".zarr"),
)
"""Suffixes of slides; those that no reader here opens yet are found all the same, so that they are told."""

PICTURES, TIFFS = (".png", ".jpg", ".jpeg"), (".tif", ".tiff")
HAMAMATSU, MIRAX, OLYMPUS, DICOM, ZARR = (".vms", ".vmu"), ".mrxs", ".vsi", ".dcm", ".zarr"
_PREAMBLE = 128
"""Bytes before the mark of a DICOM file."""
_ZARR_FILES = (".zattrs", ".zgroup", "zarr.json")

_WORDS = "label|macro|overview|thumbnail|thumb|barcode"
_ASSOCIATED = re.compile(
    rf"(?:.*[\s_.\-])?({_WORDS})(?:[\s_.\-]?(?:image|img|photo))?[\s_.\-]?\d*|({_WORDS})[\s_.\-].*",
    re.IGNORECASE | re.DOTALL,
)
_FOLDER = re.compile(rf"({_WORDS})s?", re.IGNORECASE)

Kind = Literal["part", "associated", "picture", "link", "suffix", "ours", "other"]
"""Why something is no slide: a part of one, an image that belongs to one, a picture beside slides, a link
that leads nowhere or in circles, an unknown suffix, results of giant, anything else."""


class Skipped(NamedTuple):
    """A file or folder that is not taken for a slide."""

    path: Path
    kind: Kind
    why: str


def is_dicom(path: Path) -> bool:
    """Whether the file begins as a DICOM file does. Raises `OSError`."""
    with path.open("rb") as file:
        return file.read(_PREAMBLE + 4)[_PREAMBLE:] == b"DICM"


def is_zarr(path: Path) -> bool:
    """Whether a folder is a Zarr store."""
    return path.is_dir() and (
        path.suffix.lower() == ZARR or any((path / name).is_file() for name in _ZARR_FILES)
    )


def associated_kind(path: Path) -> str | None:
    """ "label", "macro" …, where the name of a plain image says that it is one."""
    if path.suffix.lower() not in (*PICTURES, *TIFFS):
        return None
    match = _ASSOCIATED.fullmatch(path.stem)
    return (match[1] or match[2]).lower() if match else None


def folder_kind(folder: Path) -> str | None:
    """Likewise, where the name of a folder says that it holds such images."""
    match = _FOLDER.fullmatch(folder.name)
    return match[1].lower() if match else None
