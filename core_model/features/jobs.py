"""A folder of another tool's results: which slides have features there, by which encoder, and who made them.

    TRIDENT     JOB/<mag>x_<px>px_<overlap>px_overlap/features_<encoder>/<slide>.h5
    CLAM        FOLDER/h5_files/<slide>.h5, and what is said of the tiles in patches/<slide>.h5, there or
                above
    AtlasPatch  FOLDER/patches/<slide>.h5, which holds features/<encoder>

Any of the folders between may be named too. Nothing is opened but H5 files, and no link in them is followed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import h5py

from core_model.errors import FeatureStoreError, UsageError, printable
from core_model.features.foreign import FOLDER
from core_model.features.h5 import UNREADABLE, open_h5

GRID = re.compile(r"\d+(\.\d+)?x_\d+px_\d+px_overlap")
"""TRIDENT's folder of one grid."""


@dataclass(frozen=True)
class ForeignJob:
    """Feature files of slides, all by one tool and one encoder."""

    tool: str
    """trident, clam or atlaspatch."""
    encoder: str
    """Name of the tile encoder, as the tool or the user has it."""
    features: Mapping[str, Path]
    """The file of each slide, by the slide's name, in order."""
    patches: Mapping[str, Path]
    """CLAM's files that say what the tiles are, by the slide's name."""

    @property
    def name(self) -> str:
        """What these features are called among those of other encoders: never as giant's own."""
        return f"{self.tool}:{self.encoder}"


def find_job(folder: Path, encoder: str | None = None) -> ForeignJob:
    """The features in a folder of TRIDENT, CLAM or AtlasPatch.

    `encoder` chooses where there are several, and names CLAM's, which says nothing of it. Raises
    `FeatureStoreError` for a folder that holds none, `UsageError` where it is not said which.
    """
    if not folder.is_dir():
        raise FeatureStoreError("there is no such folder", where=folder)
    try:
        return _trident(folder, encoder) or _clam(folder, encoder) or _atlas(folder, encoder)
    except OSError as error:
        raise FeatureStoreError(
            f"the folder cannot be read ({error.strerror or error})", where=folder
        ) from error


def _trident(folder: Path, encoder: str | None) -> ForeignJob | None:
    folders = [folder] if folder.name.startswith(FOLDER) else [*_below(folder, FOLDER)]
    if folder.name.startswith(FOLDER) or folders:
        grids = [folder]
    else:
        grids = [path for path in sorted(folder.iterdir()) if path.is_dir() and GRID.fullmatch(path.name)]
        folders = [path for grid in grids for path in _below(grid, FOLDER)]
    if encoder is not None:
        folders = [path for path in folders if path.name == FOLDER + encoder]
    with_files = {path: files for path in folders if (files := _files(path))}
    if not with_files:
        if folders or any(GRID.fullmatch(path.name) for path in grids):
            subject = f"features of '{encoder}'" if encoder is not None else "tile features"
            raise FeatureStoreError(f"the job holds no {subject}", where=folder)
        return None
    if len(with_files) > 1:
        names = ", ".join(printable(str(path.relative_to(folder))) for path in with_files)
        raise UsageError(
            f"{printable(str(folder))} holds several sets of features: {names}",
            fix="Name one folder of these",
        )
    ((path, files),) = with_files.items()
    return ForeignJob("trident", path.name.removeprefix(FOLDER), files, {})


def _clam(folder: Path, encoder: str | None) -> ForeignJob | None:
    place = folder if folder.name == "h5_files" else folder / "h5_files"
    if not (files := _files(place)):
        return None
    if encoder is None:
        raise UsageError(
            f"CLAM's files in {printable(str(folder))} do not say which encoder made them",
            fix="Give its name with --encoder",
        )
    patches = next(
        (
            patch_files
            for above in (place.parent, place.parent.parent)
            if (patch_files := _files(above / "patches"))
        ),
        {},
    )
    return ForeignJob("clam", encoder, files, patches)


def _atlas(folder: Path, encoder: str | None) -> ForeignJob:
    place = folder if folder.name == "patches" else folder / "patches"
    names: dict[str, list[str]] = {}
    files = _files(place)
    for name, path in files.items():
        for name_in_file in _encoders(path):
            names.setdefault(name_in_file, []).append(name)
    if not names:
        raise FeatureStoreError(
            "the folder holds no tile features of TRIDENT, CLAM or AtlasPatch",
            where=folder,
            fix="Name the folder of the job, or that of the features in it",
        )
    if encoder is None and len(names) > 1:
        raise UsageError(
            f"{printable(str(folder))} holds features of several encoders",
            fix=f"Choose one with --encoder: {', '.join(printable(name) for name in sorted(names))}",
        )
    chosen_name = encoder if encoder is not None else next(iter(names))
    if chosen_name not in names:
        raise FeatureStoreError(f"the folder holds no features of '{chosen_name}'", where=folder)
    return ForeignJob("atlaspatch", chosen_name, {name: files[name] for name in names[chosen_name]}, {})


def _encoders(path: Path) -> list[str]:
    """Encoders whose features a file of AtlasPatch holds; none of a file that is no such."""
    try:
        with open_h5(path) as file:
            link = file.get("features", getlink=True)
            is_group = isinstance(link, h5py.HardLink) and isinstance(file["features"], h5py.Group)
            return list(file["features"]) if is_group else []
    except UNREADABLE:
        return []


def _below(folder: Path, start: str) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and path.name.startswith(start))


def _files(folder: Path) -> dict[str, Path]:
    """H5 files of a folder by their stem, hidden ones left out; none where there is no such folder."""
    if not folder.is_dir():
        return {}
    paths = sorted(path for path in folder.glob("*.h5") if path.is_file() and not path.name.startswith("."))
    return {path.stem: path for path in paths}
