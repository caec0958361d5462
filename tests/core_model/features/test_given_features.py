"""Feature files of other tools are read whole and in the right units, or refused with the reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from slide_files import ColourEncoder

from core_model.errors import FeatureStoreError
from core_model.features.foreign import read_slide_features
from core_model.features.slide_tokens import read_slide_tokens

N, D = 7, 5
TRIDENT = {
    "patch_size": 256, "patch_size_level0": 512, "level0_magnification": 40, "target_magnification": 20,
    "overlap": 0, "name": "TCGA-A", "savetodir": "/data", "level0_width": 9000, "level0_height": 8000,
}  # fmt: skip
CLAM = {
    "patch_size": 256, "patch_level": 1, "downsample": np.array([4.0, 4.0]), "name": "TCGA-A",
    "downsampled_level_dim": np.array([2250, 2000]), "level_dim": np.array([2250, 2000]), "save_path": "/d",
}  # fmt: skip
FEATURES = np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)
COORDS = np.stack([np.arange(N) * 512, np.arange(N) * 512 + 100], axis=1)


def write(path: Path, says: dict[str, Any], features: Any = FEATURES, coords: Any = COORDS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["features"] = features
        file["coords"] = coords
        file["coords"].attrs.update(says)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "features_uni_v1" / "TCGA-A.h5"


@pytest.mark.parametrize("shape", [(N, D), (1, N, D)])
@pytest.mark.parametrize("kind", [np.float32, np.float16, np.float64])
def test_tridents_files_are_read_in_level_0_pixels_and_their_own_scale(
    path: Path, shape: tuple[int, ...], kind: type
) -> None:
    found = read_slide_features(write(path, TRIDENT, FEATURES.reshape(shape).astype(kind)))
    assert found.features.dtype == np.float32
    assert np.array_equal(found.features, FEATURES.astype(kind).astype(np.float32))
    assert np.array_equal(found.coords, COORDS)
    assert found.coords.dtype == np.int64
    assert (found.size, found.slide_mpp, found.tile_um, found.encoder) == (512, 0.25, 128.0, "uni_v1")
    assert found.failed == ()


def test_a_measured_scale_comes_before_the_nominal_one(path: Path) -> None:
    found = read_slide_features(write(path, TRIDENT), mpp=0.2527)
    assert (found.slide_mpp, found.tile_um) == (0.2527, 512 * 0.2527)


def test_clams_files_need_the_scale_and_give_the_rest(path: Path) -> None:
    write(path, CLAM, coords=COORDS.astype(np.int32))
    found = read_slide_features(path, mpp=0.25)
    assert (found.size, found.tile_um, found.coords.dtype) == (1024, 256.0, np.int64)
    with pytest.raises(FeatureStoreError, match=r"nothing of the scale .* give mpp"):
        read_slide_features(path)


def test_clams_files_without_attributes_need_the_side_of_a_tile_too(path: Path) -> None:
    write(path, {})
    with pytest.raises(FeatureStoreError, match="how large a tile is: give size"):
        read_slide_features(path, mpp=0.25)
    found = read_slide_features(path, mpp=0.25, size=512)
    assert (found.size, found.tile_um) == (512, 128.0)


@pytest.fixture
def giants_file(tmp_path: Path) -> Path:
    """Features that giant computed of a slide at an odd scale, where a tile is 223.7 px."""
    import tifffile

    from core_model.features.extract import extract
    from core_model.features.store import FeatureStore
    from core_model.slides.slide import open_slide

    rgb = np.full((500, 700, 3), (190, 90, 160), dtype=np.uint8)
    scale = (1e4 / 0.5007, 1e4 / 0.5007)
    tifffile.imwrite(
        tmp_path / "slide.tiff", rgb, tile=(64, 64), resolution=scale, resolutionunit="CENTIMETER"
    )
    store = FeatureStore(tmp_path / "store")
    with open_slide(tmp_path / "slide.tiff") as slide:
        extract(slide, ColourEncoder("org/colour"), store)
        return store.path(slide, "org/colour")


def test_giants_own_files_say_more_and_are_believed(giants_file: Path) -> None:
    found = read_slide_features(giants_file)
    assert found.slide_mpp == pytest.approx(0.5007, abs=1e-9)  # not 10 / 19.97, as the magnification says
    assert (found.tile_um, found.size, found.encoder) == (112.0, 224, "org/colour")
    with h5py.File(giants_file, "r+") as file:
        file["features"][0, 0] += 1
    with pytest.raises(FeatureStoreError, match="digest"):
        read_slide_features(giants_file)


def cut(path: Path) -> None:
    write(path, TRIDENT)
    path.write_bytes(path.read_bytes()[:-100])


def empty(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.touch()


def nan() -> np.ndarray:
    spoiled = FEATURES.copy()
    spoiled[2, 1] = np.nan
    spoiled[4, :] = np.inf
    return spoiled


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda path: None, "there is no such file of tile features"),
        (empty, "no whole H5 file"),
        (cut, "no whole H5 file.*truncated"),
        (lambda path: write(path, TRIDENT, features=nan()), "2 of 7 tiles have a feature that is not finite"),
        (lambda path: write(path, TRIDENT, features=FEATURES[0]), r"features have shape \(5,\)"),
        (lambda path: write(path, TRIDENT, features=np.ones((2, N, D), "f4")), r"shape \(2, 7, 5\)"),
        (lambda path: write(path, TRIDENT, features=FEATURES.astype(int)), "type int64"),
        (lambda path: write(path, TRIDENT, features=[["a"] * D] * N), "type object"),
        (lambda path: write(path, TRIDENT, features=FEATURES[:4]), "4 features for 7 places"),
        (lambda path: write(path, TRIDENT, FEATURES[:0], COORDS[:0]), "no tile"),
        (lambda path: write(path, TRIDENT, coords=COORDS[:, :1]), r"coords have shape \(7, 1\)"),
        (lambda path: write(path, TRIDENT, coords=COORDS * 1.0), "coords have .* type float64"),
        (lambda path: write(path, TRIDENT, coords=COORDS - 1), "left of or above"),
        (lambda path: write(path, TRIDENT, coords=COORDS * 3), "lies at 9216, where level0_width is 9000"),
        (lambda path: write(path, TRIDENT | {"level0_magnification": 0}), "level0_magnification is"),
        (lambda path: write(path, TRIDENT | {"level0_magnification": "?"}), "level0_magnification is '?"),
        (lambda path: write(path, TRIDENT | {"level0_magnification": 0.3}), "33.33 µm/px are none"),
        (lambda path: write(path, CLAM | {"downsample": np.array([4.0, 5.0])}), "downsample is"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line_that_names_it(
    path: Path, make: Callable[[Path], Any], told: str
) -> None:
    make(path)
    with pytest.raises(FeatureStoreError, match=told) as caught:
        read_slide_features(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_of_something_else_is_told_by_what_it_holds(path: Path) -> None:
    path.parent.mkdir()
    with h5py.File(path, "w") as file:
        file["weights"] = np.ones(3)
        file.create_group("coords")
    with pytest.raises(FeatureStoreError, match="no dataset 'features', only coords, weights"):
        read_slide_features(path)


# --- released slide tokens ------------------------------------------------------------------------------

TOKENS = torch.randn(576, 1024, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("lead", [(), (1,)])
def test_released_slide_tokens_are_a_bare_tensor(tmp_path: Path, kind: torch.dtype, lead: tuple) -> None:
    torch.save(TOKENS.reshape(*lead, 576, 1024).to(kind), tmp_path / "a.pt")
    found = read_slide_tokens(tmp_path / "a.pt")
    assert found.dtype == torch.float32
    assert torch.equal(found, TOKENS.to(kind).float())


def test_another_model_has_tokens_of_another_shape(tmp_path: Path) -> None:
    torch.save(torch.ones(4, 24), tmp_path / "a.pt")
    assert read_slide_tokens(tmp_path / "a.pt", 4, 24).shape == (4, 24)
    with pytest.raises(FeatureStoreError, match=r"shape \(4, 24\) where \(576, 1024\) is needed"):
        read_slide_tokens(tmp_path / "a.pt")


class Harmful:
    """A pickle that would call a function while it is read."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return print, ("called",)


def infinite() -> torch.Tensor:
    spoiled = TOKENS.clone()
    spoiled[0, :3] = torch.inf
    return spoiled


@pytest.mark.parametrize(
    ("held", "told"),
    [
        (TOKENS[:, :1000], r"shape \(576, 1000\)"),
        (TOKENS.T, r"shape \(1024, 576\)"),
        (torch.ones(12000, 1536), r"shape \(12000, 1536\)"),  # features of tiles, not tokens of a slide
        ({"features": TOKENS, "coords": TOKENS}, r"a dictionary \(features, coords\)"),
        ([TOKENS], "a list"),
        (TOKENS.long(), "int64"),
        (TOKENS.to_sparse(), "sparse"),
        (infinite(), "589824 numbers 3 are not finite"),
        (Harmful(), "more than tensors"),
    ],
)
def test_anything_else_is_no_slide_token_file(
    tmp_path: Path, held: Any, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(held, tmp_path / "a.pt")
    with pytest.raises(FeatureStoreError, match=told) as caught:
        read_slide_tokens(tmp_path / "a.pt")
    assert str(tmp_path / "a.pt") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not capsys.readouterr().out


@pytest.mark.parametrize("size", [0, 10, 1000, 100_000])
def test_a_cut_token_file_is_refused(tmp_path: Path, size: int) -> None:
    torch.save(TOKENS, tmp_path / "whole.pt")
    (tmp_path / "a.pt").write_bytes((tmp_path / "whole.pt").read_bytes()[:size])
    with pytest.raises(FeatureStoreError, match="damaged"):
        read_slide_tokens(tmp_path / "a.pt")


def test_a_missing_token_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FeatureStoreError, match=r"nowhere.pt: there is no such file of slide tokens"):
        read_slide_tokens(tmp_path / "nowhere.pt")
