"""Features and tokens that stay on disk are the same numbers as in memory, and memory is bounded."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from trident_files import write_trident

from core_model.errors import GiantError, RunError
from core_model.slides.box import Box
from training.cohort.stored import LazyRows, Memory, TokenFiles, stored_features
from training.stages.pool import TokenPool


def test_stored_features_are_those_of_the_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    wanted = {name: rng.normal(size=(4 + i, 6)).astype(np.float32) for i, name in enumerate("abc")}
    paths = {name: write_trident(tmp_path / f"{name}.h5", rows) for name, rows in wanted.items()}
    found = stored_features(paths)
    for name, rows in wanted.items():
        assert found[name].features.shape == rows.shape
        np.testing.assert_array_equal(np.asarray(found[name].features), rows)
        np.testing.assert_array_equal(found[name].features[[2, 0]], rows[[2, 0]])
        assert found[name].slide_mpp == pytest.approx(0.25)
        part = found[name].inside(Box(0, 0, 1024, 512))
        np.testing.assert_array_equal(part.features, rows[:2])


def test_what_files_do_not_say_can_be_given(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:  # as CLAM writes them
        file["features"] = np.ones((2, 3), np.float32)
        file["coords"] = np.array([[0, 0], [512, 0]], np.int32)
    with pytest.raises(GiantError, match="give"):
        stored_features({"a": tmp_path / "a.h5"})
    found = stored_features({"a": tmp_path / "a.h5"}, mpp=0.25, size=512)["a"]
    assert (found.slide_mpp, found.size, found.tile_um) == (0.25, 512, 128.0)
    assert np.asarray(found.features).sum() == 6


def test_what_is_not_finite_is_told_when_it_is_used(tmp_path: Path) -> None:
    rows = np.zeros((3, 4), np.float32)
    rows[1, 2] = np.nan
    found = stored_features({"a": write_trident(tmp_path / "a.h5", rows)})
    with pytest.raises(GiantError, match=r"a\.h5.*1 of 3 tiles"):
        found["a"].features[0]


def test_a_broken_file_is_told_before_training(tmp_path: Path) -> None:
    path = write_trident(tmp_path / "a.h5", np.zeros((3, 4), np.float32))
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(GiantError, match=r"a\.h5"):
        stored_features({"a": path})


def test_memory_forgets_what_was_used_longest_ago() -> None:
    reads: list[int] = []

    def matrix(i: int) -> np.ndarray:
        reads.append(i)
        return np.full((10, 10), i, np.float32)

    memory = Memory(limit=2 * 400)
    rows = [LazyRows(lambda i=i: matrix(i), (10, 10), memory) for i in range(3)]  # type: ignore[misc]
    for i in (0, 1, 0, 2, 0, 1):
        assert rows[i][3, 3] == i
    assert reads == [0, 1, 2, 1]


def test_a_matrix_larger_than_the_memory_is_still_read() -> None:
    memory = Memory(limit=1)
    rows = LazyRows(lambda: np.ones((5, 5), np.float32), (5, 5), memory)
    assert rows[:].sum() == 25
    assert len(rows) == 5


def test_tokens_of_files_are_those_that_were_released(tmp_path: Path) -> None:
    wanted = torch.randn(3, 4, 6)
    paths = [tmp_path / f"{i}.pt" for i in range(3)]
    for tokens, path in zip(wanted, paths, strict=True):
        torch.save(tokens.clone(), path)
    files = TokenFiles(paths, 4, 6)
    torch.testing.assert_close(files[[2, 0]], wanted[[2, 0]], rtol=0, atol=0)


def test_a_pool_is_whole_or_an_error(tmp_path: Path) -> None:
    tokens = torch.randn(2, 4, 6).half()
    TokenPool(tokens, ("a", "b"), (None, Box(1, 2, 3, 4))).save(tmp_path / "pool")
    again = TokenPool.load(tmp_path / "pool")
    assert (again.slides, again.boxes) == (("a", "b"), (None, Box(1, 2, 3, 4)))
    torch.testing.assert_close(again.tokens[[1]], tokens[[1]].float(), rtol=0, atol=0)
    (tmp_path / "pool/index.json").unlink()
    with pytest.raises(RunError, match="pool"):
        TokenPool.load(tmp_path / "pool")
