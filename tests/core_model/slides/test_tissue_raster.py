"""The raster on which tissue is found: one low level, whole pixels of it, bounded, and true to its mpp."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from core_model.errors import BoxError
from core_model.features.grid import tile_grid
from core_model.slides import stains
from core_model.slides.box import Box
from core_model.slides.resample import block_window
from core_model.slides.slide import open_slide
from core_model.slides.tissue import TissueMask, find_tissue

WriteSlide = Callable[..., Path]
PINK = (215, 120, 170)


@given(
    w=st.integers(1, 300_000),
    h=st.integers(1, 300_000),
    steps=st.lists(st.sampled_from([2.0, 4.0, 3.0, 2.5]), max_size=8),
    wanted=st.floats(1, 64),
    most=st.sampled_from([1 << 16, 1 << 22]),
)
def test_blocks_cover_the_slide_and_stay_within_bounds(
    w: int, h: int, steps: list[float], wanted: float, most: int
) -> None:
    downsamples = [1.0]
    for step in steps:
        downsamples.append(downsamples[-1] * step)
    window, span = block_window(downsamples, (w, h), wanted, most)
    assert window.out_w * window.out_h <= most
    assert window.out_w * span >= w - 1e-3
    assert (window.out_w - 1) * span < w
    assert window.out_h * span >= h - 1e-3
    assert (window.out_h - 1) * span < h
    block = (window.x1 - window.x0) / window.out_w
    assert block == round(block) == (window.y1 - window.y0) / window.out_h
    assert span == downsamples[window.level] * block
    fine = math.ceil(w / wanted) * math.ceil(h / wanted) < most / 4
    assert not fine or 0.66 < span / wanted < 1.5


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(("height", "width"), [(480, 640), (477, 631), (64, 1000)])
def test_blocks_are_means_of_a_levels_pixels(write_slide: WriteSlide, height: int, width: int) -> None:
    """Exactly the pixels of the level, or means over blocks of them: nothing is shifted or resampled."""
    rgb = noise(height, width)
    with open_slide(write_slide(rgb, mpp=0.5, levels=3)) as slide:
        level = np.asarray(slide._source.read_level(2, 0, 0, width // 4, height // 4)[0])
        plain, fourfold = slide.blocks(2.2, 1 << 22), slide.blocks(8.1, 1 << 22)
    assert (plain.mpp, fourfold.mpp) == (2.0, 8.0)
    seen = np.asarray(plain.image)
    assert np.array_equal(seen[: height // 4, : width // 4], level)
    blocks = np.asarray(fourfold.image, int)
    rows, columns = height // 16, width // 16
    whole = level[: rows * 4, : columns * 4].reshape(rows, 4, columns, 4, 3).mean(axis=(1, 3))
    assert np.abs(blocks[:rows, :columns] - whole).max() <= 0.51


@pytest.mark.parametrize("mpp", [0.0, -1.0, math.nan, math.inf])
def test_what_is_no_resolution_is_refused(write_slide: WriteSlide, mpp: float) -> None:
    with open_slide(write_slide(noise(64, 64))) as slide, pytest.raises(BoxError, match="no resolution"):
        find_tissue(slide, mpp)


def test_one_level_is_read_once(write_slide: WriteSlide, he_image: Callable[..., np.ndarray]) -> None:
    rgb = he_image(1000, 1500, (100, 100, 800, 800))
    reads: list[tuple[int, int]] = []
    with open_slide(write_slide(rgb, mpp=0.5, levels=5)) as slide:
        read = slide._source.read_level

        def spy(level: int, x: int, y: int, w: int, h: int) -> Any:
            reads.append((level, w * h))
            return read(level, x, y, w, h)

        slide._source.read_level = spy  # type: ignore[method-assign]
        tissue = find_tissue(slide)
        tile_grid(slide, tissue, 112)
    assert tissue.mpp == 8.0
    assert {level for level, _ in reads} == {4}
    assert sum(px for _, px in reads) == (1000 // 16) * (1500 // 16)


@pytest.mark.parametrize(("most", "mpp"), [(1 << 22, 8.0), (63 * 63, 16.0), (1000, 24.0)])
def test_a_large_slide_has_a_coarser_mask_of_the_same_tissue(
    write_slide: WriteSlide,
    he_image: Callable[..., np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
    most: int,
    mpp: float,
) -> None:
    monkeypatch.setattr("core_model.slides.tissue.MOST_PX", most)
    rgb = he_image(1003, 1013, (160, 224, 480, 512))
    with open_slide(write_slide(rgb, mpp=0.5, levels=3)) as slide:
        tissue = find_tissue(slide)
    assert tissue.mpp == mpp
    assert tissue.mask.size <= most
    truth, edge = 0.24 * 0.256, 2 * (0.24 + 0.256)  # mm², mm
    assert truth - 1e-9 <= tissue.area_mm2 <= truth + edge * mpp / 1000
    (box,) = tissue.boxes()
    assert np.abs(np.subtract(box, (160, 224, 480, 512))).max() <= 2 * mpp / 0.5


@pytest.mark.parametrize(("width", "height", "levels"), [(1000, 777, 1), (1001, 523, 3), (333, 1999, 2)])
def test_the_last_column_and_row_count_as_far_as_the_slide_goes(
    write_slide: WriteSlide, width: int, height: int, levels: int
) -> None:
    rgb = np.full((height, width, 3), PINK, dtype=np.uint8)
    with open_slide(write_slide(rgb, mpp=0.5, levels=levels)) as slide:
        tissue = find_tissue(slide)
        grid = tile_grid(slide, tissue, 112)
    assert tissue.mask.all()
    assert tissue.area_mm2 == pytest.approx(width * height * 0.0005**2)
    assert tissue.boxes() == [Box(0, 0, width, height)]
    assert tissue.share(tissue.slide_box) == pytest.approx(1.0)
    assert tissue.share(Box(width - 8, height - 8, 16, 16)) == pytest.approx(0.25)
    assert len(grid) == -(-width // 224) * -(-height // 224)


@given(
    data=st.data(), scale=st.floats(1, 40), cell=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    overhang=st.floats(0, 0.99),
)  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_cells_of_a_grid_have_the_shares_of_their_boxes(
    data: st.DataObject, scale: float, cell: tuple[int, int], overhang: float
) -> None:
    mask = data.draw(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
    h, w = mask.shape
    box = Box(0, 0, math.ceil((w - overhang) * scale), math.ceil((h - overhang) * scale))
    extent = data.draw(st.sampled_from([None, (max(w * scale, box.w), max(h * scale, box.h))]))
    tissue = TissueMask(mask, ~mask, 8.0, box, 8.0 / scale, extent)
    shares, unknown = tissue.grid_shares(*cell), tissue.unknown_grid_shares(*cell)
    rows, columns = -(-box.h // cell[1]), -(-box.w // cell[0])
    assert shares.shape == unknown.shape == (rows, columns)
    y, x = np.mgrid[0:rows, 0:columns]
    coords = np.stack([x.ravel(), y.ravel()], axis=1) * cell
    assert shares.ravel() == pytest.approx(tissue.shares(coords, *cell), abs=1e-9)
    assert unknown.ravel() == pytest.approx(tissue.unknown_shares(coords, *cell), abs=1e-9)
    on_slide = np.minimum(cell, (box.w, box.h) - coords).prod(axis=1) / math.prod(cell)
    assert shares.ravel() + unknown.ravel() == pytest.approx(on_slide, abs=1e-6), (
        "each px is one or the other"
    )
    mm2 = tissue.area_mm2 / (tissue.slide_mpp / 1000) ** 2
    assert shares.sum() * math.prod(cell) == pytest.approx(mm2, abs=1e-3)


def test_texture_is_looked_at_only_where_a_rare_stain_may_be(
    write_slide: WriteSlide, he_image: Callable[..., np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(mean: np.ndarray) -> np.ndarray:
        raise AssertionError("texture costs more than everything else")

    monkeypatch.setattr(stains, "roughness", never)
    with open_slide(write_slide(he_image(800, 800, (100, 100, 500, 500)), levels=4)) as slide:
        assert find_tissue(slide).mask.any()
