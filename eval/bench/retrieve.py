"""The search for similar tiles beside NumPy's brute force, in turns and in one run.

Two kinds of vectors are made up. Random ones point anywhere: nothing can be left out before its bytes are
seen, and an inverted file, which is not tried, has nothing to go by. Clustered ones are as tiles of tissue:
types of tissue that slides mix and stain each in its way, along few axes (the spectrum falls as a power of
the channel, as those of tile encoders do). A query is a vector of the cohort with some noise. A search goes
the whole way of `giant similar --in`.

Letters: N tiles, D channels, Q queries.
"""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from core_model.errors import GiantError
from core_model.machine import usable_cores
from eval.bench.measure import hardware
from eval.tables import figures_table
from tools.cohort.best import exact_scores
from tools.cohort.index import CohortIndex
from tools.cohort.update import Change, add_to_index
from tools.index import SUFFIX, TileIndex, unit

if TYPE_CHECKING:
    from rich.table import Table

TILES, CHANNELS, SLIDES, QUERIES, K = 1_000_000, 384, 100, 24, 10
TYPES = 40
KINDS = {"random": ("exact",), "clustered": ("exact", "ivf")}
"""Vectors, and how they are searched."""
IDENTITY = {"space": "tile", "fingerprint": "made up", "tile_um": "112"}


@dataclass(frozen=True)
class SearchRun:
    """One way to search, beside brute force."""

    vectors: str
    """random or clustered."""
    search: str
    """exact, or ivf."""
    built: float
    """Seconds to make the index."""
    brute: float
    """Seconds of a query by brute force, median."""
    seconds: float
    """Seconds of a query by the index, median."""
    cpu_ratio: float
    """CPU time of brute force, in times that of the index."""
    recall: float
    """Share of the brute force's hits found: tiles that score as well count as them."""
    measured: float | None
    """The recall that was measured when the index was made."""
    note: str

    @property
    def ratio(self) -> float:
        """How many times as fast as brute force it is."""
        return self.brute / self.seconds


def main(tiles: int, rounds: int, work: Path | None, as_json: bool) -> None:
    """Measure; print a table, or one JSON object. The vectors lie in a folder in `work` meanwhile."""
    from agent.cli.terminal import stderr, stdout

    runs = []
    for kind in KINDS:
        stderr().print(f"{kind}: {tiles:,} vectors of {CHANNELS} channels")
        if work is not None:
            work.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=work, prefix="retrieve-") as folder:
            runs += list(measure(Path(folder), kind, tiles, rounds))
    about = {"hardware": hardware(), "threads": usable_cores(), "tiles": tiles, "channels": CHANNELS, "k": K}
    if as_json:
        print(json.dumps(about | {"runs": [asdict(run) | {"ratio": run.ratio} for run in runs]}, indent=1))
        return
    stdout().print(
        f"{about['hardware']}, {about['threads']} threads; {tiles:,} x {CHANNELS}, {SLIDES} slides, best {K}"
    )
    stdout().print(runs_table(runs))


def measure(folder: Path, kind: str, tiles: int, rounds: int) -> Iterator[SearchRun]:
    """Make a cohort of these vectors, and search it exactly and by an inverted file."""
    store = folder / "features_made-up"
    parts = []
    for number, vectors in enumerate(made_up(kind, tiles)):
        corners = np.zeros((len(vectors), 2), np.int64)
        index = TileIndex(vectors, corners, 224, mpp=0.5)
        index.save(store / f"s{number:03d}{SUFFIX}", {**IDENTITY, "slide": f"id-{number:03d}"})
        parts.append(vectors)
    everything = np.concatenate(parts)  # (N, D)
    queries = drawn_queries(everything)
    for search in KINDS[kind]:
        limit = tiles if search == "exact" else 0
        start = time.perf_counter()
        change = add_to_index(store, IDENTITY, exact_up_to=limit, looked_through=0)
        built = time.perf_counter() - start
        yield _in_turns(
            kind, search, built, change, CohortIndex.open(store, IDENTITY), everything, queries, rounds
        )


def made_up(kind: str, tiles: int, seed: int = 0) -> Iterator[np.ndarray]:
    """The vectors (n, D) of each slide, of length 1."""
    rng = np.random.default_rng(seed)
    spectrum = (1 + np.arange(CHANNELS)) ** -0.75
    spectrum /= np.linalg.norm(spectrum)
    turned = np.linalg.qr(rng.normal(size=(CHANNELS, CHANNELS)))[0]
    middle, types = rng.normal(size=CHANNELS) * spectrum, rng.normal(size=(TYPES, CHANNELS)) * spectrum
    for part in np.array_split(np.arange(tiles), min(SLIDES, tiles)):
        noise = rng.standard_normal((len(part), CHANNELS), dtype=np.float32)
        if kind == "random":
            yield unit(noise)
            continue
        stain, own = 0.4 * rng.normal(size=CHANNELS), 0.5 * rng.normal(size=(TYPES, CHANNELS))
        mixed = rng.choice(TYPES, len(part), p=rng.dirichlet(np.full(TYPES, 0.3)))
        places = middle + (stain + own) * spectrum + types  # (TYPES, D)
        yield unit((places[mixed] + 0.6 * noise * spectrum) @ turned.T)


def drawn_queries(vectors: np.ndarray, seed: int = 1) -> np.ndarray:
    """(Q, D): vectors of the cohort, each moved by 0.3 in some direction."""
    rng = np.random.default_rng(seed)
    chosen = vectors[rng.choice(len(vectors), QUERIES)]
    return unit(chosen + 0.3 / math.sqrt(CHANNELS) * rng.standard_normal(chosen.shape, dtype=np.float32))


def brute_force(vectors: np.ndarray, query: np.ndarray) -> np.ndarray:
    """Rows (K,) of the best, best first: what NumPy makes of it."""
    scores = vectors @ query
    best = np.argpartition(scores, -K)[-K:]
    return best[np.lexsort((best, -scores[best]))]


def _in_turns(
    kind: str,
    search: str,
    built: float,
    change: Change,
    index: CohortIndex,
    everything: np.ndarray,
    queries: np.ndarray,
    rounds: int,
) -> SearchRun:
    for number in range(len(index.files.entries)):
        index.files.slide(number)  # as after a first search: each file is checked once
    times: dict[str, list[tuple[float, float]]] = {"brute": [], "index": []}
    found = 0
    for query in np.repeat(queries, rounds, axis=0):
        rows = _timed(times["brute"], brute_force, everything, query)
        hits = _timed(times["index"], index.search, query, K)
        last = exact_scores(everything[rows], unit(query[None])[0]).min()  # as the index scales a query
        found += sum(hit.score >= last for hit in hits)
    recall = found / (K * len(queries) * rounds)
    if search == "exact" and recall < 1:
        raise GiantError("the exact search missed a tile that brute force found", where=f"{kind} vectors")
    wall, cpu = (
        {way: statistics.median(pair[part] for pair in pairs) for way, pairs in times.items()}
        for part in (0, 1)
    )
    cpu_ratio = cpu["brute"] / max(cpu["index"], 1e-9)
    return SearchRun(
        kind, search, built, wall["brute"], wall["index"], cpu_ratio, recall, change.recall, _about(index)
    )


def _timed(times: list[tuple[float, float]], work: Callable[..., Any], *args: Any) -> Any:
    wall, cpu = time.perf_counter(), time.process_time()
    result = work(*args)
    times.append((time.perf_counter() - wall, time.process_time() - cpu))
    return result


def _about(index: CohortIndex) -> str:
    """How much of the vectors a search reads first."""
    from tools.cohort.bounds import Bounds

    content = index.parts[0].content
    if isinstance(content, Bounds):
        return f"{content.head.shape[1]} bytes of each tile"
    return f"{content.probes} of {len(content.sizes)} lists, {content.depth} scored"


def runs_table(runs: list[SearchRun]) -> Table:
    """The runs with their figures."""
    titles = [
        "brute force, ms",
        "search, ms",
        "times as fast",
        "by CPU time",
        "recall@10",
        "measured",
        "built, s",
    ]
    table = figures_table(["vectors", "search", "reads"], titles)
    for run in runs:
        figures = [
            f"{run.brute * 1e3:.1f}",
            f"{run.seconds * 1e3:.2f}",
            f"{run.ratio:.1f}",
            f"{run.cpu_ratio:.1f}",
        ]
        figures += [
            f"{run.recall:.3f}",
            "" if run.measured is None else f"{run.measured:.3f}",
            f"{run.built:.1f}",
        ]
        table.add_row(run.vectors, run.search, run.note, *figures)
    return table
