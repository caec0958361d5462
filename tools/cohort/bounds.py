"""Which rows cannot be among the best, told from a copy of the vectors in bytes: an exact search that reads
little.

The vectors are rotated to their principal axes, y = Rx, and so is the query, p = Rq: inner products stay as
they are. Of each y the first m numbers (the head) and the others (the tail) are rounded to bytes c, in steps
s, apart. With the query's own bytes ŵ in steps g,

    y·p  =  s g (c·ŵ)  +  s c·(p − g ŵ)  +  (y − s c)·p ,

and by Cauchy and Schwarz the last two are at most (|y| + r) |p − g ŵ| and r |p|, where r = |y − s c|. The
head alone bounds the score too, with |tail of y| |tail of p| for the rest. A row whose bound lies below the
score of the k-th best row so far is not looked at again; the others are scored exactly. So the result is
exact whatever the data; how much is read is not. Tiles of tissue lie along few axes, and 64 bytes each are
enough to leave most of them out.

Steps, lengths and errors are kept for each block of rows, so that blocks are made and searched one by one.

Letters: N rows, D channels, m channels of the head, B blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from core_model.errors import FeatureStoreError
from tools.cohort.best import Best, Scorer, offer

BLOCK = 1 << 15
"""Rows of a block."""
SAMPLE = 20_000
"""Rows from which axes and head are chosen."""
HEADS = (32, 64, 128, 256)
"""Lengths of heads that are tried, beside all channels."""
TRIED = 12
"""Rows of the sample that stand for queries."""
GATHER = 4
"""How much dearer a byte is that is read out of order."""
SLACK = 1e-9
"""More than float64 errs in any of these sums of numbers up to 1."""

Fetch = Callable[[int, int], np.ndarray]
"""Vectors of the rows from a first to before a last one."""


@dataclass(frozen=True)
class Rotated:
    """A query along the axes of some bounds, its head and tail in bytes."""

    codes: tuple[np.ndarray, np.ndarray]
    """(1, m) and (1, D − m) int8."""
    steps: tuple[float, float]
    lengths: tuple[float, float]
    errors: tuple[float, float]


@dataclass(frozen=True)
class Bounds:
    """Bytes of N vectors, and how far they may be wrong."""

    rotation: np.ndarray
    """(D, D) float64, orthogonal: a column for each axis."""
    head: np.ndarray
    """(N, m) int8."""
    tail: np.ndarray
    """(N, D − m) int8."""
    rest: np.ndarray
    """(N,) float32: the length of each tail, rounded up."""
    steps: np.ndarray
    """(B, 2) float64: step of head and tail."""
    errors: np.ndarray
    """(B, 2) float64: largest |y − s c| of head and tail."""
    longest: np.ndarray
    """(B, 2) float64: greatest length of head and tail."""

    def __len__(self) -> int:
        return len(self.head)

    def search(
        self, query: np.ndarray, best: Best, score: Scorer, alive: np.ndarray | None, pool: Executor
    ) -> None:
        """Let `best` have the rows nearest to `query` (D,); `alive` (N,) bool leaves the others out."""
        rotated = self._rotated(query)

        def one(block: int) -> None:
            rows, upper = self._candidates(block, rotated, best, alive)
            offer(rows, upper, best, score)

        for _ in pool.map(one, range(len(self.steps))):
            pass

    def _rotated(self, query: np.ndarray) -> Rotated:
        parts = np.split(query.astype(np.float64) @ self.rotation, [self.head.shape[1]])
        rounded = [in_bytes(part[None]) for part in parts]
        return Rotated(
            codes=(rounded[0][0], rounded[1][0]),
            steps=(rounded[0][1], rounded[1][1]),
            lengths=(float(np.linalg.norm(parts[0])), float(np.linalg.norm(parts[1]))),
            errors=(float(rounded[0][2].max(initial=0)), float(rounded[1][2].max(initial=0))),
        )

    def _candidates(
        self, block: int, query: Rotated, best: Best, alive: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rows of a block that may be among the best, and the most that each can score."""
        start, stop = block * BLOCK, min((block + 1) * BLOCK, len(self))
        sums = self._sums(block, query, 0, self.head[start:stop])  # (n,)
        upper = self.rest[start:stop] * (query.lengths[1] + SLACK)
        upper = upper + (sums + self._most_wrong(block, query, 0))
        if alive is not None:
            upper[~alive[start:stop]] = -np.inf
        rows = np.flatnonzero((upper >= best.floor) & (upper > -np.inf))
        if not self.tail.shape[1] or len(rows) <= best.k:
            return rows + start, upper[rows]
        whole = len(rows) * GATHER > stop - start
        tail = self.tail[start:stop] if whole else self.tail[start + rows]
        more = self._sums(block, query, 1, tail)
        wrong = self._most_wrong(block, query, 0) + self._most_wrong(block, query, 1)
        return rows + start, np.minimum(upper[rows], sums[rows] + (more[rows] if whole else more) + wrong)

    def _sums(self, block: int, query: Rotated, part: int, codes: np.ndarray) -> np.ndarray:
        """(n,) float64: what the bytes of head (0) or tail (1) give."""
        import numkong

        dots = np.asarray(numkong.cdist(query.codes[part], codes, "dot"))[0]  # exact: sums of integers
        return dots * (self.steps[block, part] * query.steps[part])

    def _most_wrong(self, block: int, query: Rotated, part: int) -> float:
        error = float(self.errors[block, part])
        of_query = (float(self.longest[block, part]) + error) * query.errors[part]
        return error * query.lengths[part] + of_query + SLACK


def in_bytes(values: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
    """Values (n, d) as int8 codes of one step, the step, and the error |y − s c| of each row (n,)."""
    step = float(np.abs(values).max(initial=0)) / 127 or 1.0
    codes = np.rint(values / step).astype(np.int8)
    return codes, step, np.linalg.norm(values - codes * step, axis=1)


def make_bounds(fetch: Fetch, count: int, seed: int = 0) -> Bounds:
    """The bounds of `count` vectors of float32, fetched block by block.

    Raises `FeatureStoreError` where their axes cannot be computed.
    """
    sample = _sample(fetch, count, seed)  # (n, D)
    rotation = _axes(sample)
    head = _best_head(sample.astype(np.float64) @ rotation, count)
    channels = sample.shape[1]
    arrays = {
        "head": np.empty((count, head), np.int8),
        "tail": np.empty((count, channels - head), np.int8),
        "rest": np.empty(count, np.float32),
    }
    facts: dict[str, list[tuple[float, float]]] = {"steps": [], "errors": [], "longest": []}
    for start, stop in blocks(count):
        values = fetch(start, stop).astype(np.float64) @ rotation
        parts = values[:, :head], values[:, head:]
        lengths = [np.linalg.norm(part, axis=1) for part in parts]
        rounded = [in_bytes(part) for part in parts]
        arrays["head"][start:stop], arrays["tail"][start:stop] = rounded[0][0], rounded[1][0]
        arrays["rest"][start:stop] = np.nextafter(lengths[1].astype(np.float32), np.float32(np.inf))
        facts["steps"].append((rounded[0][1], rounded[1][1]))
        facts["errors"].append(_largest(rounded[0][2], rounded[1][2]))
        facts["longest"].append(_largest(*lengths))
    return Bounds(rotation, **arrays, **{name: np.array(rows).reshape(-1, 2) for name, rows in facts.items()})


def blocks(count: int, size: int = BLOCK) -> Iterator[tuple[int, int]]:
    """First row of each block, and the row after its last."""
    return ((start, min(start + size, count)) for start in range(0, count, size))


def _largest(*parts: np.ndarray) -> tuple[float, float]:
    first, second = (float(part.max(initial=0)) for part in parts)
    return first, second


def _sample(fetch: Fetch, count: int, seed: int) -> np.ndarray:
    """Up to about `SAMPLE` rows (n, D), some from each part of the whole."""
    pieces = min(count, 200)
    edges = np.linspace(0, count, pieces + 1).astype(int)
    rng = np.random.default_rng(seed)
    taken = []
    for start, stop in pairwise(edges.tolist()):
        rows = fetch(start, stop)
        take = min(len(rows), -(-SAMPLE // pieces))
        taken.append(rows[rng.choice(len(rows), take, replace=False)])
    return np.concatenate(taken)


def _axes(sample: np.ndarray) -> np.ndarray:
    """(D, D): the principal axes of a sample (n, D), the strongest first."""
    values = sample.astype(np.float64)
    _, axes = np.linalg.eigh(values.T @ values)
    rotation = np.ascontiguousarray(axes[:, ::-1])
    if not np.abs(rotation.T @ rotation - np.eye(len(rotation))).max() < SLACK / len(rotation):
        raise FeatureStoreError(
            "the axes of the vectors cannot be computed", fix="Look for values that are no numbers"
        )
    return rotation


def _best_head(values: np.ndarray, count: int) -> int:
    """The length of the head with which least is read of `count` rows, told from rotated rows (n, D)."""
    channels = values.shape[1]
    tried = values[:: max(1, len(values) // TRIED)][:TRIED]
    rank = min(len(values), max(2, round(10 * len(values) / count) + 1))  # the query is its own best
    costs = {channels: float(channels)}
    lengths = np.linalg.norm
    for head in HEADS:
        if head < channels:
            upper = tried[:, :head] @ values[:, :head].T
            upper += np.outer(lengths(tried[:, head:], axis=1), lengths(values[:, head:], axis=1))
            floor = np.partition(tried @ values.T, -rank, axis=1)[:, -rank]
            share = float((upper >= floor[:, None]).mean())
            costs[head] = head + min(1.0, GATHER * share) * (channels - head)
    return min(costs, key=lambda head: (costs[head], head))
