"""Several images on one contact sheet, each under its label; images made smaller."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from functools import lru_cache
from math import ceil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

LEAST_PX = 1024
"""Long side of a sheet that is allowed in any case, px, so that its panels can be read."""
LABEL_PX, GAP_PX = 26, 6
"""Height of the strip with a panel's label, and the space between panels, px."""
_QUALITY = 92


def contact_sheet(labelled: Sequence[tuple[str, str]], max_px: int, multiple: int = 1) -> bytes:
    """A JPEG with one panel for each (label, image in base64), from left to right, row by row.

    Panels are made smaller where needed, never larger; the sheet's long side is at most `max_px`, or
    `LEAST_PX` where that is more, and its sides are multiples of `multiple`.
    """
    return _sheet(tuple(labelled), max(max_px, LEAST_PX), multiple)


@lru_cache(maxsize=8)  # it goes out again with every repair of a turn
def _sheet(labelled: tuple[tuple[str, str], ...], max_px: int, multiple: int) -> bytes:
    from PIL import Image, ImageDraw

    images = [_opened(data) for _, data in labelled]
    widest, tallest = max(image.width for image in images), max(image.height for image in images)
    columns, scale = _layout(len(images), widest, tallest, max_px)
    width = round(widest * scale) + GAP_PX
    height = round(tallest * scale) + LABEL_PX + GAP_PX
    rows = ceil(len(images) / columns)
    size = (_up(columns * width, multiple), _up(rows * height, multiple))
    sheet = Image.new("RGB", size, (255, 255, 255))
    pen = ImageDraw.Draw(sheet)
    for number, (image, (label, _)) in enumerate(zip(images, labelled, strict=True)):
        left, top = number % columns * width, number // columns * height
        pen.text((left + 2, top + 1), label, fill=(0, 0, 0), font_size=LABEL_PX - 6)
        sheet.paste(_resized(image, scale), (left, top + LABEL_PX))
    return _jpeg(sheet)


def _layout(count: int, width: int, height: int, max_px: int) -> tuple[int, float]:
    """How many columns, and the scale of the panels, so that they come out as large as they can."""
    best = (1, 0.0)
    for columns in range(1, count + 1):
        rows = ceil(count / columns)
        across = (max_px / columns - GAP_PX) / width
        down = (max_px / rows - GAP_PX - LABEL_PX) / height
        scale = min(1.0, across, down)
        if scale > best[1]:
            best = (columns, scale)
    return best


@lru_cache(maxsize=32)
def smaller(data: str, scale: float) -> bytes:
    """An image in base64 with sides of that share, as a JPEG."""
    return _jpeg(_resized(_opened(data), scale))


def _opened(data: str) -> Image.Image:
    from PIL import Image

    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        return image.convert("RGB")


def _resized(image: Image.Image, scale: float) -> Image.Image:
    from PIL import Image

    if scale >= 1:
        return image
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS)


def _jpeg(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, format="JPEG", quality=_QUALITY)
    return file.getvalue()


def _up(length: int, multiple: int) -> int:
    return ceil(length / multiple) * multiple
