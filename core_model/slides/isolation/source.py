"""A slide whose file is read by a child process: to those above a source of pixels as any other."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from PIL import Image
from pydantic import AfterValidator, BaseModel, Field, NonNegativeInt, PositiveInt, ValidationError

from core_model.errors import MppError, SlideError
from core_model.slides.identity import Opened
from core_model.slides.isolation.process import Child, ChildDied
from core_model.slides.isolation.wire import MOST_PIXELS, Limits, file_name
from core_model.slides.parts import Kind, NotASlide
from core_model.slides.sources import DecodeError

MOST_DEATHS = 3
"""Children that a slide may end, for certain, before no other is started for it."""

ERRORS: dict[str, type[SlideError]] = {"MppError": MppError, "NotASlide": NotASlide}
"""What a child's errors become here; any other is a `SlideError`."""


FileName = Annotated[str, AfterValidator(file_name)]


class Refused(BaseModel):
    """What a child says where it cannot do what it is asked."""

    error: str
    what: str
    where: FileName | None = None
    fix: str | None = None
    kind: Kind | None = None


class Facts(BaseModel):
    """What a child says of a slide that it has opened."""

    path: FileName
    name: str
    identity: str
    vendor: str
    reader: str
    properties: dict[str, str]
    levels: list[tuple[PositiveInt, PositiveInt]]
    made: list[tuple[NonNegativeInt, PositiveInt]]
    tiles: list[tuple[PositiveInt, PositiveInt]]


Offset = Annotated[float, Field(ge=-1, le=1)]


class Read(BaseModel):
    """What a child says of pixels that it has read."""

    size: tuple[PositiveInt, PositiveInt]
    offset: tuple[Offset, Offset]


M = TypeVar("M", bound=BaseModel)


class IsolatedSource:
    """A slide that a child reads. Where the child dies another goes on, and what killed it did not decode."""

    def __init__(self, path: Path, limits: Limits | None = None, child: Child | None = None) -> None:
        """Open `path` in a child of its own, or in `child`, which is not ended with it."""
        self._limits = limits or (child.limits if child is not None else Limits())
        self._lent = child
        self._lock, self._alone = threading.RLock(), threading.Lock()
        self._deaths, self._given_up, self._closed = 0, "", False
        self._child: Child | None = None
        self._suspect: Child | None = None
        self._path = path
        opened = self._first(path)
        self.name, self.identity, self._path = opened.name, opened.identity, Path(opened.path)
        self.vendor, self.reader = opened.vendor, opened.reader
        self.properties: Mapping[str, str] = opened.properties
        self.level_dimensions: tuple[tuple[int, int], ...] = tuple(opened.levels)
        self.made_levels: tuple[tuple[int, int], ...] = tuple(opened.made)
        self._tiles = opened.tiles

    @property
    def path(self) -> Path:
        """The file by which the slide is opened."""
        return self._path

    def tile_size(self, level: int) -> tuple[int, int]:
        """Width and height of the tiles in which the file holds a level."""
        return self._tiles[level]

    def read_level(
        self, level: int, x: int, y: int, w: int, h: int
    ) -> tuple[Image.Image, tuple[float, float]]:
        """RGB of a rectangle and its offset, as the child's source gives it. Raises `DecodeError`."""
        if w * h > MOST_PIXELS:
            raise DecodeError(f"{w} x {h} px are too many to be read at once")
        box = (level, x, y, w, h)
        try:
            return _read(self._running(), box)
        except ChildDied as died:
            if died.alone:
                raise self._blamed(died) from died
        return self._read_alone(box)

    def _read_alone(self, box: tuple[int, int, int, int, int]) -> tuple[Image.Image, tuple[float, float]]:
        """Read once more with nothing else under way, to learn whether it was this that ended the child."""
        with self._alone:
            if self._given_up:
                raise DecodeError(self._given_up)
            try:
                if self._suspect is None or self._suspect.is_dead:
                    self._suspect = self._another(self._suspect)
                return _read(self._suspect, box)
            except ChildDied as died:
                raise self._blamed(died) from died

    def close(self) -> None:
        """End the children; reading afterwards raises `SlideError`."""
        with self._lock:
            self._closed = True
            for child in (self._child, self._suspect):
                self._end(child)

    def _end(self, child: Child | None) -> None:
        if child is not None and child is not self._lent:
            child.close()

    def _first(self, path: Path) -> Facts:
        self._child = self._lent or Child(self._limits)
        try:
            return _open(self._child, path, identify=True)
        except ChildDied as died:
            self._end(self._child)
            raise SlideError(
                f"the process that reads it {died} and was stopped",
                where=path,
                fix="It may be damaged, or made to do harm; if you vouch for it, give --no-isolate",
            ) from died
        except BaseException:
            self._end(self._child)
            raise

    def _running(self) -> Child:
        with self._lock:
            if self._closed:
                raise SlideError("the slide is closed", where=self._path)
            if self._given_up:
                raise DecodeError(self._given_up)
            if self._child is None or self._child.is_dead:
                try:
                    self._child = self._another(self._child)
                except ChildDied as died:
                    raise self._blamed(died) from died
            return self._child

    def _another(self, before: Child | None) -> Child:
        self._end(before)
        child = Child(self._limits)
        try:
            levels = tuple(_open(child, self._path, identify=False).levels)
            if levels != self.level_dimensions:
                raise DecodeError("the file has changed since it was opened")
        except SlideError as error:
            child.close()
            raise DecodeError(f"it does not open again: {error.what}") from error
        except BaseException:
            child.close()
            raise
        return child

    def _blamed(self, died: ChildDied) -> Exception:
        with self._lock:
            if self._closed:
                return SlideError("the slide is closed", where=self._path)
            self._deaths += 1
            if self._deaths >= MOST_DEATHS:
                self._given_up = (
                    f"the process that reads it {died}; after {self._deaths} of them none is started again"
                )
            return DecodeError(f"the process that reads it {died} and was stopped")


def open_isolated(path: Path, limits: Limits | None = None) -> Opened:
    """Open the slide that `path` names, parsed in a child process within `limits`. Raises `SlideError`."""
    if sys.platform == "win32":
        raise SlideError(
            "this system has no limits for a child process that reads it",
            where=path,
            fix="Give --no-isolate if you trust the slide",
        )
    source = IsolatedSource(path, limits)
    return Opened(source.path, source.name, source, source.identity)


def _open(child: Child, path: Path, identify: bool) -> Facts:
    with child.ask(do="open", path=str(path), identify=identify) as (body, _):
        try:
            opened = parsed(Facts, body)
        except DecodeError as error:
            raise SlideError(str(error), where=path) from error
    unknown = any(level >= len(opened.levels) for level, _ in opened.made)
    if not opened.levels or unknown or len(opened.tiles) != len(opened.levels) + len(opened.made):
        raise SlideError("the process that reads it gave an answer without sense", where=path)
    return opened


def _read(child: Child, box: tuple[int, int, int, int, int]) -> tuple[Image.Image, tuple[float, float]]:
    level, x, y, w, h = box
    with child.ask(do="read", level=level, box=[x, y, w, h]) as (body, memory):
        read = parsed(Read, body)
        if read.size != (w, h):
            raise DecodeError(f"the reader gave {read.size[0]} x {read.size[1]} px in place of {w} x {h}")
        pixels = memoryview(memory)[: w * h * 3]
        try:
            return Image.frombytes("RGB", (w, h), pixels), read.offset
        finally:
            pixels.release()


def parsed(kind: type[M], body: bytes) -> M:
    """The answer; raises what the child says it could not do."""
    try:
        refused = Refused.model_validate_json(body) if body.startswith(b'{"error"') else None
        if refused is None:
            return kind.model_validate_json(body)
    except ValidationError as error:
        raise DecodeError("the process that reads it gave an answer without sense") from error
    raise _raised(refused)


def _raised(refused: Refused) -> Exception:
    if refused.error == "DecodeError":
        return DecodeError(refused.what)
    if refused.error == "Unexpected":
        return DecodeError(f"its reader failed, {refused.what}")
    details: dict[str, Any] = {"where": refused.where, "fix": refused.fix}
    error = ERRORS.get(refused.error, SlideError)(refused.what, **details)
    if isinstance(error, NotASlide) and refused.kind is not None:
        error.kind = refused.kind
    return error
