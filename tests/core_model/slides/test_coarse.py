"""Slides that store no small picture of themselves are read whole once."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from slide_files import damage, stained, write_svs

from core_model.features.grid import tile_grid
from core_model.slides import coarse
from core_model.slides.coarse import coarse_factor
from core_model.slides.slide import Slide, open_slide
from core_model.slides.tissue import find_tissue

WriteSlide = Callable[..., Path]


@pytest.fixture
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slides of a megapixel count as large."""
    monkeypatch.setattr("core_model.slides.slide.LARGE", 500_000)
    monkeypatch.setattr(coarse, "LEAST_SIDE", 100)


def reads_of_level_0(slide: Slide) -> list[tuple[int, ...]]:
    """What is read of the file from now on."""
    source = getattr(slide._source, "_source", slide._source)
    read, seen = source.read_level, []

    def spy(level: int, *box: int) -> object:
        if level == 0:
            seen.append(box)
        return read(level, *box)

    source.read_level = spy  # type: ignore[method-assign]
    return seen


@pytest.mark.usefixtures("small_limits")
def test_a_slide_without_a_pyramid_is_read_whole_once(
    write_slide: WriteSlide, he_image: Callable[..., np.ndarray], caplog: pytest.LogCaptureFixture
) -> None:
    rgb = he_image(2500, 3000, (900, 700, 1200, 1100))
    told: list[tuple[int, int]] = []
    with open_slide(write_slide(rgb, mpp=0.5)) as slide, caplog.at_level(logging.WARNING):
        slide.tell(lambda done, total: told.append((done, total)))
        seen = reads_of_level_0(slide)
        for _ in range(7):
            find_tissue(slide)
            slide.overview(100)
            slide.overview(180)
        assert sum(w * h for _, _, w, h in seen) == (2500 // 16 * 16) * (3000 // 16 * 16)
        assert told == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]
        assert caplog.text.count("it is read whole, once") == 1
        assert len(slide.level_dimensions) == 1, "what the file holds"
        box = find_tissue(slide).boxes()
        assert np.abs(np.subtract(box[0], (900, 700, 1200, 1100))).max() <= 32


@pytest.mark.usefixtures("small_limits")
def test_what_it_shows_is_what_reading_anew_shows(
    write_slide: WriteSlide, he_image: Callable[..., np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_slide(he_image(1504, 2000, (300, 200, 900, 800)), mpp=0.5)
    with open_slide(path) as slide:
        quick, mask = np.asarray(slide.survey(mpp=8).image, int), find_tissue(slide)
        near = np.asarray(slide.survey(slide.box._replace(w=640, h=320), 8).image, int)
    monkeypatch.setattr("core_model.slides.slide.LARGE", 1 << 40)
    with open_slide(path) as slide:
        wanted, reference = np.asarray(slide.survey(mpp=8).image, int), find_tissue(slide)
        assert np.abs(quick - wanted).max() <= 2
        assert np.abs(near - np.asarray(slide.survey(slide.box._replace(w=640, h=320), 8).image)).max() <= 2
        assert np.array_equal(mask.mask, reference.mask)


@pytest.mark.usefixtures("small_limits")
def test_damage_is_unknown_there_too_and_loses_no_tile(tmp_path: Path) -> None:
    path = damage(write_svs(tmp_path / "a.svs", stained(1200, 1200), mpp=0.5, levels=1), [(1, 1)])
    with open_slide(path) as slide:
        assert slide._coarse is not None
        tissue = find_tissue(slide)
        assert tissue.unknown.any()
        assert not tissue.unknown.all()
        assert tissue.unknown_shares(np.array([[240, 240]]), 240, 240) == [1.0]
        grid = tile_grid(slide, tissue, 112)
        assert len(grid) == 36
        assert grid.unsure.any()


def test_tissue_is_found_once_for_an_open_slide(
    write_slide: WriteSlide, he_image: Callable[..., np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    from core_model.slides import tissue

    calls, classify = [], tissue.classify

    def counted(rgb: np.ndarray, glass: np.ndarray) -> tissue.Colours:
        calls.append(rgb.shape)
        return classify(rgb, glass)

    monkeypatch.setattr(tissue, "classify", counted)
    with open_slide(write_slide(he_image(500, 600, (0, 0, 400, 400)), levels=2)) as slide:
        masks = [find_tissue(slide) for _ in range(8)]
        assert all(mask is masks[0] for mask in masks)
        assert len(calls) == 1
        assert find_tissue(slide, 4.0).mpp == 4.0


@given(w=st.integers(1, 400_000), h=st.integers(1, 400_000), mpp=st.floats(0.05, 20))
def test_the_new_level_is_small_and_fine_enough(w: int, h: int, mpp: float) -> None:
    factor = coarse_factor((w, h), mpp)
    if factor > 1:
        assert factor * mpp <= 8.0
        assert max(w, h) // factor >= coarse.LEAST_SIDE
        assert min(w, h) // factor >= 1


@pytest.mark.parametrize(("width", "levels"), [(300, 7), (90, 7), (40, 6)])
def test_a_narrow_slide_is_not_bent(write_slide: WriteSlide, width: int, levels: int) -> None:
    """Its coarse levels are a few px wide, so that their width says little of how much coarser they are."""
    rgb = np.full((6000, width, 3), 243, dtype=np.uint8)
    rgb[5400:] = (200, 110, 165)
    with open_slide(write_slide(rgb, mpp=0.2, levels=levels)) as slide:
        assert slide.level_downsamples == tuple(2.0**i for i in range(levels))
        tissue = find_tissue(slide)
        assert tissue.mask.mean() == pytest.approx(0.1, abs=0.01)
        (box,) = tissue.boxes()
        assert abs(box.y - 5400) <= 40
