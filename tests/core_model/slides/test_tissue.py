"""Tissue found and ink, borders and glass left out: on painted slides and on real ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from core_model.errors import NoTissue, SlideError
from core_model.features.grid import tile_grid
from core_model.slides.box import Box
from core_model.slides.slide import open_slide
from core_model.slides.tissue import TissueMask, find_tissue, tissue_mask

WriteSlide = Callable[..., Path]

INKS = {
    "green": (40, 90, 90),
    "teal": (40, 180, 140),
    "blue": (40, 110, 200),
    "red": (200, 18, 18),
    "black": (35, 34, 38),
    "grey": (150, 150, 152),
}


def painted(colour: tuple[int, int, int], noise: int = 3) -> np.ndarray:
    """Glass of 200 x 200 px with a patch of one colour at rows 50-150, columns 60-140."""
    rgb = np.full((200, 200, 3), (243, 242, 244), dtype=np.int16)
    rgb[50:150, 60:140] = colour
    rgb += np.random.default_rng(0).integers(-noise, noise + 1, rgb.shape, dtype=np.int16)
    return rgb.clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    "colour",
    [(215, 120, 170), (90, 60, 140), (238, 218, 234), (180, 110, 90), (160, 60, 70), (150, 160, 195)],
    ids=["eosin", "haematoxylin", "pale", "brown stain", "blood", "pale haematoxylin"],
)
def test_stained_and_pale_tissue_is_found(colour: tuple[int, int, int]) -> None:
    mask = tissue_mask(painted(colour))
    assert mask[52:148, 62:138].mean() > 0.98
    mask[48:152, 58:142] = False
    assert not mask.any(), "glass is not tissue"


@pytest.mark.parametrize("ink", INKS)
def test_ink_on_glass_is_not_tissue(ink: str) -> None:
    assert tissue_mask(painted(INKS[ink])).mean() < 0.01


@pytest.mark.parametrize("ink", ["green", "teal", "blue", "red", "black"])
def test_ink_over_tissue_is_cut_out_and_the_rest_stays(ink: str) -> None:
    rgb = painted((215, 120, 170))
    rgb[90:110, 60:140] = INKS[ink]
    mask = tissue_mask(rgb)
    assert not mask[90:110, 62:138].any()
    assert mask[55:80, 65:135].mean() > 0.98
    assert mask[120:145, 65:135].mean() > 0.98


def test_black_borders_are_not_tissue() -> None:
    rgb = painted((215, 120, 170))
    rgb[:20], rgb[:, :20] = 0, 4
    mask = tissue_mask(rgb)
    assert not mask[:20].any()
    assert not mask[:, :20].any()
    assert mask[55:145, 65:135].all()


@pytest.mark.parametrize("glass", [(255, 255, 255), (243, 242, 244), (235, 228, 215), (225, 226, 232)])
def test_glass_of_any_tint_is_not_tissue(glass: tuple[int, int, int]) -> None:
    rgb = np.full((300, 300, 3), glass, dtype=np.int16)
    rgb += np.random.default_rng(0).integers(-3, 4, rgb.shape, dtype=np.int16)
    assert not tissue_mask(rgb.clip(0, 255).astype(np.uint8)).any()


def test_a_view_full_of_tissue_is_tissue() -> None:
    rgb = np.full((100, 100, 3), (215, 120, 170), dtype=np.uint8)
    assert tissue_mask(rgb).all()


def test_strips_leave_no_seams(monkeypatch: pytest.MonkeyPatch) -> None:
    rgb = np.random.default_rng(0).integers(120, 250, (300, 120, 3), dtype=np.uint8)
    at_once = tissue_mask(rgb)
    monkeypatch.setattr("core_model.slides.stains.STRIP_PX", 37 * 120)
    monkeypatch.setattr("core_model.slides.stains.ROUGH_STRIP_PX", 37 * 120)
    assert np.array_equal(tissue_mask(rgb), at_once)


def region(mask: np.ndarray, x0: float, y0: float, x1: float, y1: float) -> float:
    """Mean of a mask inside fractional bounds."""
    h, w = mask.shape
    return float(mask[int(y0 * h) : int(y1 * h), int(x0 * w) : int(x1 * w)].mean())


def test_pen_on_real_slides(shared: Path) -> None:
    folder = shared / "data" / "artefacts"

    def mask(name: str, mpp: float) -> np.ndarray:
        with open_slide(folder / name, mpp) as slide:
            return tissue_mask(np.asarray(slide.survey(mpp=8).image))

    green = mask("tcga-green-pen.png", 2)
    assert region(green, 0.42, 0.05, 0.52, 0.45) < 0.05
    assert region(green, 0.26, 0.75, 0.36, 1.0) < 0.15
    assert region(green, 0.7, 0, 1, 1) > 0.95
    red = mask("tcga-red-pen.png", 2)
    assert region(red, 0.1, 0.4, 0.25, 0.75) < 0.02
    assert region(red, 0.6, 0.2, 1, 0.6) > 0.95
    blue = mask("wsi-blue-pen.png", 8)
    assert region(blue, 0.86, 0.42, 1, 1) < 0.01
    assert region(blue, 0.4, 0.55, 0.55, 0.75) > 0.95


@pytest.mark.parametrize(
    ("name", "mpp", "least", "most"),
    [
        ("CMU-1-Small-Region.svs", None, 0.34, 0.45),
        ("TCGA-CR-7395-01A-01-TS1.svs", 0.5, 0.58, 0.70),
        ("HER2ST-C2.tiff", None, 0.14, 0.22),
        ("camelyon-overview-jpeg.dcm", 20, 0.15, 0.30),
    ],
)
def test_real_slides_have_the_tissue_one_sees(
    shared: Path, name: str, mpp: float | None, least: float, most: float
) -> None:
    with open_slide(shared / "data" / "slides" / name, mpp) as slide:
        assert least < find_tissue(slide).mask.mean() < most


def test_immunohistochemistry_and_the_dust_around_it(shared: Path) -> None:
    """Grey-blue tissue with little brown: one piece, and none of the spots on the glass."""
    with open_slide(shared / "data" / "slides" / "kidney-ihc-plain.tif", 8) as slide:
        tissue = find_tissue(slide)
    (box,) = tissue.boxes()
    assert np.abs(np.subtract(box, (280, 503, 120, 65))).max() <= 12
    assert 0.55 < tissue.share(box) < 0.65


def test_pale_core_of_a_real_slide_is_not_lost(shared: Path) -> None:
    image = Image.open(shared / "data" / "artefacts" / "wsi-blue-pen.png").convert("RGB")
    mask = tissue_mask(np.asarray(image))
    assert region(mask, 0.54, 0.05, 0.62, 0.3) > 0.9


# --- on a slide ----------------------------------------------------------------------------------------


def test_shares_are_exact_between_mask_pixels() -> None:
    mask = np.zeros((10, 20), dtype=bool)
    mask[2:6, 4:12] = True
    tissue = TissueMask(mask, np.zeros_like(mask), 8.0, Box(0, 0, 320, 160), 0.5)
    assert tissue.downsample == 16
    assert tissue.share(Box(64, 32, 128, 64)) == 1.0
    assert tissue.share(Box(0, 0, 320, 160)) == pytest.approx(32 / 200)
    assert tissue.share(Box(56, 32, 16, 16)) == pytest.approx(0.5)
    assert tissue.share(Box(60, 28, 8, 8)) == pytest.approx(0.25)
    assert tissue.share(Box(300, 150, 40, 40)) == 0
    assert tissue.area_mm2 == pytest.approx(32 * 0.008**2)
    assert tissue.boxes() == [Box(64, 32, 128, 64)]


def test_covered_counts_tissue_once() -> None:
    mask = np.zeros((10, 10), dtype=bool)
    mask[:, :5] = True
    tissue = TissueMask(mask, np.zeros_like(mask), 8.0, Box(0, 0, 160, 160), 0.5)
    left, top = Box(0, 0, 80, 160), Box(0, 0, 160, 80)
    assert tissue.covered([]) == 0
    assert tissue.covered([top]) == 0.5
    assert tissue.covered([top, Box(0, 0, 160, 40), top]) == 0.5
    assert tissue.covered([top, left]) == 1.0
    assert tissue.covered([Box(80, 0, 80, 160)]) == 0


def test_a_blank_slide_is_an_error(write_slide: WriteSlide) -> None:
    white = np.full((400, 500, 3), 255, dtype=np.uint8)
    with open_slide(write_slide(white)) as slide, pytest.raises(NoTissue, match="no tissue"):
        find_tissue(slide)


def test_pieces_come_largest_first(write_slide: WriteSlide, he_image: Callable[..., np.ndarray]) -> None:
    rgb = he_image(1600, 1600, (160, 160, 320, 320))
    rgb[800:1440, 640:1440] = he_image(640, 800, (0, 0, 800, 640), seed=1)
    with open_slide(write_slide(rgb)) as slide:
        large, small = find_tissue(slide).boxes()
    assert np.abs(np.subtract(large, (640, 800, 800, 640))).max() <= 32
    assert np.abs(np.subtract(small, (160, 160, 320, 320))).max() <= 32


def test_what_cannot_be_read_is_unknown_and_not_tissue(shared: Path) -> None:
    malformed = shared / "data" / "malformed"
    with open_slide(malformed / "cmu-1-small-region_corrupt_tiles.svs") as slide:
        tissue = find_tissue(slide)
        assert tissue.unknown.any()
        assert not (tissue.mask & tissue.unknown).any()
        grid = tile_grid(slide, tissue, 112)
        assert grid.unsure.any()
        assert not grid.unsure.all()
    with open_slide(malformed / "unreadable.svs") as slide, pytest.raises(SlideError, match="decodes"):
        find_tissue(slide)


# --- tiles ---------------------------------------------------------------------------------------------


def test_the_grid_covers_tissue_in_reading_order(
    write_slide: WriteSlide, he_image: Callable[..., np.ndarray]
) -> None:
    with open_slide(write_slide(he_image(1000, 1100, (224, 224, 448, 448)), mpp=0.5)) as slide:
        grid = tile_grid(slide, find_tissue(slide), tile_um=112)
    assert grid.size == 224
    assert grid.coords.dtype == np.int64
    assert grid.coords.tolist() == [[224, 224], [448, 224], [224, 448], [448, 448]]
    assert grid.box(1) == Box(448, 224, 224, 224)
    assert not grid.unsure.any()


@pytest.mark.parametrize(
    ("mpp", "size"), [(0.25, 448), (0.5, 224), (0.2527, 443), (0.2531, 443), (1.0, 112), (4.0, 28)]
)
def test_tiles_keep_their_physical_size(
    write_slide: WriteSlide, he_image: Callable[..., np.ndarray], mpp: float, size: int
) -> None:
    with open_slide(write_slide(he_image(900, 900, (0, 0, 900, 900)), mpp=mpp)) as slide:
        grid = tile_grid(slide, find_tissue(slide), tile_um=112)
        assert grid.size == size
        assert len(grid) == (-(-900 // size)) ** 2, "the last column and row are not lost"
        assert len(grid.whole()) == (900 // size) ** 2
        for i in range(len(grid)):
            slide.check(grid.box(i))


def test_a_quarter_of_tissue_makes_a_tile(
    write_slide: WriteSlide, he_image: Callable[..., np.ndarray]
) -> None:
    with open_slide(write_slide(he_image(640, 640, (0, 0, 416, 320)), mpp=0.5)) as slide:
        tissue = find_tissue(slide)
        assert tile_grid(slide, tissue, 160, 0.25).coords.tolist() == [[0, 0], [320, 0]]
        assert tile_grid(slide, tissue, 160, 0.5).coords.tolist() == [[0, 0]]


def test_a_slide_smaller_than_a_tile_is_one_tile(write_slide: WriteSlide) -> None:
    rgb = np.full((16, 16, 3), (215, 120, 170), dtype=np.uint8)
    with open_slide(write_slide(rgb, tile=16)) as slide, pytest.raises(NoTissue):
        tile_grid(slide, find_tissue(slide), 112)
    rgb = np.full((160, 180, 3), (215, 120, 170), dtype=np.uint8)
    with open_slide(write_slide(rgb)) as slide:
        grid = tile_grid(slide, find_tissue(slide), 112)
        assert [grid.box(i) for i in range(len(grid))] == [slide.box]


@given(w=st.integers(1, 90), h=st.integers(1, 90), size=st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_tiles_cover_every_pixel_of_the_slide_once(w: int, h: int, size: int) -> None:
    slide = Box(0, 0, w, h)
    mask = np.ones((3, 3), dtype=bool)
    tissue = TissueMask(mask, ~mask, 8.0, slide, 8.0)
    grid = tile_grid(
        SimpleNamespace(width=w, height=h, mpp=1.0, mpp_x=1.0, mpp_y=1.0, square=True, name="s"),
        tissue,
        float(size),
    )  # type: ignore[arg-type]
    seen = np.zeros((h, w), dtype=int)
    for i in range(len(grid)):
        box = grid.box(i)
        seen[box.y : box.bottom, box.x : box.right] += 1
    assert (seen == 1).all()
    assert len(grid.whole()) == (w // size) * (h // size)


# ---- edges ----


@pytest.mark.parametrize("colour", [(60, 30, 110), (90, 60, 140), (150, 40, 90)])
def test_a_dark_edge_does_not_spill_onto_the_glass(colour: tuple[int, int, int]) -> None:
    """The smoothing before colours are judged spreads dark tissue over its edge; the mask must not."""
    rgb = np.full((200, 200, 3), 243, dtype=np.uint8)
    rgb[50:150, 60:140] = colour
    mask = tissue_mask(rgb)
    assert mask[50:150, 60:140].all()
    mask[50:150, 60:140] = False
    assert not mask.any()


@given(data=st.data(), w=st.integers(1, 10), h=st.integers(1, 10), scale=st.floats(1, 40))
@settings(max_examples=60, deadline=None)
def test_boxes_of_pieces_cover_all_tissue(data: st.DataObject, w: int, h: int, scale: float) -> None:
    cells = data.draw(st.lists(st.booleans(), min_size=w * h, max_size=w * h))
    mask = np.array(cells).reshape(h, w)
    slide_box = Box(0, 0, max(w, round(w * scale)), max(h, round(h * scale * 0.97)))
    tissue = TissueMask(mask, np.zeros_like(mask), 8.0, slide_box, 8.0 / scale)
    boxes, sx, sy = tissue.boxes(), slide_box.w / w, slide_box.h / h
    for row, column in np.argwhere(mask):
        x0, y0, x1, y1 = column * sx, row * sy, (column + 1) * sx, (row + 1) * sy
        assert any(
            box.x <= x0 + 1e-6 and box.y <= y0 + 1e-6 and box.right >= x1 - 1e-6 and box.bottom >= y1 - 1e-6
            for box in boxes
        )
    assert all(box.intersect(slide_box) == box for box in boxes)


def test_dust_is_no_tissue_and_a_small_piece_is() -> None:
    rgb = np.full((120, 120, 3), 243, dtype=np.uint8)
    rgb[20:22, 20:24] = (150, 60, 140)  # 8 pixels
    rgb[80:84, 80:84] = (150, 60, 140)  # 16 pixels
    mask = tissue_mask(rgb)
    assert not mask[15:30, 15:30].any()
    assert mask[80:84, 80:84].all()


def test_small_holes_belong_to_the_tissue_and_large_ones_do_not() -> None:
    rgb = np.full((200, 200, 3), 243, dtype=np.uint8)
    rgb[40:160, 40:160] = (215, 120, 170)
    rgb[60:68, 60:68] = 243  # 64 pixels: fat
    rgb[100:116, 100:116] = 243  # 256 pixels: a lumen that is glass
    mask = tissue_mask(rgb)
    assert mask[60:68, 60:68].all()
    assert not mask[102:114, 102:114].any()


def quarter_mask(*tissue: tuple[int, int]) -> TissueMask:
    """A slide of 64 x 64 px at 0.5 µm/px on a raster of 4 x 4: tissue at these rows and columns."""
    mask = np.zeros((4, 4), dtype=bool)
    for place in tissue:
        mask[place] = True
    return TissueMask(mask, np.zeros_like(mask), 8.0, Box(0, 0, 64, 64), 0.5)


def test_exactly_the_least_share_of_tissue_is_enough(write_slide: WriteSlide) -> None:
    with open_slide(write_slide(np.full((64, 64, 3), 200, dtype=np.uint8), mpp=0.5)) as slide:
        grid = tile_grid(slide, quarter_mask((0, 0)), tile_um=16.0, min_tissue=0.25)
        assert grid.coords.tolist() == [[0, 0]]
        with pytest.raises(NoTissue):
            tile_grid(slide, quarter_mask((0, 0)), tile_um=16.0, min_tissue=0.26)


def test_a_look_smaller_than_the_raster_covers_a_pixel_of_it() -> None:
    tissue = quarter_mask((1, 1), (1, 2))
    assert tissue.covered([Box(17, 17, 2, 2)]) == 0.5
    assert tissue.covered([Box(17, 17, 2, 2), Box(40, 20, 1, 1)]) == 1.0
    assert tissue.covered([Box(1, 1, 2, 2)]) == 0.0


# ---- fat, sections and folds ----


def fat(side: int, cell: int = 9, wall: int = 1) -> np.ndarray:
    """A field of fat cells, (side, side, 3): empty, between walls that are torn here and there."""
    rows, columns = np.indices((side, side))
    is_wall = (rows % cell < wall) | (columns % cell < wall)
    is_wall &= ~((rows % cell == 4) | (columns % cell == 4)) | ((rows + columns) % 2 == 0)
    rgb = np.full((side, side, 3), 243, dtype=np.uint8)
    rgb[is_wall] = (225, 160, 195)
    return rgb


def test_fat_between_torn_walls_is_tissue() -> None:
    """Its cells are connected with each other and with the glass outside: it is no hole."""
    rgb = np.full((200, 260, 3), 243, dtype=np.uint8)
    rgb[40:160, 40:130] = (215, 120, 170)
    rgb[60:140, 130:210] = fat(80)
    mask = tissue_mask(rgb)
    assert mask[64:136, 134:200].mean() > 0.9
    mask[38:162, 38:214] = False
    assert not mask.any()


def test_sections_that_lie_close_stay_apart() -> None:
    rgb = np.full((200, 200, 3), 243, dtype=np.uint8)
    rgb[20:95, 40:160] = (215, 120, 170)
    rgb[99:180, 40:160] = (215, 120, 170)  # 32 µm away
    mask = tissue_mask(rgb)
    assert not mask[96:98, 30:170].any()
    assert mask[25:90, 45:155].all()


def test_a_gap_beside_ink_is_not_tissue() -> None:
    rgb = np.full((200, 200, 3), 243, dtype=np.uint8)
    rgb[20:180, 40:97] = rgb[20:180, 103:160] = rgb[20:60, 97:103] = (215, 120, 170)
    assert tissue_mask(rgb)[65:170, 98:102].all()
    rgb[140:180, 98:102] = INKS["green"]
    assert not tissue_mask(rgb)[70:130, 98:102].any()


def test_folds_and_dense_tissue_stay_tissue() -> None:
    rgb = painted((215, 120, 170))
    rgb[50:150, 90:100] = (120, 40, 95)  # twice the stain
    rgb[50:150, 94:97] = (62, 14, 52)  # four times
    assert tissue_mask(rgb)[52:148, 62:138].mean() > 0.98


def test_the_edge_of_an_air_bubble_is_not_tissue() -> None:
    """A grey ring, dark within a pixel or two, beside tissue and over glass."""
    rgb = painted((215, 120, 170), noise=2).astype(float)
    rows, columns = np.indices((200, 200))
    away = np.abs(np.hypot(rows - 100, columns - 170) - 25)
    rgb *= (1 - 0.55 * np.exp(-((away / 1.5) ** 2)))[..., None]
    mask = tissue_mask(rgb.clip(0, 255).astype(np.uint8))
    assert mask[55:145, 65:135].mean() > 0.98
    assert not mask[:, 142:].any()
