"""The tile index: exact nearest vectors, and files that are checked before they are believed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core_model.errors import FeatureStoreError
from core_model.features.tiles import TileFeatures
from core_model.slides.box import Box
from tools.index import TileIndex, unit


def make(count: int, dim: int = 8, seed: int = 0) -> TileIndex:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(count, dim)).astype(np.float32) * rng.uniform(0.1, 50, (count, 1))
    coords = np.arange(2 * count, dtype=np.int64).reshape(count, 2) * 224
    tiles = TileFeatures(vectors.astype(np.float32), coords, 224, 112.0, 0.5, "fake")
    return TileIndex.build(vectors, tiles)


@given(count=st.integers(1, 60), k=st.integers(1, 70), seed=st.integers(0, 999), share=st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_hits_are_the_largest_cosines(count: int, k: int, seed: int, share: float) -> None:
    index = make(count, seed=seed)
    rng = np.random.default_rng(seed + 1)
    query, exclude = rng.normal(size=8) * 7, rng.random(count) < share
    cosines = index.vectors @ (query / np.linalg.norm(query))
    wanted = [row for row in np.argsort(-cosines, kind="stable") if not exclude[row]][:k]
    hits = index.search(query, k, exclude)
    assert [hit.row for hit in hits] == wanted
    assert np.allclose([hit.score for hit in hits], cosines[wanted], atol=1e-5)
    assert all(hit.box == index.box(hit.row) for hit in hits)


def test_length_does_not_matter_and_zero_is_no_direction() -> None:
    coords = np.zeros((3, 2), dtype=np.int64)
    vectors = np.array([[100, 0], [0, 0], [0, 0.01]], dtype=np.float32)
    index = TileIndex.build(vectors, TileFeatures(vectors, coords, 1, 1.0, 1.0, "fake"))
    assert [(hit.row, round(hit.score, 6)) for hit in index.search(np.array([0, 9.0]), 1)] == [(2, 1.0)]


def test_a_query_of_another_space_is_a_bug() -> None:
    with pytest.raises(ValueError, match="space of 8"):
        make(5).search(np.ones(3), 1)


def test_a_stored_index_answers_the_same(tmp_path: Path) -> None:
    index, path = make(40), tmp_path / "sub" / "a.safetensors"
    index.save(path, {"slide": "x"})
    loaded = TileIndex.load(path, {"slide": "x"})
    query = np.arange(8.0)
    assert loaded.search(query, 10) == index.search(query, 10)
    assert [p.name for p in path.parent.iterdir()] == ["a.safetensors"]


def test_what_is_not_this_index_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    make(40).save(path, {"slide": "x"})
    whole = path.read_bytes()
    with pytest.raises(FeatureStoreError, match="slide is 'x' where 'y'"):
        TileIndex.load(path, {"slide": "y"})
    for damaged in (b"", whole[:100], whole[:-50], b"IxFI" + whole[4:], b"\x80\x04." + whole):
        path.write_bytes(damaged)
        with pytest.raises(FeatureStoreError, match="Delete it"):
            TileIndex.load(path, {"slide": "x"})
    with pytest.raises(FeatureStoreError):
        TileIndex.load(tmp_path / "gone.safetensors")


def test_an_index_remembers_where_its_slide_ends_and_anybody_may_read_it(tmp_path: Path) -> None:
    coords = np.array([[0, 0], [100, 0]], dtype=np.int64)
    index = TileIndex(unit(np.ones((2, 3))), coords, 100, (130, 60))
    assert index.box(1) == Box(100, 0, 30, 60)
    index.save(tmp_path / "index", {})
    plain = tmp_path / "plain"
    plain.touch()
    assert (tmp_path / "index").stat().st_mode == plain.stat().st_mode
    assert TileIndex.load(tmp_path / "index").box(1) == Box(100, 0, 30, 60)
    TileIndex(index.vectors, coords, 100).save(tmp_path / "index", {})
    assert TileIndex.load(tmp_path / "index").box(1) == Box(100, 0, 100, 100), "written before this was known"
