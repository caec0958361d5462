"""Tiles are read in file order, a bounded number ahead; the result knows nothing of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from slide_files import ColourEncoder

from core_model.features import reading
from core_model.features.extract import encode_grid, encode_slide, extract
from core_model.features.grid import TileGrid, tile_grid
from core_model.features.reading import Pace, choose_pace, reading_order, steps_of
from core_model.slides.box import Box
from core_model.slides.file_tiles import FileTiles, PlacedFile
from core_model.slides.kept_tiles import TileCache
from core_model.slides.slide import Slide, open_slide
from core_model.slides.tissue import find_tissue


@pytest.fixture
def slide(write_slide: Callable[..., Path], he_image: Callable[..., np.ndarray]) -> Iterator[Slide]:
    with open_slide(write_slide(he_image(700, 1400, (0, 0, 1400, 650)), mpp=0.5)) as opened:
        yield opened


class BatchEncoder(ColourEncoder):
    """Its features tell which tiles it got at once: as real ones may in their last bits."""

    step = 4

    def encode(self, images: list[Image.Image]) -> np.ndarray:
        rows = super().encode(images)
        rows[:, 0] += len(images) + np.arange(len(images)) / 8 + rows[:, 1].sum()
        return rows


@pytest.mark.parametrize("pace", [Pace(1, 4), Pace(1, 100), Pace(7, 1), Pace(3, 8), Pace(16, 12)], ids=str)
def test_neither_threads_nor_batches_change_a_bit(slide: Slide, pace: Pace) -> None:
    found, wanted = extract(slide, BatchEncoder(), pace=pace), extract(slide, BatchEncoder())
    assert found.features.tobytes() == wanted.features.tobytes()
    assert np.array_equal(found.coords, wanted.coords)
    assert len(found) > 3 * BatchEncoder.step


def test_results_are_in_the_order_of_the_grid_whatever_was_read_first(
    slide: Slide, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = extract(slide, ColourEncoder())
    monkeypatch.setattr(reading, "BAND_PX", 500)
    boxes: list[Box] = []
    read = Slide.read

    def noting(self: Slide, box: Box, mpp: float) -> Image.Image:
        boxes.append(box)
        return read(self, box, mpp)

    monkeypatch.setattr(Slide, "read", noting)
    found = extract(slide, ColourEncoder(), pace=Pace(1, 32))
    assert found.features.tobytes() == wanted.features.tobytes()
    assert np.array_equal(found.coords, wanted.coords)
    places = [(box.x // 448, box.y, box.x) for box in boxes]
    assert places == sorted(places), "band after band, each row by row"
    assert len({band for band, _, _ in places}) == 4


@pytest.mark.parametrize(("band", "once"), [(500, True), (16_384, False)], ids=["narrow", "whole"])
def test_neighbours_share_the_files_tiles_where_two_rows_of_a_band_are_kept(
    slide: Slide, monkeypatch: pytest.MonkeyPatch, band: int, once: bool
) -> None:
    """Tiles of 224 px over file tiles of 64: half of every fourth row of those belongs to two rows."""
    start, read, decoded = TileCache.__init__, FileTiles.read, list[int]()

    def small(self: TileCache) -> None:
        start(self, 45 * 64 * 64 * 3)

    def counted(self: FileTiles, file: PlacedFile, number: int, factor: int) -> np.ndarray:
        decoded.append(number)
        return read(self, file, number, factor)

    grid = tile_grid(slide, find_tissue(slide), 112.0)
    monkeypatch.setattr(TileCache, "__init__", small)
    monkeypatch.setattr(FileTiles, "read", counted)
    monkeypatch.setattr(reading, "BAND_PX", band)
    with open_slide(slide.path) as fresh:
        encode_grid(fresh, ColourEncoder(), grid, pace=Pace(1, 32))
    assert len(decoded) > 200
    assert (len(decoded) == len(set(decoded))) is once


@given(
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 400)), min_size=1, max_size=80, unique=True),
    st.sampled_from([112, 224, 448, 20_000]),
)
def test_every_tile_is_read_once_in_narrow_bands(cells: list[tuple[int, int]], size: int) -> None:
    coords = np.array(sorted(cells, key=lambda cell: (cell[1], cell[0])), dtype=np.int64) * size
    grid = TileGrid(coords, size, 112.0, np.zeros(len(coords), dtype=bool), (10**7, 10**7))
    order = reading_order(grid)
    assert sorted(order) == list(range(len(grid)))
    x, y = coords[order].T
    for start in np.flatnonzero(np.diff(x // max(size, 16_384 // size * size), prepend=-1)):
        band = x[start] // max(size, 16_384 // size * size)
        inside = x // max(size, 16_384 // size * size) == band
        assert np.ptp(x[inside]) + size <= max(size, 16_384)
        assert sorted(zip(y[inside], x[inside], strict=True)) == list(zip(y[inside], x[inside], strict=True))
    steps = steps_of(grid, 7)
    assert np.array_equal(np.concatenate(steps), order)
    assert {len(step) for step in steps[:-1]} <= {7}


@pytest.mark.parametrize("pace", [Pace(1, 4), Pace(4, 4), Pace(2, 8)], ids=str)
def test_reading_waits_for_the_encoder(slide: Slide, monkeypatch: pytest.MonkeyPatch, pace: Pace) -> None:
    """Threads never run further ahead than four batches, however slow the encoder is."""
    reads: list[Box] = []
    read = Slide.read

    def noting(self: Slide, box: Box, mpp: float) -> Image.Image:
        reads.append(box)
        return read(self, box, mpp)

    monkeypatch.setattr(Slide, "read", noting)
    ahead: list[int] = []

    class Slow(ColourEncoder):
        step = 4

        def encode(self, images: list[Image.Image]) -> np.ndarray:
            ahead.append(len(reads) - self.seen)
            return super().encode(images)

    monkeypatch.setattr(reading, "PIECE", 2)
    before = len(reads)
    encode_slide(slide, Slow(), pace=pace)
    assert max(ahead) - before <= 4 * pace.batch + pace.batch
    assert len(ahead) > 3


def test_a_reading_error_that_is_no_damage_ends_the_work(
    slide: Slide, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Slide, box: Box, mpp: float) -> Image.Image:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(Slide, "read", broken)
    with pytest.raises(ZeroDivisionError):
        encode_slide(slide, ColourEncoder())


GB = 1 << 30


@pytest.mark.parametrize(
    ("cores", "memory", "step", "pace"),
    [
        (1, 8 * GB, 32, Pace(2, 32)),
        (2, 24 * GB, 32, Pace(2, 32)),
        (8, 24 * GB, 32, Pace(8, 32)),
        (64, 256 * GB, 32, Pace(16, 256)),
        (64, 4 * GB, 32, Pace(16, 83)),
        (64, 1 * GB, 32, Pace(16, 32)),
        (2, 0, 32, Pace(2, 32)),
        (16, 128 * GB, 128, Pace(16, 256)),
    ],
)
def test_pace_follows_from_cores_and_memory(cores: int, memory: int, step: int, pace: Pace) -> None:
    assert choose_pace(224, step, cores=cores, memory=memory) == pace
    assert choose_pace(224, step, cores=cores, memory=memory, batch=5, readers=3) == Pace(3, 5)
