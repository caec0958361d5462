"""Geometry of reading: a ramp must come back where it lies, however it is scaled, cut or blocked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from core_model.errors import RegionUnreadable
from core_model.slides import resample
from core_model.slides.box import Box
from core_model.slides.slide import Slide, open_slide
from core_model.slides.sources import DecodeError

W, H, SLOPE = 128, 96, 1.9
"""Grey levels per level-0 px: R along x, G along y."""


@pytest.fixture
def ramp(write_slide: Callable[..., Path]) -> Iterator[Slide]:
    rgb = np.zeros((H, W, 3), dtype=np.uint8)
    rgb[..., 0] = np.round((np.arange(W) + 0.5) * SLOPE)[None, :]
    rgb[..., 1] = np.round((np.arange(H) + 0.5) * SLOPE)[:, None]
    with open_slide(write_slide(rgb, levels=3, tile=32)) as slide:
        yield slide


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    x, y = draw(st.integers(0, W - 2)), draw(st.integers(0, H - 2))
    return Box(x, y, draw(st.integers(2, W - x)), draw(st.integers(2, H - y)))


@given(box=boxes(), mpp=st.floats(0.3, 9.0))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_ramp_stays_in_place(ramp: Slide, box: Box, mpp: float) -> None:
    rgb = np.asarray(ramp.read(box, mpp)).astype(float)
    for channel, (start, length, count) in enumerate(
        [(box.x, box.w, rgb.shape[1]), (box.y, box.h, rgb.shape[0])]
    ):
        step = length / count  # level-0 px per pixel of the image
        wanted = SLOPE * (start + (np.arange(count) + 0.5) * step)
        found = rgb[..., channel].mean(axis=channel)
        assert np.abs(found - wanted).max() <= 1.5 + 0.3 * step * SLOPE
        assert count < 4 or abs((found - wanted).mean()) <= 1.0 + 0.1 * step * SLOPE, (
            "the whole image shifted"
        )


def test_levels_agree_on_where_things_are(write_slide: Callable[..., Path]) -> None:
    """A bright square keeps its centre at every resolution, on a slide whose levels are cropped."""
    rgb = np.zeros((1003, 1005, 3), dtype=np.uint8)
    rgb[700:764, 820:884] = 255
    with open_slide(write_slide(rgb, levels=4)) as slide:
        for mpp in (0.5, 0.77, 1.0, 1.5, 2.0, 3.1, 4.0, 6.0):
            box = Box(600, 500, 400, 400)
            image = np.asarray(slide.read(box, mpp))[..., 0].astype(float)
            step = 400 / image.shape[1]
            x = 600 + (image.sum(axis=0) * (np.arange(image.shape[1]) + 0.5)).sum() / image.sum() * step
            y = 500 + (image.sum(axis=1) * (np.arange(image.shape[0]) + 0.5)).sum() / image.sum() * step
            assert (x, y) == pytest.approx((852, 732), abs=0.3 * mpp / 0.5)


@pytest.mark.parametrize("factor", [1, 2, 3, 7])
def test_whole_factors_are_plain_means(write_slide: Callable[..., Path], factor: int) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (210, 252, 3), dtype=np.uint8)
    with open_slide(write_slide(rgb)) as slide:
        read = np.asarray(slide.read(slide.box, 0.5 * factor)).astype(float)
    wanted = rgb.reshape(210 // factor, factor, 252 // factor, factor, 3).mean(axis=(1, 3))
    assert np.abs(read - wanted).max() <= 0.6


@pytest.mark.parametrize("mpp", [0.5, 1.1, 1.5, 2.2, 4.9])
def test_blocks_leave_no_seams(
    write_slide: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, mpp: float
) -> None:
    rgb = np.random.default_rng(1).integers(0, 256, (300, 333, 3), dtype=np.uint8)
    with open_slide(write_slide(rgb)) as slide:
        box = Box(11, 7, 310, 290)
        at_once = np.asarray(slide.read(box, mpp))
        monkeypatch.setattr(resample, "BLOCK", 50)
        assert np.array_equal(np.asarray(slide.read(box, mpp)), at_once)


class Recorder:
    """A level of 8192 x 8192 px that remembers how much was asked of it at once, with a damaged part."""

    vendor = reader = "fake"
    made_levels = ()
    properties: ClassVar[dict[str, str]] = {}
    level_dimensions = ((8192, 8192),)

    def __init__(self, damaged: Box | None = None) -> None:
        self.damaged, self.largest, self.reads = damaged, 0, 0

    def read_level(
        self, level: int, x: int, y: int, w: int, h: int
    ) -> tuple[Image.Image, tuple[float, float]]:
        self.largest, self.reads = max(self.largest, w * h), self.reads + 1
        if self.damaged is not None and self.damaged.intersect(Box(x, y, w, h)):
            raise DecodeError("damaged")
        return Image.new("RGB", (w, h), (10, 20, 30)), (0.0, 0.0)

    def tile_size(self, level: int) -> tuple[int, int]:
        return 240, 240

    def close(self) -> None:
        pass


def test_a_large_level_is_never_held_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resample, "BLOCK", 512)
    source = Recorder()
    slide = Slide(Path("big.tiff"), source, "id", 0.5, "user")
    image, _ = slide.overview(100)
    assert max(image.size) == 100
    assert source.largest <= 600 * 600
    assert np.asarray(image).reshape(-1, 3).std(axis=0).max() == 0


def test_damage_is_cornered_and_not_spread() -> None:
    damaged = Box(3000, 3120, 10, 10)
    source = Recorder(damaged)
    slide = Slide(Path("big.tiff"), source, "id", 0.5, "user")
    with pytest.raises(RegionUnreadable):
        slide.read(Box(2900, 3000, 240, 240), 0.5)
    seen = slide.survey(mpp=16.0)
    (found,) = seen.unreadable
    assert found.intersect(damaged) == damaged, "all of the damage is known to be unknown"
    assert found.area < 300 * 300, "nor more than the tile it lies in"
    assert source.reads < 300
    known = np.asarray(seen.image)[~seen.unknown]
    assert (known == (10, 20, 30)).all(), "what is unknown does not bleed into what is known"
