"""An inverted file with product quantisation (IVF-PQ): most neighbours among more tiles than can be looked
through.

FAISS trains it on our vectors in memory, from a fixed seed. What is stored is plain arrays, and FAISS's
index is rebuilt from them: its own files can crash a process, or worse, when somebody else wrote them.
Whatever it finds is scored exactly from the vectors. How many of the true neighbours it misses is measured
when it is made: how many lists are probed is chosen with some tiles as queries, and the recall is that of
others, none of which trained it.

Letters: N rows, D channels, L lists, M bytes of a code, Q queries.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

import numpy as np

from tools.cohort.best import Best, Scorer
from tools.cohort.bounds import Fetch, blocks

NEIGHBOURS = 10
"""Recall is measured among so many neighbours."""
AIM = 0.97
"""Recall that the number of lists is chosen for."""
QUERIES = 100
"""Queries that choose, and as many that measure."""
DEPTHS = (100, 200, 400, 800, 1600)
"""How many candidates may be scored exactly."""
PER_LIST = 64
"""Rows per list to train on."""
FEWEST = 2048
"""Rows below which there is nothing to train on."""
BYTES_OF_LOOKUP, BYTES_OF_ROW = 4, 16
"""How dear a byte of a code and a byte of a vector read out of order are, relative to each other."""


@dataclass(frozen=True)
class Inverted:
    """Codes of N vectors, sorted into lists by their nearest centroid."""

    centroids: np.ndarray
    """(L, D) float32."""
    codebooks: np.ndarray
    """(M, 256, D / M) float32: what each byte stands for, of a vector without its centroid."""
    codes: np.ndarray
    """(N, M) uint8, list after list."""
    rows: np.ndarray
    """(N,) int64: whose codes they are."""
    sizes: np.ndarray
    """(L,) int64: how many of them each list has."""
    probes: int
    """Lists that are looked into."""
    depth: int
    """Candidates that are scored exactly for `NEIGHBOURS` hits."""

    def search(self, query: np.ndarray, best: Best, score: Scorer, alive: np.ndarray | None) -> None:
        """Let `best` have the candidates nearest to `query` (D,); `alive` (N,) bool leaves the others out."""
        depth = self.depth * max(1, math.ceil(best.k / NEIGHBOURS))
        rows = self.candidates(query[None], self.probes, min(depth, len(self.rows)), alive)[0]
        rows = rows[rows >= 0]
        if len(rows):
            best.add(*score(rows))

    def candidates(
        self, queries: np.ndarray, probes: int, depth: int, alive: np.ndarray | None = None
    ) -> np.ndarray:
        """Rows (Q, depth) by their codes, the likeliest first; −1 where there are fewer."""
        import faiss

        packed = None if alive is None else np.packbits(alive, bitorder="little")
        only: Any = None if packed is None else faiss.IDSelectorBitmap(packed)  # type: ignore[call-arg, arg-type]
        parameters = faiss.SearchParametersIVF(nprobe=probes, sel=only)  # type: ignore[call-arg]
        return np.asarray(self._index.search(queries, depth, params=parameters)[1])

    @cached_property
    def _index(self) -> Any:
        import faiss

        (lists, channels), parts = self.centroids.shape, len(self.codebooks)
        coarse = faiss.IndexFlatIP(channels)
        coarse.add(self.centroids)
        index = faiss.IndexIVFPQ(coarse, channels, lists, parts, 8, faiss.METRIC_INNER_PRODUCT)
        faiss.copy_array_to_vector(self.codebooks.ravel(), index.pq.centroids)
        ends, lists_of = np.cumsum(self.sizes), cast(Any, index.invlists)
        for number, (start, stop) in enumerate(zip(ends - self.sizes, ends, strict=True)):
            rows, codes = (np.ascontiguousarray(array[start:stop]) for array in (self.rows, self.codes))
            lists_of.add_entries(number, len(rows), faiss.swig_ptr(rows), faiss.swig_ptr(codes))
        index.is_trained, index.ntotal = True, len(self.rows)
        return index


@dataclass(frozen=True)
class Recall:
    """What was measured of an inverted file."""

    share: float
    """Of the true neighbours of the queries, those found."""
    queries: int


def make_inverted(fetch: Fetch, count: int, seed: int = 0) -> tuple[Inverted, Recall]:
    """Train on `count` vectors, fetched block by block, and measure."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(count)
    asked, lists = order[: min(2 * QUERIES, count // 10)], list_count(count)
    learned = np.sort(order[len(asked) :][: max(FEWEST, PER_LIST * lists)])
    index = _trained(_rows(fetch, learned), lists, seed)
    for start, stop in blocks(count):
        index.add(fetch(start, stop))
    plain = _as_arrays(index, count)
    queries = _rows(fetch, np.sort(asked))
    asked = np.sort(asked)
    nearest = _nearest(fetch, count, queries, asked)
    choosing, measuring = slice(0, None, 2), slice(1, None, 2)
    plain = _chosen(plain, queries[choosing], asked[choosing], nearest[choosing])
    found = plain.candidates(queries[measuring], plain.probes, plain.depth + 1)
    share = _recall(found, asked[measuring], nearest[measuring], plain.depth)
    return plain, Recall(share, len(asked[measuring]))


def list_count(count: int) -> int:
    """Lists for so many rows: about the square root, a power of two."""
    return int(2 ** max(0, round(math.log2(max(1, count) ** 0.5))))


def part_count(channels: int) -> int:
    """Bytes of a code: the most parts of eight channels or more that divide them evenly."""
    return max(parts for parts in range(1, max(1, channels // 8) + 1) if channels % parts == 0)


def _trained(sample: np.ndarray, lists: int, seed: int) -> Any:
    import faiss

    channels = sample.shape[1]
    coarse = faiss.IndexFlatIP(channels)
    index = faiss.IndexIVFPQ(coarse, channels, lists, part_count(channels), 8, faiss.METRIC_INNER_PRODUCT)
    for clustering in (index.cp, index.pq.cp):
        clustering.seed, clustering.niter, clustering.min_points_per_centroid = seed + 1, 10, 1
    index.train(sample)
    return index


def _as_arrays(index: Any, count: int) -> Inverted:
    """What FAISS trained, as our arrays."""
    import faiss

    lists, parts, channels = index.nlist, index.pq.M, index.d
    sizes = np.array([index.invlists.list_size(number) for number in range(lists)], dtype=np.int64)
    codes, rows = np.empty((count, parts), np.uint8), np.empty(count, np.int64)
    ends = np.cumsum(sizes)
    for number in np.flatnonzero(sizes):
        start, stop, size = int(ends[number] - sizes[number]), int(ends[number]), int(sizes[number])
        held = index.invlists.get_codes(int(number)), index.invlists.get_ids(int(number))
        codes[start:stop] = faiss.rev_swig_ptr(held[0], size * parts).reshape(size, parts)
        rows[start:stop] = faiss.rev_swig_ptr(held[1], size)
    centroids = index.quantizer.reconstruct_n(0, lists)
    codebooks = faiss.vector_to_array(index.pq.centroids).reshape(parts, 256, channels // parts)
    return Inverted(centroids, codebooks, codes, rows, sizes, probes=lists, depth=DEPTHS[-1])


def _rows(fetch: Fetch, rows: np.ndarray) -> np.ndarray:
    """The vectors (n, D) of sorted rows, which may lie anywhere."""
    parts = [fetch(int(part[0]), int(part[-1]) + 1)[part - part[0]] for part in _runs(rows)]
    return np.ascontiguousarray(np.concatenate(parts), dtype=np.float32)


def _runs(rows: np.ndarray, reach: int = 1 << 15) -> list[np.ndarray]:
    return np.split(rows, np.flatnonzero(np.diff(rows // reach)) + 1)


def _nearest(fetch: Fetch, count: int, queries: np.ndarray, own: np.ndarray) -> np.ndarray:
    """The true neighbours (Q, NEIGHBOURS) of queries (Q, D) that are the rows `own` (Q,) themselves."""
    scores = np.empty((len(queries), 0), np.float32)
    rows = np.empty((len(queries), 0), np.int64)
    for start, stop in blocks(count):
        fresh = queries @ fetch(start, stop).T
        mine = np.flatnonzero((own >= start) & (own < stop))
        fresh[mine, own[mine] - start] = -np.inf
        scores = np.concatenate([scores, fresh], axis=1)
        rows = np.concatenate([rows, np.tile(np.arange(start, stop), (len(queries), 1))], axis=1)
        keep = np.argpartition(-scores, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
        scores, rows = np.take_along_axis(scores, keep, 1), np.take_along_axis(rows, keep, 1)
    return rows


def _recall(found: np.ndarray, own: np.ndarray, nearest: np.ndarray, depth: int) -> float:
    """The share of `nearest` (Q, n) among the first `depth` of `found` (Q, more), but for `own` (Q,)."""
    hits = 0
    for candidates, row, true in zip(found, own, nearest, strict=True):
        hits += len(np.intersect1d(candidates[candidates != row][:depth], true))
    return hits / nearest.size


def _chosen(index: Inverted, queries: np.ndarray, own: np.ndarray, nearest: np.ndarray) -> Inverted:
    """The index with the fewest lists and candidates that reach `AIM`; with all of them where none do."""
    lists, (count, code) = len(index.sizes), index.codes.shape
    best, lowest, probes = index, math.inf, 1
    while probes <= lists:
        found = index.candidates(queries, probes, min(DEPTHS[-1] + 1, count))
        for depth in DEPTHS:
            cost = probes * count / lists * code * BYTES_OF_LOOKUP + depth * queries.shape[1] * BYTES_OF_ROW
            if cost < lowest and _recall(found, own, nearest, depth) >= AIM:
                best, lowest = replace(index, probes=probes, depth=depth), cost
        probes *= 2
    return best
