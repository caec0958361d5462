"""Boxes in the three conventions: there and back within a pixel, never leaving the image, never clamped."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.chat.boxes import SentImage, box_from_numbers, numbers_from_box
from core_model.slides.box import Box

CONVENTIONS = st.sampled_from(["relative", "resized"])


@st.composite
def images(draw: st.DrawFn) -> SentImage:
    """A region anywhere on a slide, in an image of at most 1000 px with a caption and padding."""
    w, h = draw(st.integers(1, 200_000)), draw(st.integers(1, 200_000))
    longest = min(1000, max(w, h))
    width, height = max(1, round(w * longest / max(w, h))), max(1, round(h * longest / max(w, h)))
    box = Box(draw(st.integers(0, 300_000)), draw(st.integers(0, 300_000)), w, h)
    return SentImage(box, width, height, width + draw(st.integers(0, 300)), height + draw(st.integers(0, 70)))


@st.composite
def boxes_in(draw: st.DrawFn, image: SentImage) -> Box:
    x = draw(st.integers(0, image.box.w - 1))
    y = draw(st.integers(0, image.box.h - 1))
    w, h = draw(st.integers(1, image.box.w - x)), draw(st.integers(1, image.box.h - y))
    return Box(image.box.x + x, image.box.y + y, w, h)


@given(st.data(), CONVENTIONS)
def test_there_and_back_within_a_pixel(data: st.DataObject, convention: str) -> None:
    image = data.draw(images())
    box = data.draw(boxes_in(image))
    again = box_from_numbers(numbers_from_box(box, convention, image), convention, image)  # type: ignore[arg-type]
    assert abs(again.x - box.x) <= 1
    assert abs(again.y - box.y) <= 1
    assert abs(again.right - box.right) <= 1
    assert abs(again.bottom - box.bottom) <= 1


@given(st.data(), CONVENTIONS)
def test_what_lies_in_the_image_stays_in_its_region_and_keeps_area(
    data: st.DataObject, convention: str
) -> None:
    image = data.draw(images())
    wide, high = image.width, image.height
    if convention == "relative":
        wide, high = 1000 * wide / image.image_width, 1000 * high / image.image_height
    x0, x1 = sorted((data.draw(st.floats(0, wide)), data.draw(st.floats(0, wide))))
    y0, y1 = sorted((data.draw(st.floats(0, high)), data.draw(st.floats(0, high))))
    box = box_from_numbers((x0, y0, x1, y1), convention, image)  # type: ignore[arg-type]
    if x1 - x0 > 1e-6 and y1 - y0 > 1e-6:
        assert image.box.intersect(box) == box
    elif x0 == x1 or y0 == y1:
        assert min(box.w, box.h) <= 0


@given(st.data(), CONVENTIONS)
def test_what_leaves_the_image_is_not_moved_back(data: st.DataObject, convention: str) -> None:
    image = data.draw(images())
    far = data.draw(st.floats(1.01, 50))
    wide = image.image_width if convention == "resized" else 1000
    box = box_from_numbers((-far * wide, 0, far * wide, 1), convention, image)  # type: ignore[arg-type]
    assert box.x < image.box.x
    assert box.right > image.box.right


def test_caption_and_padding_are_part_of_the_image() -> None:
    image = SentImage(Box(1000, 2000, 8000, 4000), 1000, 500, 1008, 560)
    assert box_from_numbers((0, 0, 1000, 500), "resized", image) == image.box
    assert box_from_numbers((0, 0, 500, 500), "relative", image) == Box(1000, 2000, 4032, 2240)
    assert box_from_numbers((0, 0, 1000, 1000), "relative", image) == Box(1000, 2000, 8064, 4480)


def test_level0_numbers_are_the_box() -> None:
    assert box_from_numbers((10.4, -3, 20.6, 0), "level0", None) == Box(10, -3, 21, 0)
    assert numbers_from_box(Box(1, 2, 3, 4), "level0", None) == (1, 2, 3, 4)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_none_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        box_from_numbers((0, 0, bad, 1), "level0", None)
    with pytest.raises(ValueError, match="image"):
        box_from_numbers((0, 0, 1, 1), "relative", None)
