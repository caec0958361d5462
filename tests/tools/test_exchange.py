"""Features of other tools become an index without an encoder, ours become files of theirs, and back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from core_model.errors import FeatureStoreError, UsageError
from core_model.features.imported import find_imported
from core_model.features.layouts import write_clam, write_trident
from core_model.features.store import FeatureStore
from core_model.features.tiles import TileFeatures
from core_model.slides.slide import open_slide
from tools.exchange import export_features, import_features
from tools.index import TileIndex
from tools.indexing import SlideFailed

SIDE, WIDTH, HEIGHT = 128, 512, 384


def slide(folder: Path, name: str, mpp: float = 0.5) -> Path:
    """A small slide, its pixels unlike those of any other."""
    folder.mkdir(parents=True, exist_ok=True)
    rgb = np.random.default_rng(ord(name)).integers(90, 200, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    scale = (1e4 / mpp, 1e4 / mpp)
    path = folder / f"{name}.tiff"
    tifffile.imwrite(path, rgb, tile=(64, 64), resolution=scale, resolutionunit="CENTIMETER")
    return path


def tiles(seed: int = 0, encoder: str = "uni_v1", mpp: float = 0.5, dim: int = 6) -> TileFeatures:
    y, x = np.mgrid[0:3, 0:4]
    coords = np.stack([x.ravel(), y.ravel()], axis=1).astype(np.int64) * SIDE
    features = np.random.default_rng(seed).normal(size=(12, dim)).astype(np.float32)
    return TileFeatures(features, coords, SIDE, SIDE * mpp, mpp, encoder, extent=(WIDTH, HEIGHT))


def trident(folder: Path, names: str = "ab", **more: Any) -> Path:
    """A job folder, as TRIDENT leaves it."""
    for seed, name in enumerate(names):
        write_trident(folder, name, tiles(seed, **more), SIDE)
    for other in ("contours_geojson", "thumbnails", "20x_128px_0px_overlap/visualization"):
        (folder / other).mkdir(parents=True, exist_ok=True)
    return folder


def made(results: Any) -> list[Path]:
    found = list(results)
    assert not [item for item in found if isinstance(item, SlideFailed)], found
    return found


def failures(results: Any) -> list[str]:
    return [item.error for item in results if isinstance(item, SlideFailed)]


def giant(*args: object) -> Any:
    from agent.cli.app import build_app

    return CliRunner().invoke(build_app(), [str(arg) for arg in args])


@pytest.mark.parametrize("place", ["", "20x_128px_0px_overlap", "20x_128px_0px_overlap/features_uni_v1"])
def test_a_job_of_trident_becomes_an_index_of_vectors_that_are_never_ours(tmp_path: Path, place: str) -> None:
    job, slides = trident(tmp_path / "job") / place, [slide(tmp_path, name) for name in "ab"]
    files = made(import_features(job, tmp_path / "store", slides))
    assert [path.name for path in files] == ["a.tile.safetensors", "b.tile.safetensors"]
    encoder = find_imported(tmp_path / "store", "trident:uni_v1")
    assert (encoder.dim, encoder.tile_um, encoder.fingerprint) == (6, 64.0, "trident:uni_v1:6")
    with open_slide(slides[0]) as opened:
        kept = FeatureStore(tmp_path / "store").load(opened, encoder)
        index = TileIndex.load(files[0], {"slide": opened.id, "fingerprint": encoder.fingerprint})
    assert kept is not None
    assert np.array_equal(kept.features, tiles(0).features)
    assert (kept.size, kept.slide_mpp, kept.encoder) == (SIDE, 0.5, "trident:uni_v1")
    expected = tiles(0).features / np.linalg.norm(tiles(0).features, axis=1, keepdims=True)
    assert np.allclose(index.vectors, expected)


def test_an_encoder_of_that_name_that_runs_here_does_not_take_them_for_its_own(tmp_path: Path) -> None:
    made(import_features(trident(tmp_path / "job", "a"), tmp_path / "store", [path := slide(tmp_path, "a")]))

    class Uni:
        name, fingerprint, dim, tile_px, mpp, tile_um = "trident:uni_v1", "weights", 6, SIDE, 0.5, 64.0

    with open_slide(path) as opened:
        assert FeatureStore(tmp_path / "store").load(opened, Uni()) is None


def test_without_slides_the_job_must_say_their_size_and_scale(tmp_path: Path) -> None:
    assert len(made(import_features(trident(tmp_path / "job"), tmp_path / "store"))) == 2
    write_clam(tmp_path / "clam", "a", tiles())
    unsized = failures(import_features(tmp_path / "clam", tmp_path / "other", encoder="uni_v1", mpp=0.5))
    assert "how large the slide is" in unsized[0]
    assert "--slides" in unsized[0]


def test_a_folder_of_clam_is_joined_with_its_patches_and_the_slides(tmp_path: Path) -> None:
    """CLAM's own files of features say nothing of the tiles."""
    folder, slides = tmp_path / "clam", [slide(tmp_path / "slides", "a")]
    _, features = write_clam(folder, "a", tiles())
    with h5py.File(features, "r+") as file:
        for name in list(file["coords"].attrs):
            del file["coords"].attrs[name]
    with pytest.raises(UsageError, match="do not say which encoder"):
        list(import_features(folder, tmp_path / "store", slides))
    (path,) = made(import_features(folder, tmp_path / "store", slides, encoder="resnet50"))
    assert path.parent.name == "features_clam_resnet50"
    with h5py.File(folder / "patches" / "a.h5", "r+") as file:
        file["coords"][0] = (1, 1)
    (error,) = failures(import_features(folder, tmp_path / "again", slides, encoder="resnet50"))
    assert "not those that the file of patches names" in error
    (folder / "patches" / "a.h5").unlink()
    (error,) = failures(import_features(folder, tmp_path / "again", slides, encoder="resnet50"))
    assert "no patches/a.h5" in error


def test_a_folder_of_atlaspatch_is_asked_for_by_encoder(tmp_path: Path) -> None:
    one = tiles()
    path = tmp_path / "job" / "patches" / "a.h5"
    path.parent.mkdir(parents=True)
    with h5py.File(path, "w") as file:
        file.attrs.update(
            {"patch_size": SIDE, "patch_size_level0": SIDE, "level0_magnification": 20, "overlap": 0,
             "target_magnification": 20, "level0_width": WIDTH, "level0_height": HEIGHT}
        )  # fmt: skip
        file["coords"] = np.concatenate([one.coords, np.tile((SIDE, SIDE, 0), (12, 1))], axis=1).astype("i4")
        file["features/uni_v1"], file["features/conch"] = one.features, one.features[:, :3]
    with pytest.raises(UsageError, match="--encoder: conch, uni_v1"):
        list(import_features(tmp_path / "job", tmp_path / "store"))
    (made_file,) = made(import_features(tmp_path / "job", tmp_path / "store", encoder="conch"))
    assert TileIndex.load(made_file).vectors.shape == (12, 3)
    assert find_imported(tmp_path / "store", "atlaspatch:conch").dim == 3


def test_what_does_not_fit_is_named_and_stops_no_other(tmp_path: Path) -> None:
    job = trident(tmp_path / "job", "abcd")
    write_trident(job, "c", tiles(2, mpp=0.25), SIDE)
    grid = job / "20x_128px_0px_overlap" / "features_uni_v1"
    (job / "40x_128px_0px_overlap" / "features_uni_v1" / "c.h5").replace(grid / "c.h5")
    for name in ("features_uni_v1", "patches"):
        for path in (job / "40x_128px_0px_overlap" / name).glob("*"):
            path.unlink()
    slides = [slide(tmp_path / "x", "a"), slide(tmp_path / "x", "c"), slide(tmp_path / "x", "d")]
    slides.append(slide(tmp_path / "y", "d"))
    found = list(import_features(job, tmp_path / "store", slides))
    assert [isinstance(item, SlideFailed) for item in found] == [False, True, True, True]
    b, c, d = failures(found)
    assert "b.h5: there is no slide of this name" in b
    assert "at 0.25 µm/px, where this one has 0.5" in c
    assert "more than one slide has this name" in d


def test_jobs_that_are_none_or_several_are_told_apart(tmp_path: Path) -> None:
    trident(tmp_path / "job", "a")
    trident(tmp_path / "job", "a", encoder="conch")
    with pytest.raises(UsageError, match=r"several sets of features: .*features_conch, .*features_uni_v1"):
        list(import_features(tmp_path / "job", tmp_path / "store"))
    assert len(made(import_features(tmp_path / "job", tmp_path / "store", encoder="conch"))) == 1
    with pytest.raises(FeatureStoreError, match="no features of 'virchow'"):
        list(import_features(tmp_path / "job", tmp_path / "store", encoder="virchow"))
    (tmp_path / "empty").mkdir()
    for folder, told in (
        ("empty", "no tile features of TRIDENT, CLAM or AtlasPatch"),
        ("none", "no such folder"),
    ):
        with pytest.raises(FeatureStoreError, match=told):
            list(import_features(tmp_path / folder, tmp_path / "store"))


@pytest.mark.parametrize("layout", ["trident", "clam"])
def test_what_is_exported_and_imported_again_is_the_same(tmp_path: Path, layout: str) -> None:
    slides = [slide(tmp_path / "slides", name) for name in "ab"]
    made(import_features(trident(tmp_path / "job"), tmp_path / "store", slides))
    written = made(export_features(tmp_path / "store", tmp_path / "out", layout))
    assert [path.name for path in written] == ["a.h5", "b.h5"]
    encoder = "uni_v1" if layout == "clam" else None
    made(import_features(tmp_path / "out", tmp_path / "back", slides, encoder=encoder))
    name = "clam:uni_v1" if layout == "clam" else "trident:trident_uni_v1"
    with open_slide(slides[1]) as opened:
        kept = FeatureStore(tmp_path / "back").load(opened, find_imported(tmp_path / "back", name))
    assert kept is not None
    assert np.array_equal(kept.features, tiles(1).features)
    assert np.array_equal(kept.coords, tiles(1).coords)
    assert (kept.size, kept.tile_um) == (SIDE, 64.0)


def test_the_commands_say_what_they_made_and_what_failed(tmp_path: Path) -> None:
    job, path = trident(tmp_path / "job"), slide(tmp_path / "slides", "a")
    result = giant("import", "--features", job, "--slides", path.parent, "--out", tmp_path / "store")
    assert result.exit_code == 1
    assert result.stdout.strip().endswith("features_trident_uni_v1/a.tile.safetensors")
    assert (tmp_path / "store" / "features_trident_uni_v1" / "cohort" / "manifest.json").is_file()
    assert "b.h5: there is no slide of this name" in result.stderr
    assert "1 of 2 slides failed" in result.stderr
    result = giant(
        "export", "--features", tmp_path / "store", "--layout", "clam", "--pt", "--out", tmp_path / "c"
    )
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "c" / "pt_files" / "a.pt").is_file()


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("import", "--out", "x"), "Give one of --llava, --features"),
        (("import", "--out", "x", "--llava", "y", "--features", "z"), "Give one of --llava, --features"),
        (("export", "--out", "x"), "Give one of --model, --features"),
        (("export", "--out", "x", "--features", "y", "--layout", "qupath"), "no layout 'qupath'"),
        (("export", "--out", "x", "--features", "y", "--pt"), "Give --layout clam"),
    ],
)
def test_calls_that_mean_nothing(args: tuple[str, ...], told: str) -> None:
    result = giant(*args)
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert told in result.stderr


def test_imported_features_are_searched_without_their_encoder(tmp_path: Path) -> None:
    """The tile asked for is known by what was imported of it; its double on the other slide is found."""
    job, slides = trident(tmp_path / "job", "a"), [slide(tmp_path / "slides", name) for name in "ab"]
    write_trident(job, "b", replace(tiles(1), features=tiles(0).features[::-1].copy()), SIDE)
    made(import_features(job, tmp_path / "store", slides))
    search = (
        "similar",
        slides[0],
        "--box",
        0,
        0,
        SIDE,
        SIDE,
        "-k",
        1,
        "--encoder",
        "trident:uni_v1",
        "--json",
    )
    result = giant(*search, "--in", tmp_path / "store")
    assert result.exit_code == 0, result.stderr
    (hit,) = json.loads(result.stdout)["hits"]
    assert (hit["slide"], hit["box"]) == ("b", [3 * SIDE, 2 * SIDE, SIDE, SIDE])
    assert hit["score"] == pytest.approx(1)
    alone = giant(*search)
    assert (alone.exit_code, "Give that folder with --in" in alone.stderr) == (2, True)
    elsewhere = giant("similar", slide(tmp_path, "c"), *search[2:], "--in", tmp_path / "store")
    assert elsewhere.exit_code == 2
    assert "features of this slide were not imported" in elsewhere.stderr
