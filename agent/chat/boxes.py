"""Boxes as a chat model gives them, and as the slide knows them.

A model names a place in the convention of its profile. Where the convention refers to an image, numbers count
from that image's upper left corner, its caption included, because that is what the model was sent. Nothing
here clamps: a place off the slide stays off the slide, and the toolbox refuses it with the valid range.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agent.llm.profiles import Convention
from core_model.errors import RunError
from core_model.slides.box import Box

if TYPE_CHECKING:
    from agent.run.records import Step

Numbers = tuple[float, float, float, float]
RELATIVE = 1000
"""Length of each side of an image in the convention "relative"."""
_GRAIN = 1e-6
"""Level-0 px by which a product of floats may miss the whole number it stands for."""


@dataclass(frozen=True)
class SentImage:
    """An image that a model was sent: what of the slide is in it, and where in the image."""

    box: Box
    """The region, level-0 px."""
    width: float
    """Width of the region in the image, px; caption and padding are beside it."""
    height: float
    """Height of the region in the image, px."""
    image_width: int
    """Width of the whole image, px."""
    image_height: int
    """Height of the whole image, px."""


def sent_image(step: Step, folder: Path, slide_mpp: float) -> SentImage | None:
    """The image of a step, None where it has none. Raises `RunError` where the file is gone."""
    observation = step.observation
    if observation.image is None or observation.box is None or observation.mpp is None:
        return None
    width, height = image_size(folder / observation.image)
    scale = slide_mpp / observation.mpp
    return SentImage(
        box=observation.box,
        width=float(observation.data.get("width_px") or max(1, round(observation.box.w * scale))),
        height=float(observation.data.get("height_px") or max(1, round(observation.box.h * scale))),
        image_width=width,
        image_height=height,
    )


def image_size(path: Path) -> tuple[int, int]:
    """Width and height of an image file, from its header."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return image.size
    except OSError as error:
        raise RunError("an image of the run cannot be read", where=path) from error


def box_from_numbers(numbers: Numbers, convention: Convention, image: SentImage | None) -> Box:
    """The box that four numbers mean. `image` is the one they refer to; level-0 px need none.

    Corners are rounded outwards to whole level-0 px, so a box with area keeps some and one inside the image
    stays inside its region. Raises `ValueError` for numbers that are not finite.
    """
    if not all(math.isfinite(number) for number in numbers):
        raise ValueError("a box needs four finite numbers")
    if convention == "level0":
        return Box(*(round(number) for number in numbers))
    if image is None:
        raise ValueError(f"boxes of the convention '{convention}' refer to an image")
    x0, y0, x1, y1 = numbers
    if convention == "relative":
        x0, x1 = x0 * image.image_width / RELATIVE, x1 * image.image_width / RELATIVE
        y0, y1 = y0 * image.image_height / RELATIVE, y1 * image.image_height / RELATIVE
    sx, sy = image.box.w / image.width, image.box.h / image.height
    left, top = _floor(image.box.x + x0 * sx), _floor(image.box.y + y0 * sy)
    right, bottom = _ceil(image.box.x + x1 * sx), _ceil(image.box.y + y1 * sy)
    if x1 <= x0 or y1 <= y0:  # rounding outwards would give an empty box an area
        right, bottom = min(right, left + round((x1 - x0) * sx)), min(bottom, top + round((y1 - y0) * sy))
    return Box(left, top, right - left, bottom - top)


def numbers_from_box(box: Box, convention: Convention, image: SentImage | None) -> Numbers:
    """The four numbers by which a model of this convention names `box` in `image`."""
    if convention == "level0":
        return (box.x, box.y, box.w, box.h)
    if image is None:
        raise ValueError(f"boxes of the convention '{convention}' refer to an image")
    sx, sy = image.width / image.box.w, image.height / image.box.h
    if convention == "relative":
        sx, sy = sx * RELATIVE / image.image_width, sy * RELATIVE / image.image_height
    return (
        (box.x - image.box.x) * sx,
        (box.y - image.box.y) * sy,
        (box.right - image.box.x) * sx,
        (box.bottom - image.box.y) * sy,
    )


def _floor(value: float) -> int:
    return math.floor(value + _GRAIN)


def _ceil(value: float) -> int:
    return math.ceil(value - _GRAIN)
