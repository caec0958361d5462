"""DICOM whole-slide images: a slide is a series, spread over files (instances) of any name.

Its levels, and its label, overview and thumbnail, are an instance each, or several.
"""

from __future__ import annotations

import struct
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core_model.slides.kinds import is_dicom

WHOLE_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"
"""SOP class VL Whole Slide Microscopy Image Storage."""

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


def read_instance(path: Path) -> Instance | None:
    """The instance of a whole-slide series that a DICOM file holds; None where it holds another object.

    One that cannot be read counts as another object. Raises `OSError`.
    """
    from pydicom.errors import InvalidDicomError
    from pydicom.filereader import read_partial

    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # values against the standard: only few are looked at
            header = read_partial(file, stop_when=lambda tag, vr, length: int(tag) > _LAST_TAG)
            return _instance(path, header)
    except (InvalidDicomError, ValueError, TypeError, LookupError, NotImplementedError, EOFError,
            AttributeError, struct.error):  # fmt: skip
        return None


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
