"""Slides of oblong pixels: tiles are square in µm, and everything made of them knows both sides."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from slide_files import ColourEncoder, stained

from core_model.errors import FeatureStoreError
from core_model.features.extract import encode_slide, extract
from core_model.features.grid import tile_grid
from core_model.features.layouts import write_clam, write_trident
from core_model.features.store import FeatureStore
from core_model.slides.box import Box
from core_model.slides.slide import Slide, open_slide
from core_model.slides.tissue import find_tissue

WIDTH, HEIGHT = 1600, 900
"""Of the oblong slide, px of 0.5 x 0.8 µm: 800 x 720 µm."""


def write(path: Path, rgb: np.ndarray, mpp: tuple[float, float]) -> Path:
    tifffile.imwrite(
        path, rgb, tile=(256, 256), photometric="rgb", compression="deflate", metadata=None,
        resolution=tuple(10000 / side for side in mpp), resolutionunit="CENTIMETER",
    )  # fmt: skip
    return path


@pytest.fixture(scope="module")
def oblong(tmp_path_factory: pytest.TempPathFactory) -> Slide:
    path = tmp_path_factory.mktemp("oblong") / "oblong.tiff"
    return open_slide(write(path, stained(HEIGHT, WIDTH), (0.5, 0.8)))


@pytest.fixture(scope="module")
def square(tmp_path_factory: pytest.TempPathFactory, oblong: Slide) -> Slide:
    """The same tissue in square pixels of 0.8 µm."""
    path = tmp_path_factory.mktemp("square") / "square.tiff"
    return open_slide(write(path, np.asarray(oblong.read(oblong.box, 0.8)), (0.8, 0.8)))


def test_tiles_are_square_in_micrometres(oblong: Slide) -> None:
    grid = tile_grid(oblong, find_tissue(oblong), 112.0)
    assert grid.sides == (224, 140)
    assert set(map(int, grid.coords[:, 0])) == set(range(0, WIDTH, 224))
    assert set(map(int, grid.coords[:, 1])) == set(range(0, HEIGHT, 140))
    assert grid.box(0) == Box(0, 0, 224, 140)
    last = grid.box(len(grid) - 1)
    assert (last.right, last.bottom) == (WIDTH, HEIGHT)
    assert oblong.read(grid.box(0), 0.5).size == (140, 140), "at 0.8 µm, its longer side"


def test_the_grid_of_square_pixels_is_as_ever(square: Slide) -> None:
    grid = tile_grid(square, find_tissue(square), 112.0)
    assert (grid.sides, grid.height) == ((140, 140), None)
    assert grid.digest != replace(grid, height=139).digest


def test_features_are_those_of_the_same_tissue_in_square_pixels(oblong: Slide, square: Slide) -> None:
    ours, theirs = encode_slide(oblong, ColourEncoder()), encode_slide(square, ColourEncoder())
    assert len(ours) == len(theirs) == 8 * 7
    assert ours.coords // ours.sides == pytest.approx(theirs.coords // theirs.sides)
    assert ours.features == pytest.approx(theirs.features, abs=1.0)
    places, mpp = ours.squared
    true_places, true_mpp = theirs.squared
    assert places * mpp == pytest.approx(true_places * true_mpp, abs=1e-6), "a slide encoder sees the same"


def test_a_store_keeps_both_sides(oblong: Slide, square: Slide, tmp_path: Path) -> None:
    store, encoder = FeatureStore(tmp_path), ColourEncoder()
    made = extract(oblong, encoder, store)
    kept = store.load(oblong, encoder)
    assert kept is not None
    assert kept.sides == made.sides == (224, 140)
    assert kept.box(3) == made.box(3)
    inside = kept.inside(Box(0, 0, 448, 280))
    assert sorted(tuple(box) for box in map(inside.box, range(len(inside)))) == [
        (0, 0, 224, 140), (0, 140, 224, 140), (224, 0, 224, 140), (224, 140, 224, 140),
    ]  # fmt: skip
    extract(square, encoder, store)
    assert store.load(square, encoder).height is None  # type: ignore[union-attr]


def test_an_index_keeps_both_sides(oblong: Slide, tmp_path: Path) -> None:
    from tools.index import TileIndex

    tiles = encode_slide(oblong, ColourEncoder())
    index = TileIndex.build(tiles.features, tiles)
    index.save(tmp_path / "a.tile.safetensors", {"slide": oblong.id})
    again = TileIndex.load(tmp_path / "a.tile.safetensors")
    assert [again.box(row) for row in range(3)] == [tiles.box(row) for row in range(3)]


def test_files_of_other_tools_are_not_written_for_them(oblong: Slide, tmp_path: Path) -> None:
    tiles = encode_slide(oblong, ColourEncoder())
    with pytest.raises(FeatureStoreError, match="not square"):
        write_trident(tmp_path, "a", tiles, 224)
    with pytest.raises(FeatureStoreError, match="not square"):
        write_clam(tmp_path, "a", tiles)
    assert not list(tmp_path.iterdir())


def test_tissue_is_measured_with_both_sides(oblong: Slide, square: Slide) -> None:
    assert find_tissue(oblong).area_mm2 == pytest.approx(0.8 * 0.72, rel=0.02)
    assert find_tissue(square).area_mm2 == pytest.approx(0.8 * 0.72, rel=0.02)
