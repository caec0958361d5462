"""The slides of a store that are searched, each by its own index file, which is mapped when it is first
needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from core_model.errors import FeatureStoreError
from tools.cohort.manifest import Manifest, SlideEntry, begun_ns, checked, sha256_of
from tools.index import SUFFIX, TileIndex, mapped

COARSE_NS = 1_000_000_000
"""More than the clock of any file system lags behind, in ns."""


def entry_of(path: Path, identity: dict[str, str]) -> SlideEntry:
    """What a manifest says of an index file, which is read as a whole.

    Raises `FeatureStoreError` where it is damaged, of another encoder, or holds what are no numbers.
    """
    index, metadata = TileIndex.load(path, identity), mapped(path)[0]
    if not all(
        np.isfinite(index.vectors[start : start + 4096]).all() for start in range(0, len(index), 4096)
    ):
        raise FeatureStoreError(
            "it holds vectors that are no numbers", where=path, fix="Index the slide again"
        )
    return SlideEntry(
        file=path.name,
        id=metadata.get("slide", ""),
        rows=len(index),
        mpp=index.mpp,
        sha256=sha256_of(path),
        bytes=path.stat().st_size,
    )


def is_unchanged(path: Path, entry: SlideEntry, since_ns: int) -> bool:
    """Whether nobody has touched a file since well before it was read for the manifest of that time.

    The time of a file's last change, unlike that of its content, is not copied with it and cannot be set.
    """
    stat = path.stat()
    return stat.st_size == entry.bytes and stat.st_ctime_ns < since_ns - COARSE_NS


def searched(folder: Path, manifest: Manifest) -> list[SlideEntry]:
    """The slides of a folder, by name: those of the manifest, changed ones as they are now, and new ones.

    Raises `FeatureStoreError` where a file of the manifest is gone.
    """
    known, since = {entry.file: entry for entry in manifest.slides}, begun_ns(folder)
    present = {path.name: path for path in folder.glob(f"*{SUFFIX}")}
    if gone := sorted(set(known) - set(present)):
        fix = f"Take the slide out: giant index --remove {known[gone[0]].name} --out {folder.parent}"
        raise FeatureStoreError("its index file is gone", where=folder / gone[0], fix=fix)
    entries = []
    for name, path in sorted(present.items()):
        entry = known.get(name)
        if entry is None or not is_unchanged(path, entry, since):
            entry = entry_of(path, manifest.identity)
        if entry.id not in manifest.removed:
            entries.append(entry)
    return entries


class SlideFiles:
    """The vectors of some slides as one: row after row, slide after slide."""

    def __init__(self, folder: Path, entries: Sequence[SlideEntry], identity: dict[str, str]) -> None:
        self.folder, self.entries, self.identity = folder, list(entries), identity
        self.starts = np.concatenate([[0], np.cumsum([entry.rows for entry in entries])]).astype(np.int64)
        """(slides + 1,): the first row of each."""
        self._opened: dict[int, TileIndex] = {}

    def __len__(self) -> int:
        return int(self.starts[-1])

    def slide(self, number: int) -> TileIndex:
        """The index of one slide, checked when it is first opened. Raises `FeatureStoreError`."""
        if number not in self._opened:
            entry = self.entries[number]
            path = checked(self.folder / entry.file, entry.sha256)
            self._opened[number] = TileIndex.load(path, {**self.identity, "slide": entry.id})
        return self._opened[number]

    def place(self, rows: np.ndarray) -> np.ndarray:
        """Which slides rows (n,) belong to, (n,)."""
        return np.searchsorted(self.starts, rows, side="right") - 1

    def vectors(self, rows: np.ndarray) -> np.ndarray:
        """The vectors (n, D) of rows (n,), in their order."""
        numbers = self.place(rows)
        parts = [np.flatnonzero(numbers == number) for number in np.unique(numbers)]
        order = np.concatenate(parts)
        taken = [
            self.slide(int(numbers[part[0]])).vectors[rows[part] - self.starts[numbers[part[0]]]]
            for part in parts
        ]
        vectors = np.empty((len(rows), taken[0].shape[1]), np.float32)
        vectors[order] = np.concatenate(taken)
        return vectors

    def fetch(self, start: int, stop: int) -> np.ndarray:
        """The vectors (n, D) of the rows from `start` to before `stop`."""
        parts = []
        for number in range(len(self.entries)):
            first, last = int(self.starts[number]), int(self.starts[number + 1])
            if first < stop and last > start:
                parts.append(self.slide(number).vectors[max(start, first) - first : min(stop, last) - first])
        return np.concatenate(parts)
