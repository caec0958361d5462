"""Captions, scale bars and numbered boxes tell the truth to the pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from core_model.errors import RunError
from core_model.slides.box import Box
from tools.guides import COUNT, Guides, Unit, marks
from tools.render import (
    STRIP_PX,
    Frame,
    captioned,
    framed,
    numbered_boxes,
    pixels_sha256,
    save_jpeg,
    scale_bar_um,
)


@given(st.floats(0.5, 1e6))
def test_scale_bars_are_round_and_fit(width_um: float) -> None:
    length = scale_bar_um(width_um)
    assert 0.099 * width_um <= length <= 0.2501 * width_um
    digits = f"{length:e}".split("e")[0].rstrip("0").rstrip(".")
    assert digits in {"1", "2", "5"}


@pytest.mark.parametrize(
    ("width", "box_w", "length_um"), [(600, 600, 50), (500, 2000, 200), (1000, 1003, 100)]
)
def test_the_bar_is_as_long_as_it_says(width: int, box_w: int, length_um: int) -> None:
    image = Image.new("RGB", (width, 200), (200, 100, 150))
    strip = np.asarray(captioned(image, Box(0, 0, box_w, 200), 0.5, 1.0))[200:]
    assert strip.shape[0] == STRIP_PX
    dark = (strip[8, 6:] < 60).all(axis=1).argmin()
    assert dark == pytest.approx(length_um * width / (box_w * 0.5), abs=1)


def test_a_caption_leaves_the_region_alone() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (50, 40, 3), dtype=np.uint8)
    framed = np.asarray(captioned(Image.fromarray(pixels), Box(0, 0, 40, 50), 0.5, 0.5))
    assert np.array_equal(framed[:50, :40], pixels)
    assert (framed[:50, 40:] == 255).all()


def test_numbered_boxes_lie_where_they_say() -> None:
    image = Image.new("RGB", (500, 400), (255, 255, 255))
    drawn = np.asarray(numbered_boxes(image, [(7, Box(2000, 1000, 1000, 800))], Box(0, 0, 5000, 4000)))
    changed = np.argwhere((drawn != 255).any(axis=2))
    assert changed.min(axis=0).tolist() == [100, 200]
    assert changed.max(axis=0).tolist() == [179, 299]
    assert (drawn[150, 250] == 255).all(), "an outline, not a patch"
    assert (np.asarray(image) == 255).all(), "the original is untouched"


def test_jpegs_are_written_whole_and_without_metadata(tmp_path: Path) -> None:
    image = Image.new("RGB", (30, 20), (200, 100, 150))
    image.info["comment"] = b"patient"
    save_jpeg(image, tmp_path / "a" / "b.jpg")
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["b.jpg"]
    assert b"patient" not in (tmp_path / "a" / "b.jpg").read_bytes()
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="cannot be written"):
        save_jpeg(image, tmp_path / "file" / "b.jpg")


REGION = Image.fromarray(np.random.default_rng(1).integers(40, 220, (400, 600, 3), dtype=np.uint8))
WHERE = Box(12037, 5011, 1200, 800)


def test_without_guides_an_image_is_its_region_and_caption() -> None:
    plain = framed(REGION, WHERE, 0.5, 1.0, Frame())
    assert plain.tobytes() == captioned(REGION, WHERE, 0.5, 1.0).tobytes()


@given(st.integers(0, 200_000), st.integers(1, 200_000))
def test_guides_stand_on_round_numbers_near_the_fifths(start: int, length: int) -> None:
    px = min(length, 1000)
    placed = marks(start, length, px)
    assert len(placed) == COUNT or length < 10
    for number, mark in enumerate(placed if length >= 10 else [], 1):
        assert mark.at == pytest.approx((mark.value - start) * px / length)
        assert abs(mark.at - px * number / 5) <= px * 0.011 + px / length
        assert mark.value % (1 if length < 50 else 10 ** (len(str(length // 5)) - 2)) == 0


@pytest.mark.parametrize("kind", ["ticks", "lines"])
@pytest.mark.parametrize("shade", [0, 128, 255])
def test_guides_lie_where_they_say_on_any_tissue(kind: Guides, shade: int) -> None:
    flat = Image.new("RGB", (600, 400), (shade, shade, shade))
    drawn = np.asarray(framed(flat, WHERE, 0.5, 1.0, Frame(guides=kind)))[:400].astype(int)
    edge = np.abs(drawn - shade).max(axis=2) > 90
    columns = [round(mark.at) for mark in marks(WHERE.x, WHERE.w, 600)]
    assert all(edge[390:, x - 1 : x + 2].any() for x in columns)
    rows = [round(mark.at) for mark in marks(WHERE.y, WHERE.h, 400)]
    assert all(edge[y - 1 : y + 2, 590:].any() for y in rows)
    through = edge[100:300, columns[1]].any()
    assert through == (kind == "lines")
    assert edge.mean() < 0.04, "guides cover little of the tissue"


def test_guides_move_no_pixel_and_leave_the_caption_alone() -> None:
    plain = np.asarray(captioned(REGION, WHERE, 0.5, 1.0))
    drawn = np.asarray(framed(REGION, WHERE, 0.5, 1.0, Frame(guides="lines")))
    assert drawn.shape == plain.shape
    assert np.array_equal(drawn[400:], plain[400:])
    assert (drawn[:400] == plain[:400]).all(axis=2).mean() > 0.95


@pytest.mark.parametrize("unit", ["level0", "relative", "resized"])
def test_guides_count_in_the_unit_of_the_model(unit: Unit) -> None:
    flat = Image.new("RGB", (600, 400), (255, 255, 255))
    drawn = np.asarray(framed(flat, WHERE, 0.5, 1.0, Frame(guides="ticks", unit=unit)))
    right = np.argwhere((drawn[396, :, :] < 60).all(axis=1))[:, 0].tolist()
    assert (
        right
        == {
            "level0": [round((x - 12037) / 2) for x in (12280, 12520, 12760, 13000)],
            "relative": [120, 240, 360, 480],
            "resized": [120, 240, 360, 480],
        }[unit]
    )


def test_relative_guides_count_caption_and_padding() -> None:
    """The tissue is 100 of 448 px of height: its fifths are 45, 90, 130 and 180 of 1000."""
    frame = Frame(guides="ticks", unit="relative", multiple=448)
    sheet = np.asarray(framed(Image.new("RGB", (448, 100), (255, 255, 255)), WHERE, 0.5, 1.0, frame))
    assert sheet.shape == (448, 448, 3)
    rows = np.argwhere((sheet[:100, 446] < 60).all(axis=1))[:, 0].tolist()
    assert len(rows) == COUNT
    tissue = round(100 * 1000 / 448)
    assert rows == [round(mark.at) for mark in marks(0, tissue, 100)]


@given(st.integers(5, 500), st.integers(5, 500), st.sampled_from([1, 14, 28, 32]))
def test_padding_is_white_and_never_scales(width: int, height: int, multiple: int) -> None:
    flat = Image.new("RGB", (width, height), (90, 60, 140))
    plain = captioned(flat, Box(0, 0, width, height), 0.5, 0.5)
    sheet = np.asarray(framed(flat, Box(0, 0, width, height), 0.5, 0.5, Frame(multiple=multiple)))
    assert sheet.shape[0] % multiple == 0
    assert sheet.shape[1] % multiple == 0
    assert np.array_equal(sheet[: plain.height, : plain.width], np.asarray(plain))
    assert (sheet[plain.height :] == 255).all()
    assert (sheet[:, plain.width :] == 255).all()


def test_pixel_hashes_tell_shapes_apart() -> None:
    wide, tall = Image.new("RGB", (4, 2)), Image.new("RGB", (2, 4))
    assert pixels_sha256(wide) == pixels_sha256(wide.copy()) != pixels_sha256(tall)
