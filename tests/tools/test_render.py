"""Captions, scale bars and numbered boxes tell the truth to the pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from core_model.errors import RunError
from core_model.slide import Box
from tools.render import STRIP_PX, captioned, numbered_boxes, save_jpeg, scale_bar_um


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
