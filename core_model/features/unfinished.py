"""The steps of a slide that are done, kept on disk while the others are not, so that a kill costs one step.

A file beside that of the features grows by one record for each step. A record proves what it is: its digest
covers its content together with the slide, the encoder, the grid and the size of a step. One that was cut
off, damaged, or made for anything else is dropped with a warning, and its tiles are done again. The file
goes when the features are written.

Letters: n tiles of a step, D channels of a tile feature.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from core_model.errors import FeatureStoreError
from core_model.files import writing

MARK = b"GNT1"
"""First bytes of a record."""
HEAD = struct.Struct("<4sQ32s")
"""Mark, bytes of the content, sha256 of what it was made for and of the content."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Step:
    """What became of the tiles of one step; those that turned out to have no tissue are in neither list."""

    tiles: np.ndarray
    """(n,) int64: rows of the grid that were encoded."""
    features: np.ndarray
    """(n, D) float32."""
    failed: tuple[tuple[int, str], ...] = ()
    """Rows of the grid that could not be read, with the reason."""


class Unfinished:
    """The file of one slide's steps. Only who holds the lock of the features may use it."""

    def __init__(self, path: Path, subject: Mapping[str, Any], fix: str) -> None:
        """`subject` is all that decides what a step holds; `fix` says what to do where the disk is full."""
        self.path, self._fix = path, fix
        self._subject = json.dumps(subject, sort_keys=True).encode()

    def load(self, steps: Sequence[np.ndarray], dim: int) -> dict[int, Step]:
        """The steps that are done, by number; `steps` are the tiles (n,) of each, `dim` is D.

        What follows a record that was cut off is cut off the file too, so that it can grow.
        """
        if not self.path.exists():
            return {}
        done: dict[int, Step] = {}
        dropped, whole = 0, 0
        with self._writing(), self.path.open("r+b") as file:
            size = self.path.stat().st_size
            for content, end in _records(file, size):
                whole, found = end, self._read(content, steps, dim)
                dropped += found is None
                if found is not None:
                    done[found[0]] = found[1]
            dropped += whole < size
            file.truncate(whole if done else 0)
        if dropped:
            kept = sum(len(steps[number]) for number in done)
            log.warning(
                "%s holds unfinished work that is damaged or was made for something else: that is done again,"
                " and %d tiles are kept", self.path, kept,
            )  # fmt: skip
        return done

    def append(self, number: int, step: Step) -> None:
        """Keep one more step. Raises `FeatureStoreError`; the file is then as it was before."""
        content = _packed(number, step)
        record = HEAD.pack(MARK, len(content), self._digest(content)) + content
        with self._writing():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab", buffering=0) as file:
                before = file.tell()
                try:
                    _write_all(file.fileno(), record)
                except OSError:
                    file.truncate(before)
                    raise

    def _read(self, content: bytes, steps: Sequence[np.ndarray], dim: int) -> tuple[int, Step] | None:
        """Number and step of a record (digest and content); None where it is not this work's."""
        digest, content = content[:32], content[32:]
        if digest != self._digest(content):
            return None
        try:
            number, step = _unpacked(content)
        except (ValueError, KeyError, TypeError, struct.error):
            return None
        rows = {*step.tiles.tolist(), *(row for row, _ in step.failed)}
        whole = step.features.shape == (len(step.tiles), dim) and 0 <= number < len(steps)
        return (number, step) if whole and rows <= set(steps[number].tolist()) else None

    def _digest(self, content: bytes) -> bytes:
        return hashlib.sha256(len(self._subject).to_bytes(8) + self._subject + content).digest()

    def _writing(self) -> AbstractContextManager[None]:
        return writing("unfinished features", self.path, FeatureStoreError, self._fix)


def _records(file: Any, size: int) -> Iterator[tuple[bytes, int]]:
    """Digest and content of each record that is there in full, with the place where it ends."""
    place = 0
    while size - place >= HEAD.size:
        mark, length, digest = HEAD.unpack(file.read(HEAD.size))
        place += HEAD.size + length
        if mark != MARK or place > size:
            return
        yield digest + file.read(length), place


def _packed(number: int, step: Step) -> bytes:
    """A line of JSON, then tiles and features as they lie in memory, little-endian."""
    head = {"step": number, "shape": step.features.shape, "failed": step.failed}
    arrays = (np.asarray(step.tiles, "<i8"), np.asarray(step.features, "<f4"))
    return b"".join([json.dumps(head).encode(), b"\n", *(array.tobytes() for array in arrays)])


def _unpacked(content: bytes) -> tuple[int, Step]:
    line, _, rest = content.partition(b"\n")
    head = json.loads(line)
    n, dim = head["shape"]
    tiles = np.frombuffer(rest, "<i8", n)
    features = np.frombuffer(rest, "<f4", n * dim, offset=8 * n).reshape(n, dim)
    failed = tuple((int(row), str(why)) for row, why in head["failed"])
    return int(head["step"]), Step(tiles.astype(np.int64), features.astype(np.float32), failed)


def _write_all(handle: int, content: bytes) -> None:
    """Write everything: a system call may take less, as on a disk that is nearly full."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(handle, rest) :]
