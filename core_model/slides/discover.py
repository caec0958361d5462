"""Which slides lie under a path: the one place that says so, for files, folders and whole trees.

A slide is found by its main file. Its parts, and label, macro, overview and thumbnail images, are no slides;
what is skipped is kept with the reason.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from core_model.errors import SlideError, printable
from core_model.slides.parts import (
    DICOM,
    HAMAMATSU,
    MIRAX,
    OLYMPUS,
    PICTURES,
    SUFFIXES,
    TIFFS,
    Instance,
    Kind,
    NotASlide,
    Skipped,
    associated_kind,
    folder_kind,
    image_kind,
    index_names,
    is_dicom,
    is_zarr,
    main_file,
    main_instance,
    read_instance,
)

_OURS = ("run.json", "begun.json", "reports.jsonl")
"""Files by which a folder of results is known; its images are copies of regions."""

REASONS: dict[Kind, str] = {
    "part": "as parts of slides",
    "associated": "as label, macro or overview images",
    "picture": "as pictures beside slides (name one itself if it is a slide)",
    "link": "as links that lead nowhere, or where we were",
    "suffix": "as no slides by their suffix",
    "ours": "as results of giant",
}
"""Why something is skipped, in words that follow a number; anything else says so itself."""


@dataclass
class Slides:
    """The slides under some paths, each once, in order, and what was skipped."""

    paths: list[Path] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)

    def summary(self, most: int = 20) -> list[str]:
        """One line for each reason to skip: how many, which (at most `most` are named), and why."""
        groups: dict[str, list[str]] = {}
        for item in self.skipped:
            why = REASONS.get(item.kind) or item.why
            groups.setdefault(why, []).append(printable(str(item.path)))
        return [
            f"skipped {len(names)}, {why}"
            + (f": {', '.join(names[:most])}" if most else "")
            + (f" and {len(names) - most} more" if len(names) > most > 0 else "")
            for why, names in groups.items()
        ]


def slides_under(paths: Iterable[str | Path]) -> Slides:
    """The slides named, and those in the folders named and in all folders below; links are followed.

    A file that is named is kept as it is unless it is known to be none: opening it says what is wrong.
    Plain PNG and JPEG files of a folder are slides only where it holds no others.
    """
    found: dict[Path, None] = {}
    skipped: list[Skipped] = []
    for path in map(Path, paths):
        if path.is_dir() and not is_zarr(path):
            walk = _Walk()
            walk.enter(path)
            found |= dict.fromkeys(walk.slides())
            skipped += walk.skipped
            continue
        try:
            found[main_file(path)] = None
        except NotASlide as error:
            skipped.append(Skipped(path, error.kind, error.what))
    return Slides(list(found), skipped)


def slide_in(folder: Path) -> Path:
    """The main file of the only slide in a folder and below. Raises `SlideError` where there is not one."""
    slides = slides_under([folder])
    if len(slides.paths) == 1:
        return slides.paths[0]
    if not slides.paths:
        raise SlideError("this folder holds no slide", where=folder, fix=" ".join(slides.summary(3)) or None)
    names = ", ".join(printable(str(p.relative_to(folder))) for p in slides.paths[:3])
    raise SlideError(
        f"this folder holds {len(slides.paths)} slides: {names}…", where=folder, fix="Name one of them"
    )


class _Walk:
    """A tree being looked through: folders once each, however many links lead to them."""

    def __init__(self) -> None:
        self.skipped: list[Skipped] = []
        self._found: list[Path] = []
        self._pictures: list[Path] = []
        self._series: dict[str, list[Instance]] = {}
        self._seen: set[tuple[int, int]] = set()

    def enter(self, top: Path) -> None:
        """Look through a folder and all below it; none is too deep."""
        waiting = [top]
        while waiting:
            folder = waiting.pop()
            try:
                stat = folder.stat()
                if (stat.st_dev, stat.st_ino) in self._seen:
                    self._skip(folder, "link", "reached before by another way")
                    continue
                self._seen.add((stat.st_dev, stat.st_ino))
                waiting += reversed(self._look_through(folder))
            except OSError as error:
                self._skip(folder, "other", f"cannot be read ({error.strerror})")

    def slides(self) -> list[Path]:
        """The main files found, sorted."""
        for instances in self._series.values():
            main = main_instance(instances)
            self._found += [main.path] if main is not None else []
            for item in instances:
                if not item.is_level:
                    self._skip(item.path, "associated", f"the {image_kind(item)} image of a slide")
                elif item is not main:
                    self._skip(item.path, "part", "a level of a DICOM slide")
        self._series = {}
        if self._pictures and _any_scan(self._found):
            why = "a picture beside slides (name it itself if it is one)"
            self.skipped += [Skipped(path, "picture", why) for path in self._pictures]
        else:
            self._found += self._pictures
        self._pictures = []
        return sorted(self._found)

    def _look_through(self, folder: Path) -> list[Path]:
        """Sort the files of a folder; returns the folders in it that are to be entered."""
        entries = sorted(p for p in folder.iterdir() if not p.name.startswith("."))
        files = [path for path in entries if not path.is_dir()]
        parts = _parts_among(files)
        for path in files:
            if path.name in parts:
                self._skip(path, "part", f"a part of {printable(parts[path.name])}")
            else:
                self._file(path)
        return [path for path in entries if path.is_dir() and self._is_to_enter(path, parts)]

    def _is_to_enter(self, folder: Path, parts: dict[str, str]) -> bool:
        if is_zarr(folder):
            self._found.append(folder)
        elif folder.name in parts:
            self._skip(folder, "part", f"a part of {printable(parts[folder.name])}")
        elif any((folder / name).is_file() for name in _OURS):
            self._skip(folder, "ours", "results of giant")
        else:
            return True
        return False

    def _file(self, path: Path) -> None:
        suffix = path.suffix.lower()
        if not path.exists():
            self._skip(path, "link", "a link that leads nowhere")
        elif not path.is_file():
            self._skip(path, "other", "no file")
        elif (kind := associated_kind(path)) is not None:
            self._skip(path, "associated", f"the {kind} image of a slide by its name")
        elif suffix in PICTURES:
            self._picture(path)
        elif suffix in SUFFIXES and suffix != DICOM:
            self._found.append(path)
        else:
            self._perhaps_dicom(path)

    def _picture(self, path: Path) -> None:
        if (kind := folder_kind(path.parent)) is not None:
            self._skip(path, "associated", f"the {kind} image of a slide by its folder's name")
        else:
            self._pictures.append(path)

    def _perhaps_dicom(self, path: Path) -> None:
        try:
            begins_so = is_dicom(path)
            instance = read_instance(path) if begins_so else None
        except OSError as error:
            self._skip(path, "other", f"cannot be read ({error.strerror})")
            return
        if instance is not None:
            self._series.setdefault(instance.series, []).append(instance)
        elif begins_so:
            self._skip(path, "other", "a DICOM object that is no whole-slide image")
        elif path.suffix.lower() == DICOM:
            self._found.append(path)  # damaged: opening it says so
        else:
            self._skip(path, "suffix", "no slide by the name's suffix")

    def _skip(self, path: Path, kind: Kind, why: str) -> None:
        self.skipped.append(Skipped(path, kind, why))


def _parts_among(files: Sequence[Path]) -> dict[str, str]:
    """Names in a folder that belong to a main file in it, and the name of that file. Raises `OSError`."""
    parts: dict[str, str] = {}
    for path in files:
        suffix = path.suffix.lower()
        if suffix in HAMAMATSU and path.is_file():
            parts |= dict.fromkeys((n for n in index_names(path) if n != path.name), path.name)
        elif suffix == MIRAX:
            parts[path.stem] = path.name
        elif suffix == OLYMPUS:
            parts[f"_{path.stem}_"] = path.name
    return parts


def _any_scan(paths: Sequence[Path]) -> bool:
    """Whether any of them is a scanner's file; of TIFFs, whether OpenSlide takes it for one."""
    import openslide

    others = [path for path in paths if path.suffix.lower() in TIFFS]
    if len(others) < len(paths):
        return True
    return any(openslide.OpenSlide.detect_format(os.fspath(path)) is not None for path in others)
