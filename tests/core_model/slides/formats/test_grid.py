"""Tiles are put together to any rectangle; levels of different pictures are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core_model.errors import SlideError
from core_model.slides.formats.grid import Grid, GridSource, check_levels
from core_model.slides.sources import DecodeError

HERE = Path("slide")


def source_of(rgb: np.ndarray, tile: tuple[int, int], reach: int = 0) -> GridSource:
    """One level whose tiles hold `reach` px more than lies on it."""
    height, width = rgb.shape[:2]

    def fetch(level: int, column: int, row: int) -> np.ndarray:
        x, y, w, h = grid.on_level(column, row)
        return np.pad(rgb[y : y + h, x : x + w], ((0, reach), (0, reach), (0, 0)))

    grid = Grid((width, height), tile)
    return GridSource(HERE, [grid], fetch, vendor="v", reader="r", properties={})


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_rectangle_is_what_lies_there(data: st.DataObject) -> None:
    width, height = data.draw(st.integers(1, 90)), data.draw(st.integers(1, 90))
    tile = data.draw(st.integers(1, 100)), data.draw(st.integers(1, 100))
    x, y = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    w, h = data.draw(st.integers(1, width - x)), data.draw(st.integers(1, height - y))
    rgb = np.random.default_rng(width * height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image, offset = source_of(rgb, tile, data.draw(st.integers(0, 3))).read_level(0, x, y, w, h)
    assert offset == (0.0, 0.0)
    assert np.array_equal(np.asarray(image), rgb[y : y + h, x : x + w])


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((64, 64), np.uint8), np.zeros((64, 64, 4), np.uint8), np.zeros((64, 64, 3), np.uint16),
        np.zeros((64, 63, 3), np.uint8), np.zeros((0, 64, 3), np.uint8),
    ],
)  # fmt: skip
def test_a_tile_of_another_kind_or_size_does_not_decode(wrong: np.ndarray) -> None:
    source = GridSource(
        HERE, [Grid((64, 64), (64, 64))], lambda *_: wrong, vendor="v", reader="r", properties={}
    )
    with pytest.raises(DecodeError):
        source.read_level(0, 0, 0, 8, 8)


@given(st.integers(600, 200_000), st.integers(600, 200_000), st.sampled_from([2, 3, 4]), st.booleans())
def test_levels_that_are_rounded_or_cropped_are_one_picture(
    width: int, height: int, factor: int, up: bool
) -> None:
    sizes = [(width, height)]
    while min(sizes[-1]) >= factor * 2:
        w, h = sizes[-1]
        sizes.append((-(-w // factor), -(-h // factor)) if up else (w // factor, h // factor))
    check_levels(sizes, HERE)


@pytest.mark.parametrize(
    "sizes",
    [
        [], [(0, 5)], [(1000, 1000), (1000, 1000)], [(1000, 1000), (500, 400)], [(1000, 500), (250, 500)],
        [(1000, 1000), (250, 250), (500, 500)], [(2**i, 2**i) for i in range(60, 0, -1)],
    ],
)  # fmt: skip
def test_levels_of_different_pictures_are_refused(sizes: list[tuple[int, int]]) -> None:
    with pytest.raises(SlideError):
        check_levels(sizes, HERE)
