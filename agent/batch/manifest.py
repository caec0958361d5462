"""Tells whether a slide's folder is complete, and made of this slide under these settings.

begun.json      written first: which slide, and under which settings the runs are made
manifest.json   written last: the same, with the sha256 of every file that the report rests on
before-1/ …     what was there of another slide or other settings, or was changed since; never mixed in

Only a folder whose manifest is whole, with every file as it says, is complete.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import ValidationError

from core_model.errors import RunError
from core_model.files import write_json
from core_model.records import Record
from core_model.slides.parts import is_url

if TYPE_CHECKING:
    from core_model.slides.slide import Slide

BEGUN, REPORT, MANIFEST = "begun.json", "report.json", "manifest.json"
BEFORE = "before-"
_WORKING = ("checkpoint.sqlite", ".")
"""Beginnings of the names of files that a run needs while it goes on, and nobody afterwards."""
INDIFFERENT = ("max_cost", "timeout", "base_url")
"""Settings that a report was made within, and that do not decide what it says."""

R = TypeVar("R", bound=Record)


class SlideFile(Record):
    """The identity of a slide; when it was copied is no part of it."""

    id: str
    """From the content of all its files (`core_model.slides.identity`)."""
    bytes: int


class Begun(Record):
    """The slide and the settings that a folder was begun for."""

    version: Literal[1] = 1
    slide: SlideFile
    settings: dict[str, Any]
    """Everything that decides what the report says: model, weights, questions, budget."""


class Manifest(Record):
    """A complete folder."""

    version: Literal[1] = 1
    giant: str
    about: Begun
    sha256: dict[str, str]
    """Hex digest by path relative to the folder."""


def slide_file(slide: Slide) -> SlideFile:
    """The identity of an open slide; the size of one on a server is not known."""
    size = 0 if is_url(slide.path) else slide.path.stat().st_size
    return SlideFile(id=slide.id, bytes=size)


def is_complete(folder: Path, subject: Begun) -> bool:
    """Whether the folder is whole, unchanged, and about this."""
    manifest = _read(folder / MANIFEST, Manifest)
    if manifest is None or not _same(manifest.about, subject) or REPORT not in manifest.sha256:
        return False
    return not _changed(folder, manifest)


def prepare(folder: Path, subject: Begun) -> None:
    """Make the folder ready for the runs about this: what does not belong to them is set aside."""
    manifest = _read(folder / MANIFEST, Manifest)
    begun = _read(folder / BEGUN, Begun)
    if begun is None or not _same(begun, subject):
        set_aside(folder, [p.name for p in folder.iterdir() if not p.name.startswith((".", BEFORE))])
    elif manifest is not None:
        tops = {name.split("/")[0] for name in _changed(folder, manifest) if "/" in name}
        set_aside(folder, sorted(tops))
    (folder / MANIFEST).unlink(missing_ok=True)
    write_json(folder / BEGUN, subject)


def complete(folder: Path, subject: Begun, giant: str) -> None:
    """Write the manifest of a folder in which everything is done."""
    hashes = {name: digest for name in _files(folder) if (digest := _sha256(folder / name)) is not None}
    write_json(folder / MANIFEST, Manifest(giant=giant, about=subject, sha256=hashes))


def set_aside(folder: Path, names: Sequence[str]) -> None:
    """Move entries of the folder into the next free `before-N` in it."""
    entries = [name for name in names if (folder / name).exists()]
    if not entries:
        return
    number = 1
    while (folder / f"{BEFORE}{number}").exists():
        number += 1
    try:
        (folder / f"{BEFORE}{number}").mkdir()
        for name in entries:
            (folder / name).rename(folder / f"{BEFORE}{number}" / name)
    except OSError as error:
        raise RunError(f"this folder cannot be changed ({error.strerror})", where=folder) from error


def _same(one: Begun, other: Begun) -> bool:
    """Whether two are about the same slide and settings; those of `INDIFFERENT` may differ."""
    return one.slide == other.slide and _deciding(one.settings) == _deciding(other.settings)


def _deciding(settings: Any) -> Any:
    if isinstance(settings, list):
        return [_deciding(item) for item in settings]
    if not isinstance(settings, dict):
        return settings
    return {name: _deciding(value) for name, value in settings.items() if name not in INDIFFERENT}


def _read(path: Path, kind: type[R]) -> R | None:
    try:
        return kind.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None  # missing or damaged: whoever asks does the work again


def _changed(folder: Path, manifest: Manifest) -> list[str]:
    """Files that are missing or other than the manifest says."""
    return [name for name, digest in manifest.sha256.items() if _sha256(folder / name) != digest]


def _sha256(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def _files(folder: Path) -> Iterator[str]:
    """Every file that the report rests on, by its path in the folder."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not path.name.startswith(_WORKING) and not name.startswith(BEFORE):
            yield name
