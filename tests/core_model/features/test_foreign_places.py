"""Coordinates of other tools become our grid where they fit the slide, and one line where they do not."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core_model.errors import FeatureStoreError
from core_model.features.places import grid_from_coords, read_places
from core_model.slides.slide import Slide

TRIDENT = {
    "patch_size": 256, "patch_size_level0": 512, "level0_magnification": 40, "target_magnification": 20,
    "overlap": 0, "name": "a", "savetodir": "/data", "level0_width": 9000, "level0_height": 8000,
}  # fmt: skip
CLAM = {
    "patch_size": 256, "patch_level": 1, "downsample": (4.0, 4.0005), "downsampled_level_dim": (2250, 2000),
    "level_dim": (2250, 2000), "name": "a", "save_path": "/d",
}  # fmt: skip
BY_COLUMN = np.array([(x * 512, y * 512) for x in range(3) for y in range(2)])
"""(6, 2) places column by column, as TRIDENT writes them."""


def write(path: Path, says: dict[str, Any], coords: Any = BY_COLUMN, on_file: bool = False) -> Path:
    """A file of coordinates as tools write it: a chunk for each place."""
    with h5py.File(path, "w") as file:
        coords = np.asarray(coords)
        data = file.create_dataset(
            "coords", data=coords, chunks=(1, coords.shape[1]), maxshape=(None, coords.shape[1])
        )
        (file if on_file else data).attrs.update(says)
    return path


def slide(width: int = 9000, height: int = 8000, mpp: float = 0.2525) -> Slide:
    """What a grid asks of a slide."""
    return cast(Slide, SimpleNamespace(width=width, height=height, mpp=mpp, name="a"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a_patches.h5"


def test_tridents_places_become_a_grid_in_reading_order(path: Path) -> None:
    grid = grid_from_coords(write(path, TRIDENT), slide(), tile_um=128)
    assert grid.coords.tolist() == [[x * 512, y * 512] for y in range(2) for x in range(3)]
    assert (grid.size, grid.tile_um, grid.extent) == (512, 512 * 0.2525, (9000, 8000))
    assert grid.coords.dtype == np.int64
    assert not grid.unsure.any()


def test_clams_places_need_no_scale_and_are_of_the_level_that_they_name(path: Path) -> None:
    coords = BY_COLUMN.astype(np.int32) * 2
    grid = grid_from_coords(write(path, CLAM, coords), slide(9001, 8003), tile_um=256)
    assert (grid.size, len(grid)) == (1024, 6)
    assert read_places(path).mpp is None


def test_a_further_reduction_of_clams_patches_counts(path: Path) -> None:
    """Of 256 px of level 1, reduced further by two: 2048 px of level 0, not 1024."""
    coords = np.array([[0, 0], [2048, 0], [0, 2048]])
    assert read_places(write(path, CLAM | {"custom_downsample": 2}, coords)).size == 2048


def test_atlaspatchs_places_say_what_they_are_on_the_file(path: Path) -> None:
    coords = np.concatenate([BY_COLUMN, np.tile((256, 256, 1), (6, 1))], axis=1).astype(np.int32)
    says = {name: value for name, value in TRIDENT.items() if name not in ("name", "savetodir")}
    write(path, says | {"wsi_path": "/slides/a.svs", "passport_version": 2}, coords, on_file=True)
    grid = grid_from_coords(path, slide(), tile_um=128)
    assert (len(grid), grid.size) == (6, 512)


def test_overlap_is_told_in_level_0_pixels(path: Path) -> None:
    assert read_places(write(path, TRIDENT | {"overlap": 64})).overlap == 128


@pytest.mark.parametrize(
    ("says", "coords", "told"),
    [
        (TRIDENT, np.zeros((0, 2), int), "it holds no tile"),
        (
            TRIDENT | {"level0_width": 9001},
            BY_COLUMN,
            "of a slide of 9001 x 8000 px, where this one has 9000",
        ),
        (TRIDENT | {"level0_magnification": 20, "patch_size_level0": 256}, BY_COLUMN // 2, "at 0.5 µm/px"),
        (TRIDENT | {"target_magnification": 40, "patch_size_level0": 256}, BY_COLUMN, "64.64 µm wide"),
        (TRIDENT | {"overlap": -1}, BY_COLUMN, r"overlap is .*-1"),
        (TRIDENT | {"overlap": "much"}, BY_COLUMN, "overlap is 'much'"),
        (
            TRIDENT | {"level0_width": 90000, "level0_height": 80000},
            BY_COLUMN * 20,
            "where this one has 9000 x 8000",
        ),
        (CLAM | {"level_dim": (225, 200)}, BY_COLUMN, "outside of the .* that its level_dim"),
        (CLAM | {"level_dim": (4500, 4000)}, BY_COLUMN * 2, "a slide of about"),
        (CLAM | {"level_dim": (2250,)}, BY_COLUMN * 2, "level_dim is"),
        (CLAM | {"level_dim": (0, 2000)}, BY_COLUMN * 2, "level_dim is"),
        (CLAM | {"custom_downsample": 0}, BY_COLUMN * 2, "custom_downsample is"),
        ({}, BY_COLUMN, "how large a tile is"),
        (TRIDENT, BY_COLUMN * 1.0, "type float64"),
    ],
)
def test_places_that_do_not_fit_the_slide_are_refused_in_one_line(
    path: Path, says: dict[str, Any], coords: np.ndarray, told: str
) -> None:
    write(path, says, coords)
    with pytest.raises(FeatureStoreError, match=told) as caught:
        grid_from_coords(path, slide(), tile_um=128 if says != CLAM else 256)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_and_a_damaged_file_are_named(path: Path) -> None:
    with pytest.raises(FeatureStoreError, match="no such file of coordinates"):
        read_places(path)
    path.write_bytes(b"no H5")
    with pytest.raises(FeatureStoreError, match="no whole H5 file of coordinates"):
        read_places(path)


@given(
    seed=st.integers(0, 10**6), rows=st.integers(1, 9), columns=st.integers(1, 9), step=st.integers(1, 700)
)
@settings(deadline=None, max_examples=25)
def test_no_place_is_lost_or_moved(
    tmp_path_factory: pytest.TempPathFactory, seed: int, rows: int, columns: int, step: int
) -> None:
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:rows, 0:columns]
    coords = random.permutation(np.stack([x.ravel(), y.ravel()], axis=1)) * step
    says = TRIDENT | {"patch_size": step, "patch_size_level0": step, "target_magnification": 40}
    write(path := tmp_path_factory.mktemp("places") / "a.h5", says, coords)
    grid = grid_from_coords(path, slide(), tile_um=step * 0.2525)
    assert sorted(map(tuple, grid.coords)) == sorted(map(tuple, coords))
    assert [tuple(place)[::-1] for place in grid.coords] == sorted(tuple(place)[::-1] for place in coords)
