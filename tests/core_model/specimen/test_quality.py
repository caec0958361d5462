"""Focus on slides that are sharp, blurred, and blurred in part; folds on drawn bands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from drawn_tissue import PINK, PURPLE, half_blurred, scanned, tissue_like, write
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from core_model.slides.box import Box
from core_model.slides.slide import Slide, open_slide
from core_model.slides.tissue import TissueMask, find_tissue
from core_model.specimen import quality
from core_model.specimen.folds import fold_mask
from core_model.specimen.quality import (
    BLURRED_UM,
    SAMPLES,
    Quality,
    blurred_tissue,
    edge_width,
    find_quality,
)


@settings(max_examples=12, deadline=None)
@given(blur_um=st.floats(1.0, 5.0), seed=st.integers(0, 9), strength=st.floats(0.4, 1.0))
def test_the_width_of_edges_is_the_blur_whatever_the_contrast(
    blur_um: float, seed: int, strength: float
) -> None:
    dice = np.random.default_rng(seed)
    stripes = (np.arange(320) + dice.integers(0, 64)) // 64 % 2 == 0  # 32 µm wide
    rgb = np.where((stripes[:, None] & stripes[None, :])[..., None], PURPLE, PINK)
    rgb = 244 - (244 - rgb) * strength
    image = Image.fromarray(scanned(rgb, blur_um, 0.5, seed)).resize((160, 160), Image.Resampling.BOX)
    width = edge_width(np.asarray(image), 1.0)
    assert width == pytest.approx(np.hypot(blur_um, 0.4), rel=0.2, abs=0.3)


@pytest.mark.parametrize("level", [0.0, 3.0])
def test_a_place_without_edges_is_not_judged(level: float) -> None:
    flat = PINK + np.random.default_rng(0).normal(0, level, (128, 128, 3))
    assert edge_width(flat.clip(0, 255).astype(np.uint8), 1.0) is None


def test_the_blurred_half_of_a_slide_is_found(tmp_path: Path) -> None:
    with open_slide(write(tmp_path / "half.tiff", half_blurred())) as slide:
        found = find_quality(slide, find_tissue(slide))
        assert found.blurred_share == pytest.approx(0.5, abs=0.12)
        assert found.blurred_in(Box(1200, 300, 500, 500)) > 0.9
        assert found.blurred_in(Box(200, 300, 500, 500)) == 0.0
        assert found.are_blurred(np.array([[1300, 300], [300, 300]]), 224, 224).tolist() == [True, False]
        assert find_quality(slide, find_tissue(slide)) is found, "it is measured once"


def test_real_slides_are_sharp_until_they_are_blurred(shared: Path, tmp_path: Path) -> None:
    with open_slide(shared / "data/slides/CMU-1-Small-Region.svs") as slide:
        assert find_quality(slide, find_tissue(slide)).blurred_share == 0.0
        image, mpp = np.asarray(slide.read(slide.box, slide.mpp)), slide.mpp
    blurred = ndimage.gaussian_filter(image, (4 / mpp, 4 / mpp, 0))
    with open_slide(write(tmp_path / "blurred.tiff", blurred, mpp)) as slide:
        assert find_quality(slide, find_tissue(slide)).blurred_share > 0.85


def test_the_softer_slide_is_not_taken_for_blurred(shared: Path) -> None:
    with open_slide(shared / "data/slides/HER2ST-C2.tiff") as slide:
        assert find_quality(slide, find_tissue(slide)).blurred_share == 0.0


class CountedSlide(Slide):
    """A slide of any size that shows the same blurred place everywhere, and counts what is read."""

    def __init__(self, width: int, height: int, mpp: float = 0.5) -> None:
        self.width, self.height, self.mpp, self.box = width, height, mpp, Box(0, 0, width, height)
        self.reads = 0
        self.place = Image.fromarray(scanned(tissue_like(128, 128, 1.0), 4.0, 1.0))

    def effective_mpp(self, mpp: float) -> float:
        return max(mpp, self.mpp)

    def read(self, box: Box, mpp: float) -> Image.Image:
        self.reads += 1
        return self.place


@pytest.mark.parametrize("side", [10_000, 100_000])
def test_the_cost_is_bounded_however_large_the_slide(side: int) -> None:
    slide = CountedSlide(side, side)
    mask = np.ones((side // 100, side // 100), dtype=bool)
    tissue = TissueMask(mask, np.zeros_like(mask), 50.0, slide.box, 0.5)
    assert blurred_tissue(slide, tissue).all()
    assert SAMPLES / 4 < slide.reads <= 3 * SAMPLES


def test_one_blurred_sample_is_not_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    sharp = Image.fromarray(scanned(tissue_like(128, 128, 1.0), 0.3, 1.0))

    class OnceBlurred(CountedSlide):
        """Of three reads, as each cell makes, the first is blurred."""

        def read(self, box: Box, mpp: float) -> Image.Image:
            self.reads += 1
            return self.place if self.reads % 3 == 1 else sharp

    monkeypatch.setattr(quality, "THREADS", 1)
    slide = OnceBlurred(4096, 4096)
    mask = np.ones((64, 64), dtype=bool)
    assert not blurred_tissue(slide, TissueMask(mask, ~mask, 32.0, slide.box, 0.5)).any()
    assert slide.reads % 3 == 0


@pytest.mark.parametrize("mpp", [2.0, 29.0])
def test_a_slide_too_coarse_for_it_is_not_judged(mpp: float) -> None:
    slide = CountedSlide(4096, 4096, mpp)
    mask = np.ones((64, 64), dtype=bool)
    assert not blurred_tissue(slide, TissueMask(mask, ~mask, mpp * 64, slide.box, mpp)).any()
    assert slide.reads == 0


def test_glass_is_never_blurred_tissue() -> None:
    mask = np.zeros((8, 8), dtype=bool)
    tissue = TissueMask(mask, mask, 8.0, Box(0, 0, 64, 64), 1.0)
    nothing = Quality(tissue, tissue)
    assert nothing.blurred_share == nothing.blurred_in(Box(0, 0, 64, 64)) == 0.0
    assert not nothing.are_blurred(np.array([[0, 0]]), 8, 8).any()


def band(dense: np.ndarray, around: np.ndarray, wide_px: float = 5.0) -> np.ndarray:
    """(200, 200) at 8 µm/px: a slanting band of one colour density (3,) in tissue of another."""
    rows, columns = np.mgrid[0:200, 0:200]
    inside = np.abs(rows - 100 - 0.2 * (columns - 100)) <= wide_px / 2
    density = np.where(inside[..., None], dense, around)
    return (245 * 10**-density).astype(np.uint8)


@pytest.mark.parametrize(
    ("times", "hue", "wide_px", "found"),
    [
        pytest.param(1.9, [1, 1, 1], 5, True, id="a fold"),
        pytest.param(1.15, [1, 1, 1], 5, False, id="hardly denser"),
        pytest.param(1.9, [1.6, 1, 1.6], 5, False, id="another tissue"),
        pytest.param(1.9, [1, 1, 1], 60, False, id="a dense field"),
    ],
)
def test_a_narrow_band_of_twice_the_density_is_a_fold(
    times: float, hue: list[float], wide_px: float, found: bool
) -> None:
    around = np.array([0.12, 0.3, 0.16])
    rgb = band(around * hue * times, around, wide_px)
    mask = fold_mask(rgb, np.ones(rgb.shape[:2], dtype=bool), 8.0)
    assert mask.any() == found
    if found:
        assert mask.mean() == pytest.approx(wide_px / 200, rel=0.6)


def test_the_limit_lies_well_above_sharp_edges() -> None:
    sharp = edge_width(
        np.asarray(Image.fromarray(scanned(tissue_like(256, 256, 0.5), 0.4, 0.5)).reduce(2)), 1.0
    )
    assert sharp is not None
    assert sharp < BLURRED_UM / 2
