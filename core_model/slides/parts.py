"""The files of one slide: its main file, and those that belong to it without being slides themselves.

x.vms, x.vmu      Hamamatsu: an index that names JPEG parts, a map, an optimisation file, a macro image
x.mrxs, x/        MIRAX: the folder beside it holds the data
x.vsi, _x_/       Olympus: likewise
x.zarr/           OME-Zarr: a folder with a file for each tile
*.dcm             DICOM: the instances of a series in one folder
"""

from __future__ import annotations

import os
import re
import struct
import warnings
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

from core_model.errors import SlideError
from core_model.files import safe_name


class NotASlide(SlideError):
    """A file that is a part of a slide, or its label, macro or overview image."""

    kind: Kind = "other"


WHOLE_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"
"""SOP class VL Whole Slide Microscopy Image Storage."""

_DAMAGED = (
    *(ValueError, TypeError, LookupError, NotImplementedError, EOFError, AttributeError, RecursionError),
    struct.error,
)
"""What pydicom raises where a file is damaged, besides its own error."""

_LONGEST_VALUE = 1 << 16
"""Bytes of an element's value above which it is not read: none that is looked at is longer."""

_LAST_TAG = 0x00480007
"""Rows of the total pixel matrix; nothing behind it is read, so that tables of frames cost nothing."""


@dataclass(frozen=True)
class Instance:
    """One file of a series."""

    path: Path
    series: str
    """Series instance UID."""
    kind: str
    """VOLUME for pixels of the slide at some level; LABEL, OVERVIEW, THUMBNAIL."""
    columns: int
    """Width of its level, px."""

    @property
    def is_level(self) -> bool:
        """Whether it shows the slide itself."""
        return self.kind == "VOLUME"


SUFFIXES = (
    *(".svs", ".tif", ".tiff", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".czi", ".dcm"),
    *(".svslide", ".qptiff", ".btf", ".png", ".jpg", ".jpeg", ".vsi", ".isyntax", ".zarr"),
)
"""Suffixes of slides; those that no reader here opens yet are found all the same, so that they are told."""

PICTURES, TIFFS = (".png", ".jpg", ".jpeg"), (".tif", ".tiff")

HAMAMATSU, MIRAX, OLYMPUS, DICOM, ZARR = (".vms", ".vmu"), ".mrxs", ".vsi", ".dcm", ".zarr"
CZI, ISYNTAX = ".czi", ".isyntax"

_PREAMBLE = 128
"""Bytes before the mark of a DICOM file."""

_ZARR_FILES = (".zattrs", ".zgroup", "zarr.json")
_ZARR_TABLES = (*_ZARR_FILES, ".zarray", ".zmetadata")

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


MIRAX_INDEX = "Slidedat.ini"
_MOST_INDEX = 1 << 20
"""Bytes of a Hamamatsu index that are read; real ones have a few thousand."""


DEEPEST = 10
"""Folders of a store in which a tile may lie, one in the other: a series, a level, and five axes."""

MOST_FILES = 1_000_000
"""Files of one slide; with tiles of 512 px and a file for each colour a large one has 200,000."""


def parts_of(path: Path) -> list[Path]:
    """Every file of the slide that is opened by `path`, itself first; of a store all that lie in it.

    Raises `OSError`, and `SlideError` where there are more than `MOST_FILES`.
    """
    if is_url(path):
        return []
    if path.is_dir():
        return files_below(path)
    suffix = path.suffix.lower()
    if suffix in HAMAMATSU:
        return [path, *(path.with_name(name) for name in index_names(path) if name != path.name)]
    if suffix == MIRAX and path.with_suffix("").is_dir():
        return [path, *sorted(p for p in path.with_suffix("").iterdir() if p.is_file())]
    if suffix == OLYMPUS and (data := path.with_name(f"_{path.stem}_")).is_dir():
        return [path, *files_below(data)]
    if is_dicom(path):
        return [path, *(item.path for item in series_of(path) if item.path != path)]
    return [path]


def files_below(folder: Path) -> list[Path]:
    """Every file in a folder and below, sorted; links are followed. Raises `OSError`, `SlideError`."""

    def fail(error: OSError) -> None:
        raise error

    files: list[Path] = []
    for number, (home, _, names) in enumerate(os.walk(folder, onerror=fail, followlinks=True)):
        files += [Path(home, name) for name in names]
        if len(files) + number > MOST_FILES:
            raise SlideError(
                f"it has more than {MOST_FILES:,} files", where=folder, fix="Write it with larger tiles"
            )
    return sorted(files)


def index_names(path: Path) -> list[str]:
    """The files beside a Hamamatsu index that it names, sorted. Raises `OSError`."""
    with path.open("rb") as file:
        lines = file.read(_MOST_INDEX).splitlines()
    values = {os.fsdecode(line.partition(b"=")[2].strip()) for line in lines if b"=" in line}
    return sorted(name for name in values if is_file_name(name) and path.with_name(name).is_file())


def owner_of(path: Path) -> Path | None:
    """The main file of the slide that `path` is a mere part of; None where it is none. Raises `OSError`."""
    store = next(
        (folder for folder in path.absolute().parents[:DEEPEST] if folder.suffix.lower() == ZARR), None
    )
    if store is not None:
        return store
    for folder in path.absolute().parents[:3]:
        name, beside = folder.name, folder.parent
        if (folder / MIRAX_INDEX).is_file() and (beside / (name + MIRAX)).is_file():
            return beside / (name + MIRAX)
        if name.startswith("_") and name.endswith("_") and (beside / (name[1:-1] + OLYMPUS)).is_file():
            return beside / (name[1:-1] + OLYMPUS)
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


def is_file_name(name: str) -> bool:
    """Whether it names something in the same folder: no path, no parent, no drive."""
    return name not in ("", ".", "..") and not set(name) & set("/\\\0") and len(name) < 256


def read_instance(path: Path) -> Instance | None:
    """The instance of a whole-slide series that a DICOM file holds; None where it holds another object.

    One that cannot be read counts as another object. Raises `OSError`.
    """
    from pydicom.errors import InvalidDicomError
    from pydicom.filereader import read_partial

    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # values against the standard: only few are looked at
            if is_packed(path):
                return None
            ends = partial(_is_behind, _LAST_TAG)
            return _instance(path, read_partial(file, stop_when=ends, defer_size=_LONGEST_VALUE))
    except (InvalidDicomError, *_DAMAGED):
        return None


def is_packed(path: Path) -> bool:
    """Whether a DICOM file is deflated as a whole: no slide is, and it may unpack to any size.

    One whose first elements cannot be read is not. Raises `OSError`.
    """
    from pydicom.errors import InvalidDicomError
    from pydicom.filereader import read_file_meta_info
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    try:
        syntax = read_file_meta_info(path).get("TransferSyntaxUID", "")
    except (InvalidDicomError, *_DAMAGED):
        return False
    return str(syntax) == DeflatedExplicitVRLittleEndian


def _is_behind(last: int, tag: Any, vr: str | None, length: int) -> bool:
    return int(tag) > last


def series_in(folder: Path) -> dict[str, list[Instance]]:
    """The whole-slide series with instances in a folder itself, by their UID. Raises `OSError`."""
    found: dict[str, list[Instance]] = {}
    for path in sorted(folder.iterdir()):
        if path.is_file() and is_dicom(path) and (instance := read_instance(path)) is not None:
            found.setdefault(instance.series, []).append(instance)
    return found


def main_instance(instances: list[Instance]) -> Instance | None:
    """The instance by which a series is opened: of its finest level; None where it has no level."""
    levels = [instance for instance in instances if instance.is_level]
    # OpenSlide looks for the others beside it: of copies that which has the most.
    beside = Counter(instance.path.parent for instance in levels)
    return max(
        levels, key=lambda item: (item.columns, beside[item.path.parent], str(item.path)), default=None
    )


def _instance(path: Path, header: Any) -> Instance | None:
    if str(header.get("SOPClassUID", "")) != WHOLE_SLIDE:
        return None
    words = [str(word).upper() for word in header.get("ImageType", ())]
    kind = words[2] if len(words) > 2 else ""
    return Instance(path, str(header.SeriesInstanceUID), kind, int(header.get("TotalPixelMatrixColumns", 0)))


def is_dicom(path: Path) -> bool:
    """Whether the file begins as a DICOM file does. Raises `OSError`."""
    with path.open("rb") as file:
        return file.read(_PREAMBLE + 4)[_PREAMBLE:] == b"DICM"


def is_url(path: Path) -> bool:
    """Whether a path stands for the address of a slide on a server; of its two slashes a path keeps one."""
    return path.parts[:1] in (("https:",), ("http:",))


def from_anywhere(path: Path) -> Path:
    """The path by which a process in another folder finds the same slide."""
    return path if is_url(path) else path.absolute()


def is_zarr(path: Path) -> bool:
    """Whether a folder is a Zarr store."""
    return path.is_dir() and (
        path.suffix.lower() == ZARR or any((path / name).is_file() for name in _ZARR_FILES)
    )


def is_store_table(path: Path) -> bool:
    """Whether a file of a Zarr store says what the others are."""
    return path.name in _ZARR_TABLES


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


def slide_name(path: Path) -> str:
    """The name of the slide that `path` opens: the file's stem, made printable.

    Of a DICOM series that has its folder to itself it is the folder's name.
    """
    if is_url(path):
        return safe_name(path.name)  # an UID, whose last number is no suffix
    try:
        if path.is_file() and is_dicom(path):
            if is_alone(path) and path.absolute().parent.name:
                return safe_name(path.absolute().parent.name)
            if path.suffix.lower() != DICOM:
                return safe_name(path.name)  # likewise
    except OSError:
        pass  # opening it says what is wrong
    return safe_name(path.stem)


def main_file(path: Path) -> Path:
    """The main file of a slide that is named by one of its files. Raises `NotASlide`."""
    if not path.is_file():
        return path
    if is_dicom(path):
        return _main_of_series(path)
    if (owner := owner_of(path)) is not None:
        raise _refused("part", f"this is a part of {owner.name}", path, f"Name {owner} in its place")
    if (kind := associated_kind(path)) is not None:
        raise _refused(
            "associated",
            f"by its name this is the {kind} image of a slide",
            path,
            "If it is a scan, give the file another name",
        )
    if path.suffix.lower() in PICTURES and (scan := _scan_beside(path)) is not None:
        raise _refused(
            "picture", f"by its name this is a picture of {scan}", path, "If it is a scan, rename it"
        )
    return path


def _main_of_series(path: Path) -> Path:
    instances = series_of(path)
    if not instances:
        return path
    main = main_instance(instances)
    if main is None:
        own = next(item for item in instances if item.path == path)
        fix = "Name a folder or file that holds the slide itself"
        raise _refused("associated", f"this is the {image_kind(own)} image of a slide", path, fix)
    return main.path


def _refused(kind: Kind, what: str, path: Path, fix: str) -> NotASlide:
    error = NotASlide(what, where=path, fix=fix)
    error.kind = kind
    return error


def _scan_beside(path: Path) -> str | None:
    """A scanner's file in the same folder whose name the picture's begins with."""
    for other in sorted(path.parent.iterdir()):
        suffix = other.suffix.lower()
        is_scan = suffix in SUFFIXES and suffix not in (*PICTURES, *TIFFS)
        if is_scan and path.stem.casefold().startswith(other.stem.casefold()):
            return other.name
    return None


def image_kind(instance: Instance) -> str:
    return instance.kind.lower() or "additional"
