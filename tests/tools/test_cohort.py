"""The index of a cohort: exact whatever the vectors, whole after a kill, of files that are as they were."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core_model.errors import FeatureStoreError, UsageError
from tools.cohort import bounds, update
from tools.cohort.best import Best, exact_scores
from tools.cohort.bounds import make_bounds
from tools.cohort.index import CohortIndex
from tools.cohort.manifest import sha256_of
from tools.cohort.update import add_slides, add_to_index, remove_from_index, remove_from_store
from tools.index import SUFFIX, TileIndex, unit

IDENTITY = {"space": "tile", "fingerprint": "abc", "tile_um": "112"}
CHANNELS = 24
MANIFEST = Path("cohort") / "manifest.json"


class Cohort:
    """A store of made-up slides, and the truth about them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "features_fake"
        self.vectors: dict[str, np.ndarray] = {}
        self.centres = np.random.default_rng(7).normal(size=(9, CHANNELS))

    def write(self, name: str, rows: int, seed: int, **about: str) -> Path:
        rng = np.random.default_rng(seed)
        points = self.centres[rng.integers(0, 9, rows)] + 0.3 * rng.normal(size=(rows, CHANNELS))
        self.vectors[name] = unit(points)
        coords = np.stack([np.arange(rows), np.zeros(rows)], axis=1).astype(np.int64)
        path = self.folder / f"{name}{SUFFIX}"
        index = TileIndex(self.vectors[name], coords, 10, mpp=0.25)
        index.save(path, {**IDENTITY, "slide": f"id-{name}", **about})
        return path

    def nearest(self, query: np.ndarray, k: int, names: str) -> list[tuple[str, int]]:
        ranked = [
            (-score, name, row)
            for name in names
            for row, score in enumerate(exact_scores(self.vectors[name], unit(query[None])[0]))
        ]
        return [(name, row) for _, name, row in sorted(ranked)[:k]]

    def check(self, names: str, k: int = 10) -> CohortIndex:
        """The folder's index finds what looking through these slides does."""
        index = CohortIndex.open(self.folder, IDENTITY)
        for seed in range(4):
            query = np.random.default_rng(seed).normal(size=CHANNELS).astype(np.float32)
            hits = index.search(query, k)
            assert [(hit.slide.name, hit.box.x) for hit in hits] == self.nearest(query, k, names)
        return index

    def add(self, **options: Any) -> update.Change:
        return add_to_index(self.folder, IDENTITY, looked_through=100, **options)


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    made = Cohort(tmp_path)
    for number, name in enumerate("abc"):
        made.write(name, 200 + number, number)
    return made


# --- exactness -----------------------------------------------------------------------------------------


def draw(kind: str, rows: int, channels: int, rng: np.random.Generator) -> np.ndarray:
    """Vectors that are hard to tell apart, in one way or another."""
    if kind == "random":
        vectors = rng.normal(size=(rows, channels))
    elif kind == "equal":
        vectors = rng.normal(size=(3, channels))[rng.integers(0, 3, rows)]
    elif kind == "nearly equal":
        vectors = rng.normal(size=channels) + 1e-6 * rng.normal(size=(rows, channels))
    elif kind == "outliers":
        vectors = rng.normal(size=(rows, channels)) ** 9
    else:
        vectors = rng.normal(size=(rows, channels)) * (1 + np.arange(channels)) ** -2.0
    vectors[rng.random(rows) < 0.1] = 0
    return unit(vectors)


@given(
    kind=st.sampled_from(["random", "equal", "nearly equal", "outliers", "few axes"]),
    rows=st.integers(1, 400),
    channels=st.sampled_from([1, 7, 40, 96]),
    k=st.integers(1, 30),
    own=st.booleans(),
    head=st.sampled_from([None, 5, 33]),
    dead=st.sampled_from([0.0, 0.5, 1.0]),
    seed=st.integers(0, 999),
)
@settings(max_examples=80, deadline=None)
def test_bounds_leave_out_nothing_that_looking_through_finds(
    kind: str, rows: int, channels: int, k: int, own: bool, head: int | None, dead: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    vectors = draw(kind, rows, channels, rng)
    query = vectors[rng.integers(rows)] if own else unit(rng.normal(size=(1, channels)))[0]
    alive = rng.random(rows) >= dead if dead else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bounds, "BLOCK", 64)
        if head is not None:
            patch.setattr(bounds, "_best_head", lambda values, count: min(head, channels))
        made = make_bounds(lambda start, stop: vectors[start:stop], rows)
        best = Best(k)
        with ThreadPoolExecutor(2) as pool:
            made.search(query, best, lambda r: (r, exact_scores(vectors[r], query)), alive, pool)
    scores = exact_scores(vectors, query)
    order = np.lexsort((np.arange(rows), -scores))
    wanted = order if alive is None else order[alive[order]]
    assert best.rows.tolist() == wanted[:k].tolist()
    assert best.scores.tolist() == scores[wanted[:k]].tolist()


@given(seed=st.integers(0, 99), rows=st.integers(1, 50), channels=st.integers(1, 300))
@settings(max_examples=40, deadline=None)
def test_a_score_does_not_depend_on_who_is_scored_beside(seed: int, rows: int, channels: int) -> None:
    rng = np.random.default_rng(seed)
    vectors, query = unit(rng.normal(size=(rows, channels))), unit(rng.normal(size=(1, channels)))[0]
    alone = [float(exact_scores(vectors[row : row + 1], query)[0]) for row in range(rows)]
    assert exact_scores(vectors, query).tolist() == alone
    chosen = rng.permutation(rows)
    assert exact_scores(vectors[chosen], query).tolist() == [alone[row] for row in chosen]


@given(count=st.integers(0, 60), k=st.integers(1, 20), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_the_best_are_the_best_in_whatever_order_they_come(count: int, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, best = rng.integers(0, 8, count) / 8, Best(k)
    for part in np.array_split(rng.permutation(count), 5):
        best.add(part, scores[part])
    assert best.rows.tolist() == np.lexsort((np.arange(count), -scores))[:k].tolist()
    assert best.floor == (best.scores[-1] if count >= k else -np.inf)


# --- adding and removing -------------------------------------------------------------------------------


def test_slides_come_and_go_and_the_search_stays_exact(cohort: Cohort) -> None:
    cohort.check("abc")  # a folder without a manifest
    assert cohort.add() == update.Change(3, 603, None)
    assert len(cohort.check("abc").parts) == 1
    cohort.write("d", 120, 9)
    cohort.check("abcd")  # not added yet: looked through
    cohort.add()
    assert len(cohort.check("abcd").parts) == 2
    [gone] = remove_from_index(cohort.folder, "b")
    assert (gone.name, gone.id) == ("b", "id-b")
    cohort.check("acd")
    cohort.add()
    cohort.check("acd")
    add_to_index(cohort.folder, IDENTITY, {f"b{SUFFIX}"}, looked_through=100)
    cohort.check("abcd")


def test_hits_say_which_slide_where_and_how_fine(cohort: Cohort) -> None:
    cohort.add()
    index = CohortIndex.open(cohort.folder, IDENTITY)
    [hit] = index.search(cohort.vectors["b"][17], 1)
    assert (hit.slide.name, hit.slide.id, hit.slide.mpp) == ("b", "id-b", 0.25)
    assert (tuple(hit.box), round(hit.score, 6)) == ((17, 0, 10, 10), 1.0)
    assert all(
        other.slide.id != "id-b" for other in index.search(cohort.vectors["b"][17], 50, without="id-b")
    )
    assert len(index.search(cohort.vectors["b"][17], 1000)) == 603


def test_a_slide_that_changed_is_replaced(cohort: Cohort) -> None:
    cohort.add()
    cohort.write("b", 333, 55)
    cohort.check("abc")
    cohort.add()
    cohort.check("abc")
    assert [entry.rows for entry in CohortIndex.open(cohort.folder, IDENTITY).files.entries] == [
        200,
        333,
        202,
    ]


def test_much_that_is_dead_is_cleared_away(cohort: Cohort) -> None:
    cohort.add()
    [first] = (cohort.folder / "cohort").glob("bounds-*")
    remove_from_index(cohort.folder, "id-a")
    assert first.exists(), "nothing moves when a slide is taken out"
    cohort.add()
    [second] = (cohort.folder / "cohort").glob("bounds-*")
    assert second != first
    cohort.check("bc")


def test_a_file_that_is_gone_is_told(cohort: Cohort) -> None:
    cohort.add()
    (cohort.folder / f"b{SUFFIX}").unlink()
    with pytest.raises(FeatureStoreError, match=r"b.*is gone.*giant index --remove b"):
        CohortIndex.open(cohort.folder, IDENTITY)
    assert cohort.add().dropped == ("b",)
    cohort.check("ac")


def test_removing_names_one_slide(cohort: Cohort) -> None:
    with pytest.raises(FeatureStoreError, match="no index of a cohort"):
        remove_from_store(cohort.folder.parent, "a")
    cohort.add()
    with pytest.raises(UsageError, match="no slide 'z'"):
        remove_from_store(cohort.folder.parent, "z")
    assert [entry.name for entry in remove_from_store(cohort.folder.parent, "id-a")] == ["a"]


def test_vectors_of_other_weights_are_not_searched(cohort: Cohort) -> None:
    cohort.add()
    with pytest.raises(FeatureStoreError, match="fingerprint is 'abc' where 'new'"):
        CohortIndex.open(cohort.folder, {**IDENTITY, "fingerprint": "new"})
    path = cohort.write("a", 200, 0, fingerprint="new")
    with pytest.raises(FeatureStoreError, match=r"b\.tile.*fingerprint is 'abc' where 'new'"):
        add_slides([path])
    files = [cohort.write(name, 150, seed, fingerprint="new") for seed, name in enumerate("abc")]
    assert add_slides(files).slides == 3


# --- kills, damage and strangers -----------------------------------------------------------------------


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("moment", ["save_segment", "write_manifest", "make_bounds"])
def test_an_addition_that_is_killed_leaves_the_index_as_it_was(
    cohort: Cohort, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort.add()
    before = (cohort.folder / MANIFEST).read_bytes()
    cohort.write("d", 400, 9)
    after = getattr(update, moment)

    def killed(*args: Any) -> Any:
        if moment == "save_segment":
            after(*args)  # the segment is written, and nothing names it
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(update, moment, killed)
        with pytest.raises(Killed):
            cohort.add()
    assert (cohort.folder / MANIFEST).read_bytes() == before
    cohort.check("abcd")
    cohort.add()
    cohort.check("abcd")
    named = {segment["file"] for segment in json.loads((cohort.folder / MANIFEST).read_text())["segments"]}
    assert {path.name for path in (cohort.folder / "cohort").glob("*.safetensors")} == named


def spoil(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_a_damaged_segment_or_slide_is_refused(cohort: Cohort) -> None:
    cohort.add()
    [segment] = (cohort.folder / "cohort").glob("bounds-*")
    whole = segment.read_bytes()
    spoil(segment, -1)
    with pytest.raises(FeatureStoreError, match="not the one that was indexed"):
        CohortIndex.open(cohort.folder, IDENTITY)
    segment.write_bytes(whole)
    spoil(cohort.folder / f"a{SUFFIX}", -1)
    os.utime(
        cohort.folder / MANIFEST, (2**32, 2**32)
    )  # as after a disk's own mistake: nobody touched the file
    with pytest.raises(FeatureStoreError, match=r"a\.tile.*not the one that was indexed"):
        CohortIndex.open(cohort.folder, IDENTITY).search(np.ones(CHANNELS), 603)


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/b", "", ".."])
def test_a_manifest_names_no_file_elsewhere(cohort: Cohort, name: str) -> None:
    cohort.add()
    manifest = json.loads((cohort.folder / MANIFEST).read_text())
    manifest["segments"][0]["file"] = name
    (cohort.folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(FeatureStoreError, match="manifest cannot be read"):
        CohortIndex.open(cohort.folder, IDENTITY)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"version": 2}', b"\x80\x04."])
def test_a_manifest_of_another_kind_is_refused(cohort: Cohort, content: bytes) -> None:
    cohort.add()
    (cohort.folder / MANIFEST).write_bytes(content)
    with pytest.raises(FeatureStoreError, match="Delete the folder 'cohort'"):
        CohortIndex.open(cohort.folder, IDENTITY)


def test_vectors_that_are_no_numbers_are_refused(cohort: Cohort) -> None:
    vectors = np.full((3, CHANNELS), np.nan, np.float32)
    index = TileIndex(vectors, np.zeros((3, 2), np.int64), 10)
    index.save(cohort.folder / f"d{SUFFIX}", {**IDENTITY, "slide": "id-d"})
    with pytest.raises(FeatureStoreError, match="no numbers"):
        cohort.add()


# --- beyond exact search -------------------------------------------------------------------------------


@pytest.fixture
def large(tmp_path: Path) -> Cohort:
    made = Cohort(tmp_path)
    for number, name in enumerate("abcd"):
        made.write(name, 700 + number, number)
    return made


def found_of_nearest(cohort: Cohort, names: str) -> float:
    index, found = CohortIndex.open(cohort.folder, IDENTITY), 0
    for name in names:
        for row in range(5):
            query = cohort.vectors[name][row]
            hits = {(hit.slide.name, hit.box.x) for hit in index.search(query, 10)}
            found += len(hits & set(cohort.nearest(query, 10, names)))
    return found / (50 * len(names))


def test_beyond_the_limit_recall_is_measured_and_told(large: Cohort) -> None:
    change = large.add(exact_up_to=2000)
    assert change.recall is not None
    assert change.recall >= 0.95
    assert change.queries == 100
    assert CohortIndex.open(large.folder, IDENTITY).recall == change.recall
    assert found_of_nearest(large, "abcd") >= 0.95
    assert large.add(exact_up_to=5000).recall is None
    assert CohortIndex.open(large.folder, IDENTITY).recall is None


def test_slides_come_and_go_beside_an_inverted_file(large: Cohort) -> None:
    large.add(exact_up_to=2000)
    large.write("e", 300, 11)
    large.add(exact_up_to=2000)
    assert {part.content.__class__.__name__ for part in CohortIndex.open(large.folder, IDENTITY).parts} == {
        "Inverted", "Bounds"
    }  # fmt: skip
    assert found_of_nearest(large, "abcde") >= 0.95
    remove_from_index(large.folder, "c")
    assert found_of_nearest(large, "abde") >= 0.95


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("exact_up_to", [2000, 5000])
def test_an_index_that_is_made_twice_is_the_same(large: Cohort, exact_up_to: int) -> None:
    large.add(exact_up_to=exact_up_to)
    first = content(large.folder)
    (large.folder / MANIFEST).unlink()
    large.add(exact_up_to=exact_up_to)
    assert content(large.folder) == first


def test_no_file_of_faiss_is_read(large: Cohort) -> None:
    import faiss

    large.add(exact_up_to=2000)
    manifest = json.loads((large.folder / MANIFEST).read_text())
    [segment] = manifest["segments"]
    path = large.folder / "cohort" / segment["file"]
    faiss.write_index(faiss.IndexFlatIP(CHANNELS), str(path))
    with pytest.raises(FeatureStoreError, match="not the one that was indexed"):
        CohortIndex.open(large.folder, IDENTITY)
    segment["sha256"] = sha256_of(path)
    (large.folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(FeatureStoreError, match="no whole index"):
        CohortIndex.open(large.folder, IDENTITY)
