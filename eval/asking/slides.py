"""Find a benchmark's slides on disk: as named, under another suffix, in a sub-folder, or as DICOM.

Benchmarks name a slide `TCGA-02-0266-01Z-00-DX1.svs`; downloaded it is `TCGA-02-0266-01Z-00-DX1.<uuid>.svs`,
converted `….tiff`, and as DICOM a folder of `.dcm` files.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from core_model.errors import GiantError
from core_model.slides.discover import slides_under
from core_model.slides.parts import DICOM, SUFFIXES

STORED = (".pt", ".h5")
"""Suffixes under which benchmarks name the features of a slide in place of the slide."""


class Missing(NamedTuple):
    """A slide that is not there."""

    slide: str
    why: str
    """What was looked for."""


class SlideFolder:
    """The slides of a folder and of all folders below it, links too, looked through once.

    Plain pictures beside slides count as well: a benchmark names the file it means.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise GiantError("this is not a folder", where=folder, fix="Check --slides")
        self.folder = folder
        self._names: dict[str, list[Path]] = {}
        self._stems: dict[str, list[Path]] = {}
        self._barcodes: dict[str, list[Path]] = {}
        slides = slides_under([folder])
        pictures = [item.path for item in slides.skipped if item.kind == "picture"]
        for path in [*slides.paths, *pictures]:
            self._enter(path.name, stem_of(path.name), path)
            if _is_series(path) and path.parent != folder:
                self._enter(path.parent.name, path.parent.name, path)

    def find(self, name: str) -> Path:
        """The main file of a slide. Raises `GiantError` naming what was sought."""
        if (self.folder / name).is_file():
            return self.folder / name
        stem = stem_of(name)
        for index, key in (
            (self._names, Path(name).name),
            (self._stems, stem.casefold()),
            (self._barcodes, barcode(stem)),
        ):
            candidates = [path for path in index.get(key, ()) if _may_be(stem, path)] if key else []
            if candidates:
                return self._one(candidates, name)
        raise GiantError(f"the folder holds none of {sought(name)}", where=self.folder, fix="Check --slides")

    def find_all(self, names: Iterable[str]) -> tuple[dict[str, Path], list[Missing]]:
        """The file of each slide that is there, and the others."""
        paths: dict[str, Path] = {}
        missing = []
        for name in dict.fromkeys(names):
            try:
                paths[name] = self.find(name)
            except GiantError as error:
                missing.append(Missing(name, error.what))
        return paths, missing

    def _enter(self, name: str, stem: str, path: Path) -> None:
        self._names.setdefault(name, []).append(path)
        self._stems.setdefault(stem.casefold(), []).append(path)
        if key := barcode(stem):
            self._barcodes.setdefault(key, []).append(path)

    def _one(self, candidates: list[Path], name: str) -> Path:
        """Choose among files of one folder by their suffix. Raises `GiantError` where they lie in several."""
        if len({path.parent for path in candidates}) == 1 and len({_whole(path) for path in candidates}) == 1:
            return min(candidates, key=_usual)
        places = ", ".join(path.relative_to(self.folder).as_posix() for path in candidates[:3])
        raise GiantError(
            f"the folder holds {name} more than once: {places}", where=self.folder, fix="Leave one of them"
        )


def sought(name: str) -> str:
    """The names under which a slide is looked for, in words."""
    stem = stem_of(name)
    more = f", {barcode(stem)}.<uuid> with any of these" if barcode(stem) == stem.upper() else ""
    return f"{Path(name).name}, {stem} with another suffix of a slide, {stem}/*{DICOM}{more}"


def stem_of(name: str) -> str:
    """The file name without the suffix of a slide."""
    name = name.replace("\\", "/").rsplit("/", 1)[-1]
    return Path(name).stem if Path(name).suffix.lower() in (*SUFFIXES, *STORED) else name


def barcode(stem: str) -> str:
    """TCGA's barcode of a slide, without the UUID that downloads carry; empty for other slides."""
    return stem.split(".")[0].upper() if stem.upper().startswith("TCGA-") else ""


def _may_be(stem: str, path: Path) -> bool:
    """Two different UUIDs are two slides."""
    whole = _whole(path)
    return "." not in stem or "." not in whole or not barcode(stem) or whole.casefold() == stem.casefold()


def _whole(path: Path) -> str:
    """The name that stands for a path: of a DICOM series that of its folder."""
    name = stem_of(path.name)
    return path.parent.name if _is_series(path) and not barcode(name) else name


def _is_series(path: Path) -> bool:
    """Whether a slide that was found is a DICOM series, which may have any suffix or none."""
    return path.suffix.lower() not in SUFFIXES or path.suffix.lower() == DICOM


def _usual(path: Path) -> tuple[int, int]:
    """Orders files of one slide by how usual their suffix is, and by size, largest first."""
    suffix = DICOM if _is_series(path) else path.suffix.lower()
    return SUFFIXES.index(suffix), -path.stat().st_size
