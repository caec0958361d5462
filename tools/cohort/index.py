"""Search the tiles of all slides of a store at once.

A segment says which rows of the slides that it covers are worth a look; slides that none covers are looked
through. Every hit is scored from the slide's own file, whose digest is checked.

Letters: n rows, D channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from core_model.machine import usable_cores
from core_model.slides.box import Box
from tools.cohort.best import Best, exact_scores, offer
from tools.cohort.bounds import Bounds, most_rounded
from tools.cohort.ivf import Inverted
from tools.cohort.manifest import Segment, SlideEntry, read_manifest
from tools.cohort.segments import load_segment
from tools.cohort.slides import SlideFiles, searched
from tools.index import unit

LEFT_OUT = -1


class CohortHit(NamedTuple):
    """A tile found."""

    slide: SlideEntry
    box: Box
    score: float
    """Cosine similarity, in [-1, 1]."""


@dataclass(frozen=True)
class Part:
    """A segment, and where its rows are now."""

    content: Bounds | Inverted
    starts: np.ndarray
    """(slides + 1,): the first row of each slide that it covers."""
    numbers: np.ndarray
    """(slides,): which slide of the index each is; `LEFT_OUT` where it is in it no longer."""

    def alive(self, left_out: set[int]) -> np.ndarray | None:
        """(n,) bool: rows of slides that are searched; None where all are."""
        alive = ~np.isin(self.numbers, [LEFT_OUT, *left_out])
        return None if alive.all() else np.repeat(alive, np.diff(self.starts))

    def rows_in(self, files: SlideFiles, rows: np.ndarray) -> np.ndarray:
        """Rows (n,) of the segment as rows of the index."""
        slides = np.searchsorted(self.starts, rows, side="right") - 1
        return np.asarray(files.starts[self.numbers[slides]] + rows - self.starts[slides])


class CohortIndex:
    """The tiles of the slides in a folder of a feature store."""

    def __init__(self, files: SlideFiles, parts: Sequence[Part], recall: float | None) -> None:
        self.files, self.parts = files, list(parts)
        self.recall = recall
        """Share of the nearest tiles that a search finds, as measured; None where it finds all."""

    @classmethod
    def open(cls, folder: Path, identity: dict[str, str]) -> CohortIndex:
        """Open the index of the slides in `folder`, whose vectors must have this identity.

        Raises `FeatureStoreError` where a file of it is damaged, gone, or of another encoder.
        """
        manifest = read_manifest(folder, identity)
        entries = searched(folder, manifest)
        parts = [
            Part(load_segment(folder, segment), *where)
            for segment in manifest.segments
            if (where := _place(segment, entries)) is not None
        ]
        recalls = [segment.recall for segment in manifest.segments if segment.recall is not None]
        return cls(SlideFiles(folder, entries, identity), parts, min(recalls, default=None))

    def search(self, vector: np.ndarray, k: int, without: str | None = None) -> list[CohortHit]:
        """The k tiles nearest to `vector` (D,), best first; fewer where there are fewer.

        Of equal ones those of the slide whose name comes first, and there the earlier ones. `without` is the
        identity of a slide that is left out.
        """
        if not len(self.files):
            return []
        query = unit(np.asarray(vector, dtype=np.float32).reshape(1, -1))[0]  # (D,)
        best = Best(k)
        left_out = {number for number, entry in enumerate(self.files.entries) if entry.id == without}
        with ThreadPoolExecutor(usable_cores()) as pool:
            for part in self.parts:
                self._search_part(part, query, best, left_out, pool)
            for number in sorted(self._uncovered() - left_out):
                self._look_through(number, query, best)
        return [self._hit(int(row), float(score)) for row, score in zip(best.rows, best.scores, strict=True)]

    def _uncovered(self) -> set[int]:
        covered = {int(number) for part in self.parts for number in part.numbers}
        return set(range(len(self.files.entries))) - covered

    def _search_part(
        self, part: Part, query: np.ndarray, best: Best, left_out: set[int], pool: Executor
    ) -> None:
        alive = part.alive(left_out)
        if alive is not None and not alive.any():
            return

        def score(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            rows = part.rows_in(self.files, rows)
            return rows, exact_scores(self.files.vectors(rows), query)

        if isinstance(part.content, Bounds):
            part.content.search(query, best, score, alive, pool)
        else:
            part.content.search(query, best, score, alive)

    def _look_through(self, number: int, query: np.ndarray, best: Best) -> None:
        """Let `best` have the nearest tiles of one slide."""
        vectors, start = self.files.slide(number).vectors, int(self.files.starts[number])
        if vectors.shape[1] != len(query):
            raise ValueError(f"a query of {len(query)} numbers in a space of {vectors.shape[1]}")
        upper = (vectors @ query).astype(np.float64) + most_rounded(len(query))

        def score(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return rows + start, exact_scores(vectors[rows], query)

        offer(np.arange(len(vectors)), upper, best, score)

    def _hit(self, row: int, score: float) -> CohortHit:
        number = int(self.files.place(np.array([row]))[0])
        box = self.files.slide(number).box(row - int(self.files.starts[number]))
        return CohortHit(self.files.entries[number], box, score)


def _place(segment: Segment, entries: Sequence[SlideEntry]) -> tuple[np.ndarray, np.ndarray] | None:
    """Where the slides of a segment start, and which entries they are; None where it has none of them."""
    known = {(entry.file, entry.sha256): number for number, entry in enumerate(entries)}
    numbers = [known.get((slide.file, slide.sha256), LEFT_OUT) for slide in segment.slides]
    starts = np.concatenate([[0], np.cumsum([slide.rows for slide in segment.slides])]).astype(np.int64)
    return (starts, np.array(numbers, dtype=np.int64)) if set(numbers) - {LEFT_OUT} else None
