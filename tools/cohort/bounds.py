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

import math
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from core_model.errors import FeatureStoreError
from tools.cohort.best import FIRST, Best, Scorer, offer

BLOCK = 1 << 15
"""Rows of a block."""
SAMPLE = 20_000
"""Rows from which axes and head are chosen."""
HEADS = (32, 64, 128, 256)
"""Lengths of heads that are tried, beside all channels."""
TRIED = 12
"""Rows of the sample that stand for queries."""
LOOKS = 16
"""Blocks that are looked into first."""
ROW, BYTE = 1200, 3
"""How dear a tail and each of its bytes are that are read out of order, relative to a byte in order."""
SLACK = 2e-6
"""More than float32 errs in a few sums and products of numbers up to about 1."""

Fetch = Callable[[int, int], np.ndarray]
"""Vectors of the rows from a first to before a last one."""


@dataclass(frozen=True)
class Rotated:
    """A query along the axes of some bounds: what is known of its head, and of its tail."""

    packed: tuple[Any, Any]
    """Their bytes, as the library takes them."""
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
        self._lift(rotated, best, score, alive)

        def one(block: int) -> None:
            rows, upper = self._candidates(block, rotated, best, alive)
            if len(rows):
                offer(rows, upper, best, score)

        for _ in pool.map(one, range(len(self.steps))):
            pass

    def _rotated(self, query: np.ndarray) -> Rotated:
        import numkong

        parts = np.split(query.astype(np.float64) @ self.rotation, [self.head.shape[1]])
        rounded = [in_bytes(part[None]) for part in parts]
        packed = [numkong.dots_pack(codes) if codes.size else None for codes, _, _ in rounded]
        lengths, errors = [float(np.linalg.norm(part)) for part in parts], [float(r[2][0]) for r in rounded]
        return Rotated(
            (packed[0], packed[1]),
            (rounded[0][1], rounded[1][1]),
            (lengths[0], lengths[1]),
            (errors[0], errors[1]),
        )

    def _lift(self, query: Rotated, best: Best, score: Scorer, alive: np.ndarray | None) -> None:
        """Score the most promising of some rows from all over, so that few are looked at from the start."""
        rows, upper = [], []
        for block in range(0, len(self.steps), max(1, len(self.steps) // LOOKS)):
            start = block * BLOCK
            stop = min(start + BLOCK // LOOKS, len(self))
            upper.append(self._upper(block, query, start, stop))
            rows.append(np.arange(start, stop))
        seeds, uppers = np.concatenate(rows), np.concatenate(upper)
        if alive is not None:
            seeds, uppers = seeds[alive[seeds]], uppers[alive[seeds]]
        few = max(FIRST, best.k)
        if len(seeds) > few:
            best.lift(score(seeds[np.argpartition(uppers, -few)[-few:]])[1])

    def _upper(self, block: int, query: Rotated, start: int, stop: int) -> np.ndarray:
        """(n,) float32: the most that rows of a block can score by their heads, but for `_most_wrong`."""
        upper = self._sums(block, query, 0, self.head[start:stop])
        if self.tail.shape[1]:
            upper += self.rest[start:stop] * np.float32(query.lengths[1])
        return upper

    def _candidates(
        self, block: int, query: Rotated, best: Best, alive: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rows of a block that may be among the best, and the most that each can score."""
        start, stop = block * BLOCK, min((block + 1) * BLOCK, len(self))
        wrong = self._most_wrong(block, query, 0)
        upper = self._upper(block, query, start, stop)
        may = upper >= np.float32(best.floor - wrong)
        if alive is not None:
            may &= alive[start:stop]
        rows = np.flatnonzero(may)
        upper = upper[rows]
        if self.tail.shape[1] and len(rows) > best.k:
            upper -= self.rest[start + rows] * np.float32(query.lengths[1])
            upper += self._sums(block, query, 1, self.tail[start + rows])
            wrong += self._most_wrong(block, query, 1)
        return rows + start, upper + wrong

    def _sums(self, block: int, query: Rotated, part: int, codes: np.ndarray) -> np.ndarray:
        """(n,) float32: what the bytes of heads (0) or tails (1) give."""
        import numkong

        dots = np.asarray(numkong.dots_packed(codes, query.packed[part])).reshape(-1)  # int32, exact
        return np.multiply(dots, self.steps[block, part] * query.steps[part], dtype=np.float32)

    def _most_wrong(self, block: int, query: Rotated, part: int) -> float:
        error = float(self.errors[block, part])
        of_query = (float(self.longest[block, part]) + error) * query.errors[part]
        return error * query.lengths[part] + of_query + SLACK


def in_bytes(values: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
    """Values (n, d) as int8 codes of one step, the step, and the error |y − s c| of each row (n,)."""
    step = float(np.abs(values).max(initial=0)) / 127 or 1.0
    codes = np.rint(values / step).astype(np.int8)
    return codes, step, _lengths(codes * np.float64(step) - values)


def most_rounded(channels: int) -> float:
    """The most that a float32 product of unit vectors errs, however it is summed (Higham, 2002, 3.1)."""
    rounding = (channels + 2) * 2.0**-24
    return 1.01 * rounding / (1 - rounding)


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
    narrow = rotation.astype(np.float32)
    for start, stop in blocks(count):
        vectors = fetch(start, stop)
        values = vectors @ narrow  # (n, D), in error by at most `off`
        off = _most_off(vectors)
        parts = values[:, :head], values[:, head:]
        lengths = [_lengths(part) + off for part in parts]
        rounded = [in_bytes(part) for part in parts]
        arrays["head"][start:stop], arrays["tail"][start:stop] = rounded[0][0], rounded[1][0]
        arrays["rest"][start:stop] = np.nextafter(lengths[1].astype(np.float32), np.float32(np.inf))
        facts["steps"].append((rounded[0][1], rounded[1][1]))
        facts["errors"].append(_largest(rounded[0][2] + off, rounded[1][2] + off))
        facts["longest"].append(_largest(*lengths))
    return Bounds(rotation, **arrays, **{name: np.array(rows).reshape(-1, 2) for name, rows in facts.items()})


def blocks(count: int) -> Iterator[tuple[int, int]]:
    """First row of each block, and the row after its last."""
    return ((start, min(start + BLOCK, count)) for start in range(0, count, BLOCK))


def _lengths(vectors: np.ndarray) -> np.ndarray:
    """(n, d) → (n,) float64."""
    return np.sqrt(np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64))


def _most_off(vectors: np.ndarray) -> float:
    """How far vectors (n, D) that were rotated in float32 may be from where they belong."""
    channels = vectors.shape[1]
    return float(_lengths(vectors).max(initial=0)) * math.sqrt(channels) * most_rounded(channels)


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
    if not np.abs(rotation.T @ rotation - np.eye(len(rotation))).max() < 1e-9 / len(rotation):
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
    floor = np.partition(tried @ values.T, -rank, axis=1)[:, -rank:][:, :1]
    for head in HEADS:
        if head < channels:
            upper = tried[:, :head] @ values[:, :head].T
            upper += np.outer(_lengths(tried[:, head:]), _lengths(values[:, head:]))
            wrong = sum(float(in_bytes(rows[:, :head])[2].max()) for rows in (tried, values))
            share = float((upper + wrong >= floor).mean())
            costs[head] = head + share * (ROW + BYTE * (channels - head))
    return min(costs, key=lambda head: (costs[head], head))
