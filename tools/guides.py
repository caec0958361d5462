"""Axis guides: four marks along each side of a region, with the coordinates to name a box by.

Guides are drawn over the tissue and never move it. They stand at the fifths of each side, or so near that the
eye sees no difference, where the number is round and short to read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from PIL import Image, ImageDraw, ImageFont

from core_model.slides.box import Box

Guides = Literal["ticks", "lines"]
Unit = Literal["level0", "relative", "resized"]

COUNT = 4
"""Guides along each axis."""
TICK_PX = 12
DASH_PX = 8
"""Lines are dashed dark and light in turn: one of the two stands out on any tissue."""
FONT_PX = 13
GAP_PX = 3
"""Least distance between two labels; a label without room is left out, its mark is not."""
INK, PAPER = (0, 0, 0), (255, 255, 255)
NAMES = {"level0": ("x ", "y "), "relative": ("", ""), "resized": ("", "")}
"""What stands before a number: a model that names places by position wants to read its own numbers."""


class Mark(NamedTuple):
    """One guide: where it lies on the image, in px, and the number it stands for."""

    at: float
    value: int


def marks(start: int, length: int, px: int) -> list[Mark]:
    """Guides for an axis that runs from `start` over `length` units in `px` image pixels."""
    spacing = length / (COUNT + 1)
    unit = 10 ** (math.floor(math.log10(spacing)) - 1) if spacing >= 10 else 1
    values = {round((start + spacing * i) / unit) * unit for i in range(1, COUNT + 1)}
    inside = sorted(value for value in values if start <= value < start + length)
    return [Mark((value - start) * px / length, value) for value in inside]


def with_guides(
    image: Image.Image, box: Box, kind: Guides, unit: Unit, whole: tuple[int, int] | None = None
) -> Image.Image:
    """A copy of `image`, which shows the level-0 box `box`, with guides.

    `whole` is the size in px of the image that is sent, tissue and caption together: positions from 0 to 1000
    are shares of that.
    """
    canvas = image.convert("RGB")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=FONT_PX)
    size, whole = image.size, whole or image.size
    names = NAMES[unit]
    for axis in (0, 1):
        axis_marks = _marks(axis, box, unit, size, whole)
        for mark in axis_marks:
            _mark(draw, kind, axis, round(mark.at), size)
        texts = [f"{names[axis]}{mark.value}" for mark in axis_marks]
        _labels(draw, font, axis, [mark.at for mark in axis_marks], texts, size)
    return canvas


def _marks(axis: int, box: Box, unit: Unit, size: tuple[int, int], whole: tuple[int, int]) -> list[Mark]:
    if unit == "level0":
        return marks(box[axis], box[axis + 2], size[axis])
    if unit == "resized":
        return marks(0, size[axis], size[axis])
    return marks(0, max(1, round(1000 * size[axis] / whole[axis])), size[axis])


def _mark(draw: ImageDraw.ImageDraw, kind: Guides, axis: int, at: int, size: tuple[int, int]) -> None:
    """One guide across the image, or two short ones at its edges."""
    end = size[1 - axis]
    if kind == "lines":
        for start in range(0, end, DASH_PX):
            colour = INK if start // DASH_PX % 2 == 0 else PAPER
            draw.line(_along(axis, at, start, min(start + DASH_PX, end) - 1), fill=colour, width=1)
        return
    for start, stop in ((0, min(TICK_PX, end) - 1), (max(0, end - TICK_PX), end - 1)):
        for side, colour in ((-1, PAPER), (0, INK), (1, PAPER)):
            draw.line(_along(axis, at + side, start, stop), fill=colour, width=1)


def _along(axis: int, at: int, start: int, stop: int) -> tuple[int, int, int, int]:
    return (at, start, at, stop) if axis == 0 else (start, at, stop, at)


def _labels(
    draw: ImageDraw.ImageDraw,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    axis: int,
    places: Sequence[float],
    texts: Sequence[str],
    size: tuple[int, int],
) -> None:
    """Numbers at the top edge beside their marks, and below that row at the left edge above theirs."""
    free = 0.0 if axis == 0 else float(FONT_PX + 2 + GAP_PX)
    for at, text in zip(places, texts, strict=True):
        width, height = draw.textlength(text, font=font), FONT_PX + 2
        x, y = (at + 4, 1.0) if axis == 0 else (3.0, at - height - 1)
        first, last = (x, x + width) if axis == 0 else (y, y + height)
        if first < free or x + width > size[0] or y + height > size[1]:
            continue
        free = last + GAP_PX
        draw.text((x, y), text, font=font, fill=INK, stroke_width=2, stroke_fill=PAPER)
