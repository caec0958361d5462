"""The files of one slide: its main file, and those that belong to it without being slides themselves.

x.vms, x.vmu      Hamamatsu: an index that names JPEG parts, a map, an optimisation file, a macro image
x.mrxs, x/        MIRAX: the folder beside it holds the data
x.vsi, _x_/       Olympus: likewise
*.dcm             DICOM: the instances of a series in one folder
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

from core_model.slides.dicom import Instance, read_instance, series_in
from core_model.slides.kinds import HAMAMATSU, MIRAX, OLYMPUS, PICTURES, SUFFIXES, ZARR, is_dicom

MIRAX_INDEX = "Slidedat.ini"
_MOST_INDEX = 1 << 20
"""Bytes of a Hamamatsu index that are read; real ones have a few thousand."""


def parts_of(path: Path) -> list[Path]:
    """Every file of the slide that is opened by `path`, itself first. Raises `OSError`."""
    suffix = path.suffix.lower()
    if suffix in HAMAMATSU:
        return [path, *(path.with_name(name) for name in index_names(path) if name != path.name)]
    if suffix == MIRAX and path.with_suffix("").is_dir():
        return [path, *sorted(p for p in path.with_suffix("").iterdir() if p.is_file())]
    if is_dicom(path):
        return [path, *(item.path for item in series_of(path) if item.path != path)]
    return [path]


def index_names(path: Path) -> list[str]:
    """The files beside a Hamamatsu index that it names, sorted. Raises `OSError`."""
    with path.open("rb") as file:
        lines = file.read(_MOST_INDEX).splitlines()
    values = {os.fsdecode(line.partition(b"=")[2].strip()) for line in lines if b"=" in line}
    return sorted(name for name in values if _is_file_name(name) and path.with_name(name).is_file())


def owner_of(path: Path) -> Path | None:
    """The main file of the slide that `path` is a mere part of; None where it is none. Raises `OSError`."""
    for folder in path.absolute().parents[:3]:
        name, beside = folder.name, folder.parent
        if (folder / MIRAX_INDEX).is_file() and (beside / (name + MIRAX)).is_file():
            return beside / (name + MIRAX)
        if name.startswith("_") and name.endswith("_") and (beside / (name[1:-1] + OLYMPUS)).is_file():
            return beside / (name[1:-1] + OLYMPUS)
        if folder.suffix.lower() == ZARR:
            return folder
    suffix = path.suffix.lower()
    if suffix in SUFFIXES and suffix not in PICTURES:
        return None
    indexes = [p for p in sorted(path.parent.iterdir()) if p.suffix.lower() in HAMAMATSU and p.is_file()]
    return next((index for index in indexes if path.name in index_names(index)), None)


def series_of(path: Path) -> list[Instance]:
    """The instances of a whole-slide DICOM file's series in its folder; none of another object.

    Raises `OSError`.
    """
    own = read_instance(path)
    if own is None:
        return []
    return _series_at(path.parent, path.parent.stat().st_mtime_ns).get(own.series, [own])


def is_alone(path: Path) -> bool:
    """Whether a DICOM file's series is the only one in its folder. Raises `OSError`."""
    return len(_series_at(path.parent, path.parent.stat().st_mtime_ns)) == 1


@lru_cache(maxsize=8)
def _series_at(folder: Path, changed: int) -> dict[str, list[Instance]]:
    """The series of a folder as it was at its last change: every slide in it asks."""
    return series_in(folder)


def _is_file_name(name: str) -> bool:
    return bool(name) and "/" not in name and "\\" not in name and "\0" not in name and len(name) < 256
