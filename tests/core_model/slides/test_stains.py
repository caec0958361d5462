"""Stains that look like ink, glass that looks like tissue, and slides without light behind them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from core_model.errors import SlideError
from core_model.slides.slide import open_slide
from core_model.slides.tissue import find_tissue, tissue_mask

STAINS = {  # density of what lies between the nuclei, and of the nuclei, in red, green and blue
    "H&E": ((0.10, 0.36, 0.16), (0.42, 0.52, 0.22)),
    "Alcian blue, nuclear fast red": ((0.36, 0.16, 0.08), (0.14, 0.42, 0.28)),
    "Alcian blue": ((0.36, 0.16, 0.08), (0.40, 0.18, 0.10)),
    "Luxol fast blue, cresyl violet": ((0.36, 0.20, 0.09), (0.30, 0.42, 0.26)),
    "Luxol fast blue": ((0.36, 0.20, 0.09), (0.45, 0.26, 0.12)),
    "light green": ((0.33, 0.09, 0.18), (0.36, 0.42, 0.26)),
    "silver": ((0.18, 0.18, 0.18), (0.40, 0.40, 0.40)),
}
AREA = (slice(40, 180), slice(50, 210))
"""Where the tissue lies: rows, columns."""


def section(stain: str, glass: tuple[int, int, int] = (243, 242, 244), seed: int = 0) -> np.ndarray:
    """An overview at 8 µm/px: glass, and a section with nuclei, fibres and small lumina."""
    rng = np.random.default_rng(seed)
    ground, nuclei = (np.array(d) for d in STAINS[stain])
    shape = (220, 260)
    fine, coarse = (ndimage.gaussian_filter(rng.normal(size=shape), s) for s in (1.2, 6))
    fine, coarse = fine / fine.std(), coarse / coarse.std()
    amount = np.clip(0.6 + 0.2 * fine + 0.1 * coarse, 0.05, 1.5)  # of stain
    share = np.clip(0.3 + 0.3 * coarse + 0.1 * fine, 0, 1)  # of nuclei
    density = amount[..., None] * (ground + share[..., None] * (nuclei - ground))
    outside = np.ones(shape, dtype=bool)
    outside[AREA] = False
    density[outside] = 0
    rgb = np.array(glass) * 10**-density + rng.normal(scale=1.0, size=(*shape, 3))
    return rgb.clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("stain", STAINS)
def test_tissue_of_any_stain_is_tissue(stain: str) -> None:
    mask = tissue_mask(section(stain))
    assert mask[AREA].mean() > 0.9
    mask[38:182, 48:212] = False
    assert not mask.any()


INKS = {"green": (40, 90, 90), "teal": (40, 180, 140), "blue": (40, 110, 200), "black": (35, 34, 38)}


@pytest.mark.parametrize("ink", INKS)
@pytest.mark.parametrize("stain", ["H&E", "Luxol fast blue", "silver"])
def test_ink_beside_and_over_tissue_is_still_no_tissue(ink: str, stain: str) -> None:
    rgb = section(stain)
    rng = np.random.default_rng(1)
    for rows, columns in ((slice(4, 24), slice(20, 240)), (slice(100, 118), slice(20, 240))):
        rgb[rows, columns] = np.array(INKS[ink]) + rng.integers(-3, 4, rgb[rows, columns].shape)
    mask = tissue_mask(rgb)
    assert mask[4:24].mean() < 0.02
    assert mask[102:116, 52:208].mean() < 0.02 or stain != "H&E"
    assert mask[50:95, 60:200].mean() > 0.9


@pytest.mark.parametrize(
    "glass",
    [(245, 235, 190), (240, 226, 200), (200, 180, 190), (185, 168, 176), (190, 195, 200), (250, 240, 180)],
)
@pytest.mark.parametrize("padded", [False, True])
def test_tinted_and_dim_glass_is_not_tissue(glass: tuple[int, int, int], padded: bool) -> None:
    """Also where the file is pure white around what was scanned."""
    rgb = section("H&E", glass)
    if padded:
        rgb = np.pad(rgb, ((0, 80), (0, 60), (0, 0)), constant_values=255)
    mask = tissue_mask(rgb)
    assert mask[AREA].mean() > 0.9
    mask[38:182, 48:212] = False
    assert mask.mean() < 0.01


def test_dirt_and_shadow_on_a_stained_slide_are_not_tissue() -> None:
    rgb = section("H&E")
    rng = np.random.default_rng(2)
    rgb[190:205, 20:60] = (rng.normal(150, 25, (15, 40, 1)) + np.zeros(3)).clip(0, 255)  # grey dirt
    rgb[:, 2:4] = 120  # the edge of a cover slip
    mask = tissue_mask(rgb)
    assert not mask[184:].any()
    assert not mask[:, :6].any()


def test_a_dark_ground_is_refused_and_not_read_as_tissue(
    write_slide: Callable[..., Path],
) -> None:
    rng = np.random.default_rng(0)
    rgb = np.zeros((800, 900, 3), dtype=np.uint8)
    rgb[200:500, 300:700, 2] = rng.integers(20, 200, (300, 400))  # DAPI
    with open_slide(write_slide(rgb)) as slide, pytest.raises(SlideError, match="dark, as in fluorescence"):
        find_tissue(slide)


def test_a_black_border_does_not_make_a_slide_dark(
    write_slide: Callable[..., Path], he_image: Callable[..., np.ndarray]
) -> None:
    rgb = np.zeros((900, 900, 3), dtype=np.uint8)
    rgb[:500, :500] = he_image(500, 500, (50, 50, 300, 300))
    with open_slide(write_slide(rgb)) as slide:
        assert 0.05 < find_tissue(slide).mask.mean() < 0.2


@pytest.mark.parametrize("stain", STAINS)
def test_a_large_slide_is_looked_at_closely_where_its_stain_may_be_rare(
    stain: str, write_slide: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core_model.slides.tissue.MOST_PX", 200 * 200)
    with open_slide(write_slide(section(stain), mpp=8.0)) as slide:
        tissue = find_tissue(slide)
    assert tissue.mpp == (16.0 if stain == "H&E" else 8.0)
    assert tissue.grid_shares(1, 1)[AREA].mean() > 0.9
    assert tissue.area_mm2 < 1.05 * 140 * 160 * 0.008**2


@pytest.mark.parametrize("ink", INKS)
def test_ink_on_the_coarser_raster_of_a_large_slide_is_no_tissue(
    ink: str, write_slide: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core_model.slides.tissue.MOST_PX", 200 * 200)
    rgb = section("H&E")
    rgb[4:24, 20:100] = INKS[ink]
    with open_slide(write_slide(rgb, mpp=8.0)) as slide:
        tissue = find_tissue(slide)
    assert tissue.mpp == 16.0
    assert not tissue.mask[:13].any()
    assert tissue.mask[22:88, 28:102].mean() > 0.9
