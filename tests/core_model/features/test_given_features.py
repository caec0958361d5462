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


def rows(step: int, n: int = 12) -> np.ndarray:
    """Places in rows of four tiles, `step` apart."""
    return np.stack([np.arange(n) % 4 * step, np.arange(n) // 4 * step], axis=1)


@pytest.mark.parametrize(
    ("coords", "more", "told"),
    [
        (rows(512), {}, None),
        (rows(256), {"overlap": 128}, None),
        (rows(256), {}, r"lie 256 px apart, where their overlap of 0 allows 512"),
        (rows(128), {}, "px of another level"),
        (rows(128), {"overlap": 128}, "allows 256"),
        (rows(512) // 2 * 0, {}, "11 of 12 tiles lie where another one lies"),
        (rows(511), {}, None),  # rounded
        (rows(512), {"target_magnification": 10}, "reduced 2 times by their size, and 4 times"),
        (rows(512), {"level0_magnification": 0.25}, "40 µm/px are none"),
    ],
)
def test_places_that_contradict_the_tiles_are_refused(
    path: Path, coords: np.ndarray, more: dict[str, Any], told: str | None
) -> None:
    write(path, TRIDENT | more, np.ones((12, D), "f4"), coords)
    if told is None:
        assert np.array_equal(read_slide_features(path).coords, coords)
        return
    with pytest.raises(FeatureStoreError, match=told):
        read_slide_features(path)


def atlas(path: Path, encoders: dict[str, np.ndarray], read: tuple[int, int, int] = (512, 512, 0)) -> Path:
    """A file as AtlasPatch writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.attrs.update({name: TRIDENT[name] for name in
                           ("patch_size", "patch_size_level0", "level0_magnification",
                            "target_magnification", "overlap")})  # fmt: skip
        file["coords"] = np.concatenate([rows(512), np.tile(read, (12, 1))], axis=1)
        for name, features in encoders.items():
            file[f"features/{name}"] = features
    return path


def test_atlaspatchs_files_are_read_and_asked_for_by_encoder(path: Path) -> None:
    one, two = np.ones((12, 3), "f4"), np.zeros((12, 5), "f4")
    found = read_slide_features(atlas(path, {"uni_v2": one}))
    assert (found.encoder, found.size, found.slide_mpp, found.tile_um) == ("uni_v2", 512, 0.25, 128.0)
    assert np.array_equal(found.coords, rows(512))
    atlas(path, {"virchow": one, "conch": two})
    several = pytest.raises(FeatureStoreError, match="several encoders: say which of conch, virchow")
    with several:
        read_slide_features(path)
    assert read_slide_features(path, encoder="conch").features.shape == (12, 5)
    by_folder = atlas(path.parents[1] / "features_conch" / "a.h5", {"uni_v2": one, "conch": two})
    assert read_slide_features(by_folder).encoder == "conch"
    with pytest.raises(FeatureStoreError, match="no dataset 'uni', only conch, virchow"):
        read_slide_features(path, encoder="uni")
    with pytest.raises(FeatureStoreError, match="other sizes than 512 px"):
        read_slide_features(atlas(path, {"uni_v2": one}, read=(256, 256, 0)))
    assert len(read_slide_features(atlas(path, {"uni_v2": one}, read=(256, 256, 1)))) == 12


def bomb(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("features", (10**9, 1536), "f4", chunks=(1, 1536))
        file.create_dataset("coords", (10**9, 2), "i8", chunks=(1024, 2)).attrs.update(TRIDENT)


def packed_bomb(path: Path) -> None:
    """Every chunk is there, of zeros that are packed twice."""
    with h5py.File(path, "w") as file:
        chunk, n = (1 << 20, 2), 1 << 20
        shuffled = {"chunks": chunk, "compression": "gzip", "scaleoffset": 0}
        file.create_dataset("coords", data=np.zeros((n, 2), "i8"), **shuffled).attrs.update(TRIDENT)
        file.create_dataset("features", (n, 1), "f4", chunks=(n, 1), data=np.zeros((n, 1), "f4"))


def half_written(path: Path) -> None:
    with h5py.File(path, "w") as file:
        features = file.create_dataset("features", (12, D), "f4", chunks=(4, D))
        features[:8] = 1
        file["coords"] = rows(512)
        file["coords"].attrs.update(TRIDENT)


def linked(path: Path) -> None:
    write(path, TRIDENT)
    with h5py.File(path, "r+") as file:
        del file["features"]
        file["features"] = h5py.ExternalLink("/etc/passwd", "/features")


def stored_elsewhere(path: Path) -> None:
    write(path, TRIDENT)
    raw = path.with_name("raw")
    raw.write_bytes(FEATURES.tobytes())
    with h5py.File(path, "r+") as file:
        del file["features"]
        file.create_dataset("features", (N, D), "f4", external=[(str(raw), 0, FEATURES.nbytes)])


def virtual(path: Path) -> None:
    write(path.with_name("other.h5"), TRIDENT)
    write(path, TRIDENT)
    with h5py.File(path, "r+") as file:
        del file["features"]
        layout = h5py.VirtualLayout((N, D), "f4")
        layout[:] = h5py.VirtualSource(path.with_name("other.h5"), "features", (N, D))
        file.create_virtual_dataset("features", layout)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (bomb, r"would be 6,144,000,000,000 bytes, and the file holds 0 of them"),
        (packed_bomb, "would be"),
        (half_written, r"'features' of shape \(12, 5\)"),
        (linked, r"lie in another file \('/etc/passwd'\), which is not followed"),
        (stored_elsewhere, "lie in other files"),
        (virtual, "lie in other files"),
    ],
)
def test_what_does_not_lie_in_the_file_is_not_read(
    path: Path, make: Callable[[Path], None], told: str
) -> None:
    path.parent.mkdir()
    make(path)
    with pytest.raises(FeatureStoreError, match=told) as caught:
        read_slide_features(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("options", [{}, {"chunks": (4, D)}, {"chunks": (4, D), "compression": "gzip"}])
def test_files_packed_in_any_usual_way_are_read(path: Path, options: dict[str, Any]) -> None:
    path.parent.mkdir()
    with h5py.File(path, "w") as file:
        file.create_dataset("features", data=np.zeros((12, D), "f4"), **options)
        file["coords"] = rows(512)
        file["coords"].attrs.update(TRIDENT)
    assert len(read_slide_features(path)) == 12


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
