"""The feature store: what is whole and ours is read, everything else is done again."""

from __future__ import annotations

import errno
import fcntl
import logging
import multiprocessing
import os
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image
from slide_files import ColourEncoder, damage, stained, write_svs

from core_model.errors import FeatureStoreError, NoTissue, SlideError
from core_model.features.extract import extract
from core_model.features.reading import Pace
from core_model.features.store import FeatureStore
from core_model.features.tiles import TileFeatures
from core_model.slides.box import Box
from core_model.slides.slide import Slide, open_slide

WriteSlide = Callable[..., Path]


@pytest.fixture
def slide(write_slide: WriteSlide, he_image: Callable[..., np.ndarray]) -> Iterator[Slide]:
    with open_slide(write_slide(he_image(700, 900, (0, 0, 740, 460)), mpp=0.5, levels=2)) as opened:
        yield opened


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore(tmp_path / "store")


def test_features_are_those_of_the_tiles_pixels(slide: Slide) -> None:
    encoder = ColourEncoder()
    found = extract(slide, encoder, pace=Pace(readers=2, batch=4))
    assert found.features.shape == (len(found), 6)
    assert found.features.dtype == np.float32
    assert len(found) == 8  # four columns (the last partly tissue), two rows
    assert (found.size, found.tile_um, found.slide_mpp, found.encoder) == (224, 112.0, slide.mpp, "colour")
    for i in range(len(found)):
        wanted = encoder.encode([slide.read(found.box(i), 0.5)])[0]
        assert np.array_equal(found.features[i], wanted), "row and place belong together"


@pytest.mark.parametrize(
    ("height", "width", "tissue", "boxes"),
    [
        (224, 448, (0, 0, 448, 224), [Box(0, 0, 224, 224), Box(224, 0, 224, 224)]),
        (440, 440, (0, 0, 440, 440), [Box(0, 0, 224, 224), Box(224, 0, 216, 224), Box(0, 224, 224, 216),
                                      Box(224, 224, 216, 216)]),
        (500, 548, (448, 100, 100, 300), [Box(448, 0, 100, 224), Box(448, 224, 100, 224)]),
        (548, 500, (60, 448, 300, 100), [Box(0, 448, 224, 100), Box(224, 448, 224, 100)]),
        (120, 150, (0, 0, 150, 120), [Box(0, 0, 150, 120)]),
    ],
    ids=["whole tiles", "a region of 440 px", "last column", "last row", "less than a tile"],
)  # fmt: skip
def test_tissue_is_read_out_to_the_edge_and_glass_put_behind_it(
    write_slide: WriteSlide,
    he_image: Callable[..., np.ndarray],
    height: int,
    width: int,
    tissue: tuple[int, int, int, int],
    boxes: list[Box],
) -> None:
    images = []

    class Keeping(ColourEncoder):
        def encode(self, images_: list[Image.Image]) -> np.ndarray:
            images.extend(images_)
            return super().encode(images_)

    with open_slide(write_slide(he_image(height, width, tissue), mpp=0.5)) as slide:
        found = extract(slide, Keeping())
        assert [found.box(i) for i in range(len(found))] == boxes
        for image, box in zip(images, boxes, strict=True):
            pixels = np.asarray(image)
            assert pixels.shape == (224, 224, 3)
            assert np.array_equal(pixels[: box.h, : box.w], np.asarray(slide.read(box, 0.5)))
            assert (pixels[box.h :] == 255).all()
            assert (pixels[:, box.w :] == 255).all()
        assert len(found.inside(slide.box)) == len(found)
        last = boxes[-1]
        assert len(found.inside(last)) == 1
        assert len(found.inside(last._replace(w=last.w // 2))) == 1, "half of what is on the slide is enough"
        assert len(found.inside(last._replace(w=last.w // 2 - 2))) == 0
        assert found.centers[-1].tolist() == [last.x + last.w / 2, last.y + last.h / 2]


def test_progress_is_told_from_start_to_end(slide: Slide) -> None:
    calls: list[tuple[int, int]] = []
    extract(slide, ColourEncoder(), progress=lambda done, total: calls.append((done, total)))
    assert calls[0] == (0, 8)
    assert calls[-1] == (8, 8)
    assert calls == sorted(calls)


def test_inside_takes_tiles_by_their_overlap(slide: Slide) -> None:
    found = extract(slide, ColourEncoder())
    part = found.inside(Box(0, 0, 336, 224))
    assert part.coords.tolist() == [[0, 0], [224, 0]]
    assert np.array_equal(part.features, found.features[[0, 1]])
    assert len(found.inside(Box(0, 0, 335, 224))) == 1
    assert len(found.inside(Box(0, 0, 335, 224), min_overlap=0.1)) == 2
    assert len(found.inside(Box(600, 600, 50, 50))) == 0
    assert len(found.inside(slide.box)) == len(found)


def test_stored_features_come_back_without_encoding(slide: Slide, store: FeatureStore) -> None:
    encoder = ColourEncoder()
    first = extract(slide, encoder, store)
    seen = encoder.seen
    again = extract(slide, encoder, store)
    assert encoder.seen == seen
    assert np.array_equal(again.features, first.features)
    assert np.array_equal(again.coords, first.coords)
    assert replace(again, features=first.features, coords=first.coords) == first


def test_the_layout_is_tridents(slide: Slide, store: FeatureStore) -> None:
    extract(slide, ColourEncoder(), store)
    path = store.root / "features_colour" / "slide.h5"
    with h5py.File(path) as file:
        assert (file["features"].dtype, file["features"].shape) == (np.float32, (8, 6))
        assert (file["coords"].dtype, file["coords"].shape) == (np.int64, (8, 2))
        wanted = {
            "patch_size": 224, "patch_size_level0": 224, "level0_magnification": 20,
            "target_magnification": 20, "overlap": 0, "name": "slide", "savetodir": str(path.parent),
            "level0_width": 900, "level0_height": 700,
        }  # fmt: skip
        found = dict(file["coords"].attrs)
    assert {name: found[name] for name in wanted} == wanted
    assert [p.name for p in path.parent.iterdir() if not p.name.endswith(".lock")] == ["slide.h5"]


def test_failed_tiles_are_kept_with_place_and_reason(slide: Slide, store: FeatureStore) -> None:
    encoder = ColourEncoder()
    failed = tuple((Box(i, 2, 224, 224), f"grund µ {i}") for i in range(3000))
    found = replace(extract(slide, encoder), failed=failed)
    store.save(slide, encoder, found)
    loaded = store.load(slide, encoder)
    assert loaded is not None
    assert loaded.failed == failed


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def text(path: Path) -> None:
    path.write_text("features")


def one_number(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["features"][3, 3] += 1


def no_attributes(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        for name in list(file["coords"].attrs):
            del file["coords"].attrs[name]


def no_coords(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        del file["coords"]


@pytest.mark.parametrize("damage", [cut, empty, text, one_number, no_attributes, no_coords])
def test_a_damaged_or_foreign_file_is_redone_with_a_warning(
    slide: Slide, store: FeatureStore, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    encoder = ColourEncoder()
    wanted = extract(slide, encoder, store)
    path = store.path(slide, encoder.name)
    damage(path)
    with caplog.at_level(logging.WARNING):
        assert store.load(slide, encoder) is None
    assert "will be redone" in caplog.text
    found = extract(slide, encoder, store)
    assert np.array_equal(found.features, wanted.features)
    assert store.load(slide, encoder) is not None


@pytest.mark.parametrize("damage", [cut, empty, text])
def test_a_file_that_may_be_anybodys_is_left_as_it_is(
    slide: Slide, store: FeatureStore, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    encoder = ColourEncoder()
    extract(slide, encoder, store)
    path = store.path(slide, encoder.name)
    damage(path)
    before = path.read_bytes()
    with caplog.at_level(logging.WARNING):
        extract(slide, encoder, store)
    assert f"{path} is left alone" in caplog.text
    assert path.read_bytes() == before
    assert store.path(slide, encoder.name).name == f"slide-{slide.id[:8]}.h5"
    path.with_name(f"slide-{slide.id[:8]}.h5").write_bytes(before)
    with pytest.raises(FeatureStoreError, match="left alone") as caught:
        extract(slide, encoder, store)
    assert "\n" not in str(caught.value)


def test_a_file_that_another_program_writes_is_left_to_it(
    slide: Slide, store: FeatureStore, caplog: pytest.LogCaptureFixture
) -> None:
    path = store.path(slide, "colour")
    path.parent.mkdir(parents=True)
    with h5py.File(path, "w") as theirs:
        theirs["features"] = np.ones((5, 6), np.float32)
    before = path.read_bytes()
    with path.open("rb") as handle, caplog.at_level(logging.WARNING):
        fcntl.flock(handle, fcntl.LOCK_EX)  # as HDF5 does where it writes
        extract(slide, ColourEncoder(), store)
        assert "another program has it open" in caplog.text
        assert store.load(slide, ColourEncoder()) is not None
    assert path.read_bytes() == before
    assert not list(path.parent.glob("*.foreign"))


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS], ids=errno.errorcode.get)
def test_features_on_a_disk_without_locks_are_read(
    slide: Slide, store: FeatureStore, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    extract(slide, ColourEncoder(), store)
    whole = h5py.File

    def refuse(path: Path, mode: str, locking: bool | None = None) -> h5py.File:
        if locking is not False:
            raise OSError(f"Unable to open file (unable to lock file, errno = {number}, error message = '')")
        return whole(path, mode, locking=locking)

    monkeypatch.setattr("core_model.features.store.h5py.File", refuse)
    assert store.load(slide, ColourEncoder()) is not None


def test_names_as_long_as_a_disk_takes_them_have_features(
    write_slide: WriteSlide, he_image: Callable[..., np.ndarray], store: FeatureStore
) -> None:
    with open_slide(write_slide(he_image(300, 300, (0, 0, 300, 300)), "n" * 240 + ".tiff")) as slide:
        extract(slide, ColourEncoder(), store)
        assert store.load(slide, ColourEncoder()) is not None
        other = store.path(slide, "colour").with_suffix(".text.safetensors")
        assert len(other.name) <= 255


def test_a_foreign_file_in_the_way_is_kept(slide: Slide, store: FeatureStore) -> None:
    path = store.path(slide, "colour")
    path.parent.mkdir(parents=True)
    with h5py.File(path, "w") as file:
        file["features"], file["coords"] = np.ones((5, 6), np.float32), np.ones((5, 2), np.int64)
    before = path.read_bytes()
    extract(slide, ColourEncoder(), store)
    assert path.with_name("slide.h5.foreign").read_bytes() == before


@pytest.mark.parametrize(
    "other",
    [ColourEncoder(fingerprint="other weights"), ColourEncoder(mpp=1.0), ColourEncoder(dim=7)],
    ids=["weights", "resolution", "width"],
)
def test_features_of_another_encoder_are_not_taken(
    slide: Slide, store: FeatureStore, other: ColourEncoder
) -> None:
    extract(slide, ColourEncoder(), store)
    assert store.load(slide, other) is None


def test_features_of_another_slide_of_the_same_name_are_not_taken(
    write_slide: WriteSlide, he_image: Callable[..., np.ndarray], store: FeatureStore, tmp_path: Path
) -> None:
    encoder = ColourEncoder()
    one = open_slide(write_slide(he_image(500, 500, (0, 0, 500, 500), seed=1), "slide.tiff"))
    extract(one, encoder, store)
    one.close()
    other = open_slide(write_slide(he_image(500, 500, (0, 0, 500, 500), seed=2), "slide.tiff"))
    assert store.load(other, encoder) is None
    rescaled = open_slide(tmp_path / "slide.tiff", mpp_override=0.6)
    extract(other, encoder, store)
    assert store.load(rescaled, encoder) is None
    assert store.load(other, encoder) is not None


def test_slides_of_one_name_keep_their_features(
    write_slide: WriteSlide, he_image: Callable[..., np.ndarray], store: FeatureStore, tmp_path: Path
) -> None:
    encoder, found = ColourEncoder(), []
    for place, seed in (("x", 1), ("y", 2)):
        (tmp_path / place).mkdir()
        path = write_slide(he_image(500, 500, (0, 0, 500, 500), seed=seed), f"{place}/slide.tiff")
        found.append(open_slide(path))
        extract(found[-1], encoder, store)
    assert [store.load(slide, encoder) is not None for slide in found] == [True, True]
    assert store.path(found[0], "colour").name == "slide.h5"
    assert store.path(found[1], "colour").name == f"slide-{found[1].id[:8]}.h5"


def test_a_writer_that_fails_leaves_nothing_behind(
    slide: Slide, store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = ColourEncoder()
    found = extract(slide, encoder, store)
    before = store.path(slide, encoder.name).read_bytes()

    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("core_model.files.flush", full)
    with pytest.raises(FeatureStoreError, match="No space left"):
        store.save(slide, encoder, found)
    folder = store.path(slide, encoder.name).parent
    assert store.path(slide, encoder.name).read_bytes() == before
    assert not list(folder.glob("*.part")) + list(folder.glob(".*.part"))


def test_a_disk_that_takes_no_more_is_one_line_and_no_half_file(slide: Slide, store: FeatureStore) -> None:
    """HDF5 itself crashes there: it never meets the disk."""
    found = extract(slide, ColourEncoder())
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, old[1]))
    try:
        with pytest.raises(
            FeatureStoreError, match=r"cannot be written \(File too large.*GIANT_CACHE"
        ) as caught:
            store.save(slide, ColourEncoder(), found)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert "\n" not in str(caught.value)
    assert not list(store.path(slide, "colour").parent.iterdir())


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EPERM], ids=errno.errorcode.get)
def test_a_cache_that_is_read_only_stops_nobody(
    slide: Slide,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    number: int,
) -> None:
    make = Path.mkdir

    def refuse(path: Path, *args: Any, **kwargs: Any) -> None:
        if path.is_relative_to(tmp_path / "home"):
            raise OSError(number, os.strerror(number))
        make(path, *args, **kwargs)

    monkeypatch.setattr(Path, "mkdir", refuse)
    with caplog.at_level(logging.WARNING):
        found = extract(slide, ColourEncoder(), FeatureStore(tmp_path / "home" / "cache", kept=False))
    assert len(found) == 8
    assert "GIANT_CACHE" in caplog.text
    with pytest.raises(FeatureStoreError, match=r"cannot be written.*GIANT_CACHE"):
        extract(slide, ColourEncoder(), FeatureStore(tmp_path / "home" / "cache"))


def test_a_laboratorys_store_is_read_where_it_cannot_be_written(
    slide: Slide, store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    extract(slide, ColourEncoder(), store)

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    for target in ("core_model.files.flush", "core_model.files._acquired"):
        monkeypatch.setattr(target, refuse)
    encoder = ColourEncoder()
    assert len(extract(slide, encoder, store)) == 8
    assert encoder.seen == 0


def test_an_unwritable_store_is_one_error(slide: Slide, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FeatureStoreError, match="cannot be written"):
        extract(slide, ColourEncoder(), FeatureStore(tmp_path / "file" / "store"))


def hold(root: Path, path: Path, ready: multiprocessing.synchronize.Event) -> None:
    with open_slide(path) as slide, FeatureStore(root).lock(slide, "colour"):
        ready.set()
        signal.pause()


def test_one_writer_at_a_time_and_none_after_death(slide: Slide, store: FeatureStore) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    writer = context.Process(target=hold, args=(store.root, slide.path, ready), daemon=True)
    writer.start()
    assert ready.wait(60)
    with pytest.raises(FeatureStoreError, match="another process"), store.lock(slide, "colour", wait=False):
        pass
    with store.lock(slide, "other encoder", wait=False):
        pass
    assert writer.pid is not None
    os.kill(writer.pid, signal.SIGKILL)
    writer.join(60)
    with store.lock(slide, "colour"):
        pass


def test_odd_encoder_names_stay_inside_the_store(slide: Slide, store: FeatureStore) -> None:
    for name in ("../../etc", "/models/vit base", "..", "a/b"):
        path = store.path(slide, name).resolve()
        assert path.parent.parent == store.root.resolve()


# --- slides that are hard to read ----------------------------------------------------------------------


def test_unreadable_tiles_are_listed_and_never_encoded(shared: Path) -> None:
    damaged = shared / "data" / "malformed" / "cmu-1-small-region_corrupt_tiles.svs"
    with open_slide(damaged) as slide, open_slide(shared / "data/slides/CMU-1-Small-Region.svs") as whole:
        encoder = ColourEncoder()
        found, wanted = extract(slide, encoder), extract(whole, ColourEncoder())
    assert 5 < len(found.failed) < 30
    assert encoder.seen == len(found)
    bad = {tuple(box) for box, reason in found.failed if "does not decode" in reason}
    assert len(bad) == len(found.failed)
    good = {tuple(int(v) for v in xy): row for xy, row in zip(found.coords, found.features, strict=True)}
    assert not {box[:2] for box in bad} & set(good)
    for xy, row in zip(wanted.coords, wanted.features, strict=True):
        place = tuple(int(v) for v in xy)
        assert place in good or (*place, 224, 224) in bad, "no tile of tissue is lost without a word"
        if place in good:
            assert np.array_equal(good[place], row)


def test_a_slide_without_a_readable_tile_is_an_error(shared: Path) -> None:
    with open_slide(shared / "data/malformed/unreadable.svs") as slide, pytest.raises(SlideError):
        extract(slide, ColourEncoder())


def test_damaged_tiles_of_an_aperio_file_are_listed_and_the_rest_encoded(tmp_path: Path) -> None:
    whole = write_svs(tmp_path / "whole.svs", stained(1500, 1300), mpp=0.5)
    damaged = damage(Path(shutil.copy(whole, tmp_path / "damaged.svs")), [(1, 1), (3, 4)])
    with open_slide(damaged) as slide, open_slide(whole) as reference:
        encoder = ColourEncoder()
        features, expected = extract(slide, encoder), extract(reference, ColourEncoder())
    hurt = [Box(240, 240, 240, 240), Box(720, 960, 240, 240)]
    failed = {box for box, reason in features.failed if "does not decode" in reason}
    assert len(failed) == len(features.failed)
    assert failed == {
        box for i in range(len(expected)) if any((box := expected.box(i)).intersect(part) for part in hurt)
    }
    assert encoder.seen == len(features) == len(expected) - len(failed), "no tile is lost without a word"
    kept = [i for i in range(len(expected)) if expected.box(i) not in failed]
    assert np.array_equal(features.coords, expected.coords[kept])
    assert np.array_equal(features.features, expected.features[kept])


def test_an_aperio_file_without_a_readable_tile_is_an_error(tmp_path: Path) -> None:
    path = damage(write_svs(tmp_path / "damaged.svs", stained(480, 480)))
    with open_slide(path) as slide, pytest.raises(SlideError):
        extract(slide, ColourEncoder())


def test_a_tiny_slide_is_an_error(write_slide: WriteSlide) -> None:
    rgb = np.full((8, 8, 3), (215, 120, 170), dtype=np.uint8)
    with open_slide(write_slide(rgb, tile=16)) as slide, pytest.raises(NoTissue) as caught:
        extract(slide, ColourEncoder())
    assert "\n" not in str(caught.value)


def test_a_bug_in_the_encoder_is_not_hidden(slide: Slide) -> None:
    class Wrong(ColourEncoder):
        def encode(self, images: list[Image.Image]) -> np.ndarray:
            return np.zeros((len(images), 5), np.float32)

    with pytest.raises(ValueError, match="returned"):
        extract(slide, Wrong())


def test_coarse_slides_give_small_tiles_and_fine_ones_are_reduced(
    write_slide: WriteSlide, he_image: Callable[..., np.ndarray]
) -> None:
    sizes = set()

    class Sizes(ColourEncoder):
        def encode(self, images: list[Image.Image]) -> np.ndarray:
            sizes.update(image.size for image in images)
            return super().encode(images)

    for mpp, px in ((0.25, 224), (0.5, 224), (1.0, 112)):
        sizes.clear()
        with open_slide(write_slide(he_image(600, 600, (0, 0, 600, 600)), mpp=mpp)) as slide:
            found: TileFeatures = extract(slide, Sizes())
            assert found.size * mpp == 112
        assert sizes == {(px, px)}
