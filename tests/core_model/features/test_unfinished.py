"""Work that was killed is gone on with, step by step; what is not whole and its own is done again."""

from __future__ import annotations

import logging
import os
import resource
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from slide_files import ColourEncoder

from core_model.errors import FeatureStoreError
from core_model.features.extract import extract
from core_model.features.reading import Pace
from core_model.features.store import FeatureStore
from core_model.features.unfinished import HEAD, Step, Unfinished
from core_model.slides.slide import Slide, open_slide

PACE = Pace(readers=2, batch=2)


class Death(Exception):
    """Stands for a kill: nothing catches it."""


class Mortal(ColourEncoder):
    """Two tiles at once; dies at its n-th batch."""

    step = 2

    def __init__(self, dies_at: int = 0, **more: object) -> None:
        super().__init__(**more)  # type: ignore[arg-type]
        self.batches, self._dies_at = 0, dies_at

    def encode(self, images: list[Image.Image]) -> np.ndarray:
        self.batches += 1
        if self.batches == self._dies_at:
            raise Death
        return super().encode(images)


@pytest.fixture
def slide(write_slide: Callable[..., Path], he_image: Callable[..., np.ndarray]) -> Iterator[Slide]:
    with open_slide(write_slide(he_image(700, 900, (0, 0, 740, 460)), mpp=0.5, levels=2)) as opened:
        yield opened


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore(tmp_path / "store")


def unbroken(slide: Slide, store: FeatureStore) -> bytes:
    """The file that work without a kill leaves; it is gone afterwards."""
    extract(slide, Mortal(), store)
    path = store.path(slide, "colour")
    content = path.read_bytes()
    path.unlink()
    return content


def kill(slide: Slide, store: FeatureStore, at: int = 4) -> Path:
    """Work that died at a batch; returns the file of what is done."""
    with pytest.raises(Death):
        extract(slide, Mortal(at), store, pace=PACE)
    (path,) = store.path(slide, "colour").parent.glob(".*.unfinished")
    return path


def files(store: FeatureStore, slide: Slide) -> list[str]:
    folder = store.path(slide, "colour").parent
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


@pytest.mark.parametrize("at", [2, 3, 4])
def test_what_was_done_is_not_done_again_and_the_file_is_the_same_to_the_byte(
    slide: Slide, store: FeatureStore, at: int, caplog: pytest.LogCaptureFixture
) -> None:
    wanted = unbroken(slide, store)
    kill(slide, store, at)
    assert "slide.h5" not in files(store, slide)
    told: list[tuple[int, int]] = []
    again = Mortal()
    with caplog.at_level(logging.WARNING):
        extract(slide, again, store, lambda done, total: told.append((done, total)))
    assert again.batches == 4 - (at - 1), "eight tiles, two at once"
    assert store.path(slide, "colour").read_bytes() == wanted
    assert files(store, slide) == ["slide.h5"]
    assert told == [(0, 8), (2, 8), (4, 8), (6, 8), (8, 8)]
    assert not caplog.records, "a death between two steps leaves nothing to warn of"


def cut(content: bytes) -> bytes:
    return content[:-5]


def flipped(content: bytes) -> bytes:
    return content[: HEAD.size + 40] + bytes([content[HEAD.size + 40] ^ 1]) + content[HEAD.size + 41 :]


def overlong(content: bytes) -> bytes:
    return HEAD.pack(b"GNT1", 1 << 62, bytes(32)) + content[HEAD.size :]


@pytest.mark.parametrize(
    ("damage", "kept"),
    [(cut, 2), (flipped, 2), (overlong, 0), (lambda _: b"features", 0), (lambda c: c + b"GNT", 3),
     (lambda c: c[HEAD.size :], 0)],
    ids=["cut off", "a bit", "a length", "another file", "a torn head", "no head"],
)  # fmt: skip
def test_what_is_damaged_is_dropped_with_a_warning_and_done_again(
    slide: Slide,
    store: FeatureStore,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[bytes], bytes],
    kept: int,
) -> None:
    wanted, path = unbroken(slide, store), kill(slide, store)
    path.write_bytes(damage(path.read_bytes()))
    with caplog.at_level(logging.WARNING):
        kill(slide, store, at=1)
    assert f"{2 * kept} tiles are kept" in caplog.text
    again = Mortal()
    extract(slide, again, store)
    assert again.batches == 4 - kept
    assert store.path(slide, "colour").read_bytes() == wanted


def test_work_made_for_something_else_is_not_taken(
    slide: Slide, store: FeatureStore, caplog: pytest.LogCaptureFixture
) -> None:
    kill(slide, store)
    content = next(store.path(slide, "colour").parent.glob(".*.unfinished")).read_bytes()
    for other in (
        Mortal(fingerprint="other weights"),
        Mortal(mpp=1.0),
        Mortal(dim=6, tile_px=112),
        type("Wider", (Mortal,), {"step": 4})(),
        type("Rounder", (Mortal,), {"arithmetic": "cpu bf16"})(),
    ):
        next(store.path(slide, "colour").parent.glob(".*.lock"))
        (store.path(slide, "colour").parent / f".slide-{slide.id[:8]}.unfinished").write_bytes(content)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            extract(slide, other, store)
        assert "made for something else" in caplog.text
        wanted = extract(slide, replace_death(other))
        loaded = store.load(slide, other)
        assert loaded is not None
        assert np.array_equal(loaded.features, wanted.features)
        store.path(slide, "colour").unlink()


def replace_death(encoder: Mortal) -> Mortal:
    fresh = type(encoder)()
    for name in ("fingerprint", "mpp", "dim", "tile_px"):
        setattr(fresh, name, getattr(encoder, name))
    return fresh


def test_a_disk_that_takes_no_more_is_one_line_and_work_goes_on_once_there_is_room(
    slide: Slide, store: FeatureStore, caplog: pytest.LogCaptureFixture
) -> None:
    wanted, old = unbroken(slide, store), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400, old[1]))  # a step takes some 150 bytes
    try:
        with pytest.raises(FeatureStoreError, match=r"written \(File too large.*GIANT_CACHE") as caught:
            extract(slide, Mortal(), store, pace=PACE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert "\n" not in str(caught.value)
    again = Mortal()
    with caplog.at_level(logging.WARNING):
        extract(slide, again, store)
    assert not caplog.records, "no step was kept by half"
    assert again.batches == 2
    assert store.path(slide, "colour").read_bytes() == wanted
    assert files(store, slide) == ["slide.h5"]


def test_what_a_kill_left_beside_whole_features_is_removed(slide: Slide, store: FeatureStore) -> None:
    kill(slide, store)
    folder = store.path(slide, "colour").parent
    left = {path.name: path.read_bytes() for path in folder.glob(".*.unfinished")}
    left[".slide.h5.4711-139.part"] = b"half"
    extract(slide, Mortal(), store)
    for name, content in {**left, ".slide.h5.mine.part": b"", ".slide2.h5.4711-139.part": b""}.items():
        (folder / name).write_bytes(content)
    encoder = Mortal(dies_at=1)
    with store.lock(slide, "colour"):
        store.tidy(slide, "colour")
    assert set(left) <= set(files(store, slide)), "somebody may be working there"
    extract(slide, encoder, store)
    assert files(store, slide) == [".slide.h5.mine.part", ".slide2.h5.4711-139.part", "slide.h5"]


def test_without_a_store_nothing_is_written(slide: Slide, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    extract(slide, Mortal())
    assert sorted(tmp_path.rglob("*")) == before


def test_who_waits_for_a_name_that_another_slide_took_locks_its_own(
    write_slide: Callable[..., Path], he_image: Callable[..., np.ndarray], store: FeatureStore, tmp_path: Path
) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "y").mkdir()
    one, other = (
        open_slide(write_slide(he_image(300, 300, (0, 0, 300, 300), seed=seed), f"{place}/slide.tiff"))
        for place, seed in (("x", 1), ("y", 2))
    )
    path = store.path(other, "colour")
    real, asked = FeatureStore.path, []

    def later(self: FeatureStore, slide: Slide, encoder_name: str) -> Path:
        """The first who asks is told the name as it was before the lock was free."""
        asked.append(slide)
        return path if len(asked) == 1 else real(self, slide, encoder_name)

    extract(one, Mortal(), store)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FeatureStore, "path", later)
        with store.lock(other, "colour"):
            pass
    assert (path.parent / f".slide-{other.id[:8]}.h5.lock").exists()


STEPS = [np.arange(0, 3), np.arange(3, 6), np.arange(6, 8)]


def some_step(number: int) -> Step:
    rng = np.random.default_rng(number)
    tiles = STEPS[number][: 2 - number % 2]
    failed = tuple((int(row), "grund µ") for row in STEPS[number][2:])
    return Step(tiles, rng.normal(size=(len(tiles), 4)).astype(np.float32), failed)


def same(one: Step, other: Step) -> bool:
    arrays = np.array_equal(one.tiles, other.tiles) and np.array_equal(one.features, other.features)
    return arrays and replace(one, tiles=None, features=None) == replace(other, tiles=None, features=None)


@given(st.data())
def test_whatever_happens_to_the_file_only_whole_steps_are_read(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("steps") / "x"
    work = Unfinished(path, {"slide": "a"}, "make room")
    order = data.draw(st.permutations(range(3)))
    for number in order:
        work.append(number, some_step(number))
    whole = path.read_bytes()
    assert all(same(step, some_step(n)) for n, step in work.load(STEPS, 4).items())
    place = data.draw(st.integers(0, len(whole)))
    change = data.draw(st.sampled_from(["cut", "flip", "put in", "take out"]))
    if change == "cut":
        path.write_bytes(whole[:place])
    elif change == "flip" and place < len(whole):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
    else:
        length = data.draw(st.integers(1, 60))
        more = os.urandom(length) if change == "put in" else b""
        path.write_bytes(whole[:place] + more + whole[place + (length if change == "take out" else 0) :])
    found = work.load(STEPS, 4)
    assert all(same(step, some_step(number)) for number, step in found.items())
    left = [number for number in range(3) if number not in found]
    for number in left:
        work.append(number, some_step(number))
    assert sorted(work.load(STEPS, 4)) == [0, 1, 2], "the file can always be gone on with"


def test_another_slides_steps_are_none_of_ours(tmp_path: Path) -> None:
    Unfinished(tmp_path / "x", {"slide": "a"}, "").append(0, some_step(0))
    assert Unfinished(tmp_path / "x", {"slide": "b"}, "").load(STEPS, 4) == {}
    assert (tmp_path / "x").stat().st_size == 0
