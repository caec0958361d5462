"""Exact scores of tiles, and the k best of them.

The score of a row is its inner product with the query, summed in float64 from float32 numbers in the same
order for every row: whoever finds a row, its score is the same number. Of equal scores the lower row is the
better.

Letters: n rows, D channels.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

import numpy as np

FIRST = 64
"""Rows whose scores are computed first: they raise the floor for the others."""

Scorer = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Gives rows of a part (n,) their rows in the whole (n,), and their exact scores (n,)."""


def exact_scores(vectors: np.ndarray, query: np.ndarray) -> np.ndarray:
    """Inner products (n,) float64 of float32 `vectors` (n, D) with `query` (D,)."""
    return np.asarray((vectors.astype(np.float64) * query.astype(np.float64)).sum(axis=1))


class Best:
    """The k best rows so far. Threads may share one."""

    def __init__(self, k: int) -> None:
        self.k = k
        self.rows = np.empty(0, dtype=np.int64)
        self.scores = np.empty(0, dtype=np.float64)
        self.floor = -np.inf
        """At most the score of the k-th best row: one that scores less need not be looked at."""
        self._lock = Lock()

    def add(self, rows: np.ndarray, scores: np.ndarray) -> None:
        """Take in rows (n,) with their exact scores (n,); none may be given twice."""
        with self._lock:
            rows, scores = np.concatenate([self.rows, rows]), np.concatenate([self.scores, scores])
            order = np.lexsort((rows, -scores))[: self.k]
            self.rows, self.scores = rows[order], scores[order]
            if len(order) == self.k:
                self.floor = max(self.floor, float(self.scores[-1]))

    def lift(self, scores: np.ndarray) -> None:
        """Raise the floor by the scores (n,) of some rows that are among those still to come."""
        if len(scores) >= self.k:
            with self._lock:
                self.floor = max(self.floor, float(np.partition(scores, -self.k)[-self.k]))


def offer(rows: np.ndarray, upper: np.ndarray, best: Best, score: Scorer) -> None:
    """Let `best` have what belongs in it of `rows` (n,) whose scores are at most `upper` (n,).

    Only those are scored exactly that may be among the best, the most promising first.
    """
    at_once = max(FIRST, best.k)
    while len(rows := rows[may := upper >= best.floor]):
        upper = upper[may]
        if len(rows) <= at_once:
            best.add(*score(rows))
            return
        parted = np.argpartition(-upper, at_once)
        best.add(*score(rows[parted[:at_once]]))
        rows, upper = rows[parted[at_once:]], upper[parted[at_once:]]
        at_once *= 2
