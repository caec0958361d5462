"""Copies of slides on a local disk, made before they are read and removed after: for storage that is slow.

While one slide is worked on, the next is copied. The copies lie in a folder of this process in the folder
that the user names. It goes with the process; what a killed process left is removed by the next that stages
there.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from core_model.errors import GiantError, RunError, SlideError
from core_model.files import disk_trouble, held
from core_model.slides.parts import is_url, parts_of

PREFIX = "giant-stage-"
SPARE = 64 << 20
"""Bytes of the disk that are left free."""
FIX = "Give another folder after --stage, or leave it out"


class NoRoom(SlideError):
    """The disk cannot hold a copy of the slide beside those that are there."""


class Staging:
    """Copies of `slides` in `folder`; a context manager, at whose end all copies are gone."""

    def __init__(self, folder: Path, slides: Sequence[Path]) -> None:
        self.slides = slides
        self._own = folder / f"{PREFIX}{uuid.uuid4().hex[:8]}"
        self._copies: dict[int, Future[Path]] = {}
        self._life = ExitStack()

    def __enter__(self) -> Staging:
        """Raises `RunError` where the folder cannot be written."""
        folder = self._own.parent
        with held(folder, wait=True, name=f".{PREFIX}lock", fix=FIX):
            for left in folder.glob(f"{PREFIX}*"):
                _remove_dead(left)
            self._life.enter_context(held(self._own, wait=False, fix=FIX))
        self._life.callback(shutil.rmtree, self._own, ignore_errors=True)
        self._copier = self._life.enter_context(ThreadPoolExecutor(1, thread_name_prefix="staging"))
        return self

    def __exit__(self, *exc: object) -> None:
        self._copier.shutdown(wait=True, cancel_futures=True)
        self._life.close()

    def local(self, number: int) -> Path:
        """Where the copy of a slide lies, once it is whole; the next slide is copied from then on.

        Raises `SlideError` where it cannot be read, and where the disk has no room for it.
        """
        try:
            try:
                copy = self._copy(number).result()
            except NoRoom:  # there was none when it was copied ahead; since then others may have gone
                self._copies.pop(number)
                copy = self._copy(number).result()
        except GiantError:
            self._copies.pop(number, None)
            raise
        if number + 1 < len(self.slides):
            self._copy(number + 1)
        return copy

    def release(self, number: int) -> None:
        """Remove the copy of a slide."""
        if self._copies.pop(number, None) is not None:
            shutil.rmtree(self._own / str(number), ignore_errors=True)

    def _copy(self, number: int) -> Future[Path]:
        if number not in self._copies:
            self._copies[number] = self._copier.submit(
                copy_slide, self.slides[number], self._own / str(number)
            )
        return self._copies[number]


def copy_slide(slide: Path, folder: Path) -> Path:
    """Copy every file of a slide to a new folder; returns the copy of its main file.

    Where that fails the folder is gone. Raises `SlideError`, and `NoRoom` where the disk is too small.
    """
    if is_url(slide):
        return slide
    try:
        parts = {part: folder / part.relative_to(slide.parent) for part in parts_of(slide)}
        _check_room(slide, sum(part.stat().st_size for part in parts), folder)
        for part, target in parts.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(part, target)
    except (OSError, shutil.Error, ValueError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        if (trouble := disk_trouble(error)) is not None:
            raise NoRoom(
                f"it cannot be copied to {folder.parents[1]} ({trouble})", where=slide, fix=FIX
            ) from error
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise SlideError(f"it cannot be copied ({reason})", where=slide, fix=FIX) from error
    return folder / slide.name


def _check_room(slide: Path, need: int, folder: Path) -> None:
    free = shutil.disk_usage(folder.parent).free
    if need + SPARE > free:
        raise NoRoom(
            f"its copy takes {need / 1e9:.1f} GB, and {folder.parents[1]} has {free / 1e9:.1f} GB left",
            where=slide,
            fix="Give a larger disk after --stage, fewer --workers, or leave --stage out",
        )


def _remove_dead(folder: Path) -> None:
    """Remove the copies of a process that is no more; a live one holds its folder."""
    try:
        with held(folder, wait=False):
            shutil.rmtree(folder, ignore_errors=True)
    except RunError:
        return
