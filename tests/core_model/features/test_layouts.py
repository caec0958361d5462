"""What is written for TRIDENT and CLAM reads back as it was, and lies where their tools look for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core_model.errors import FeatureStoreError
from core_model.features.foreign import read_slide_features
from core_model.features.layouts import write_clam, write_trident
from core_model.features.places import read_places
from core_model.features.tiles import TileFeatures

MPP = st.floats(0.1, 4.0)


def tiles(
    seed: int, rows: int, columns: int, size: int, mpp: float, overlap: int = 0, tile_px: int = 224
) -> TileFeatures:
    """Features of a block of tiles in any order."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:rows, 0:columns]
    coords = random.permutation(np.stack([x.ravel(), y.ravel()], axis=1)) * (size - overlap)  # (N, 2)
    return TileFeatures(
        features=random.normal(size=(rows * columns, 5)).astype(np.float32),
        coords=coords.astype(np.int64),
        size=size,
        tile_um=size * mpp,
        slide_mpp=mpp,
        encoder="org/uni",
        extent=(columns * size, rows * size),
        overlap=float(overlap),
    )


@given(
    seed=st.integers(0, 10**6),
    rows=st.integers(1, 6),
    columns=st.integers(1, 6),
    size=st.integers(16, 2000),
    mpp=MPP,
    tile_px=st.sampled_from([16, 224, 256, 512]),
)
@settings(deadline=None, max_examples=25)
def test_tridents_layout_gives_back_what_was_written(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    rows: int,
    columns: int,
    size: int,
    mpp: float,
    tile_px: int,
) -> None:
    written = tiles(seed, rows, columns, size, mpp)
    places, features = write_trident(tmp_path_factory.mktemp("job"), "slide.1", written, tile_px)
    found = read_slide_features(features)
    assert np.array_equal(found.features, written.features)
    assert np.array_equal(found.coords, written.coords)
    assert (found.size, found.extent, found.encoder, found.overlap) == (size, written.extent, "org_uni", 0)
    assert found.slide_mpp == pytest.approx(mpp, rel=1e-12)
    assert found.tile_um == pytest.approx(written.tile_um, rel=1e-12)
    alone = read_places(places)
    assert np.array_equal(alone.coords, written.coords)
    assert (alone.size, alone.tile_px, alone.extent) == (size, tile_px, written.extent)


@given(
    seed=st.integers(0, 10**6),
    rows=st.integers(1, 6),
    columns=st.integers(1, 6),
    size=st.integers(1, 2000),
    mpp=MPP,
)
@settings(deadline=None, max_examples=25)
def test_clams_layout_gives_back_what_was_written_but_the_scale(
    tmp_path_factory: pytest.TempPathFactory, seed: int, rows: int, columns: int, size: int, mpp: float
) -> None:
    written = tiles(seed, rows, columns, size, mpp)
    places, features = write_clam(tmp_path_factory.mktemp("clam"), "slide.1", written)
    found = read_slide_features(features, mpp=mpp)
    assert np.array_equal(found.features, written.features)
    assert np.array_equal(found.coords, written.coords)
    assert (found.size, found.slide_mpp) == (size, mpp)
    alone = read_places(places)
    assert np.array_equal(alone.coords, written.coords)
    assert (alone.size, alone.mpp) == (size, None)
    assert alone.near_extent == (written.extent, written.extent)


def test_files_lie_and_speak_as_tridents_do(tmp_path: Path) -> None:
    """A 40x slide, tiles of 256 px at 20x that overlap by 64 px."""
    written = tiles(0, 3, 2, size=512, mpp=0.25, overlap=128)
    places, features = write_trident(tmp_path, "a", written, tile_px=256)
    folder = tmp_path / "20x_256px_64px_overlap"
    assert places == folder / "patches" / "a_patches.h5"
    assert features == folder / "features_org_uni" / "a.h5"
    with h5py.File(features) as file:
        says = dict(file["coords"].attrs)
        assert (file["features"].dtype, file["coords"].dtype) == (np.float32, np.int64)
        assert file["features"].attrs["name"] == "a"
    assert {name: says[name] for name in says if name != "savetodir"} == {
        "patch_size": 256, "patch_size_level0": 512, "level0_magnification": 40, "target_magnification": 20,
        "overlap": 64, "name": "a", "level0_width": 1024, "level0_height": 1536,
    }  # fmt: skip
    assert says["level0_magnification"].dtype.kind == "i", "TRIDENT's are whole"
    assert read_slide_features(features).overlap == 128


def test_files_lie_and_speak_as_clams_do(tmp_path: Path) -> None:
    written = tiles(0, 3, 2, size=512, mpp=0.25)
    write_clam(tmp_path, "a", written)
    assert not (tmp_path / "pt_files").exists()
    write_clam(tmp_path, "a", written, pt=True)
    with h5py.File(tmp_path / "h5_files" / "a.h5") as file:
        assert (file["features"].dtype, file["coords"].dtype) == (np.float32, np.int32)
    with h5py.File(tmp_path / "patches" / "a.h5") as file:
        assert set(file["coords"].attrs) == {
            "patch_size", "patch_level", "downsample", "downsampled_level_dim", "level_dim", "name",
            "save_path",
        }  # fmt: skip
    tensor = torch.load(tmp_path / "pt_files" / "a.pt", weights_only=True)
    assert np.array_equal(tensor.numpy(), written.features)


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FeatureStoreError, match="cannot be written"):
        write_trident(tmp_path / "file", "a", tiles(0, 1, 1, 64, 0.5), 64)
    with pytest.raises(FeatureStoreError, match="size of the slide is not known"):
        write_clam(tmp_path, "a", replace(tiles(0, 1, 1, 64, 0.5), extent=None))
