"""Drawing for people and vision models: caption with scale bar, axis guides, numbered boxes, JPEG files."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from core_model.errors import RunError
from core_model.files import replacing
from core_model.slides.box import Box, magnification
from core_model.slides.slide import Slide
from tools.records import Observation

if TYPE_CHECKING:
    from tools.guides import Guides, Unit

MAX_PX = 1000
"""Long side of a region shown, without its caption."""

QUALITY = 90
STRIP_PX = 34
"""Height of the caption."""

MIN_WIDTH = 300
"""A caption needs this much; a narrower region gets white beside it, never stretched."""

INK, PAPER, MARK = (20, 20, 20), (255, 255, 255), (0, 90, 200)


@dataclass(frozen=True)
class Frame:
    """How regions are put into images. The image kept is the one a vision model is sent, to the byte."""

    max_px: int = MAX_PX
    """Long side of the tissue shown, without caption."""
    guides: Guides | None = None
    """Axis guides: "lines" across the image, "ticks" at its edges, or none."""
    unit: Unit = "level0"
    """What guides count. level0: px of the slide. resized: px of the image. relative: 0 to 1000 of the
    image's width and height, caption and padding included: for a model all of it is the image."""
    multiple: int = 1
    """Width and height of the image are multiples of this; white is added on the right and below."""


def shown_mpp(slide: Slide, box: Box, mpp: float, max_px: int = MAX_PX) -> float:
    """The resolution at which `box` is shown when `mpp` is asked for.

    Never finer than the slide's own, and coarse enough that the long side is at most `max_px`.
    """
    return max(slide.effective_mpp(mpp), max(slide.um(box)) / max_px)


def scale_bar_um(width_um: float) -> float:
    """A round length, 1, 2 or 5 times a power of ten, of at most a quarter of the width."""
    unit = 10.0 ** math.floor(math.log10(width_um / 4))
    return max(step * unit for step in (1, 2, 5) if step * unit <= width_um / 4 * (1 + 1e-9))


def captioned(image: Image.Image, box: Box, mpp_x: float, mpp: float) -> Image.Image:
    """The region with a strip beneath: scale bar, its mpp, magnification, box in level-0 px.

    `mpp_x` are the µm of a level-0 px along x, as the bar lies. The bar is measured on the image itself,
    whose whole pixels differ from `mpp` by a fraction.
    """
    # Pillow's built-in font has no µ; "um" is the usual way out.
    canvas = Image.new("RGB", (max(image.width, MIN_WIDTH), image.height + STRIP_PX), PAPER)
    canvas.paste(image, (0, 0))
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=12)
    length_um = scale_bar_um(box.w * mpp_x)
    bar, top = length_um * image.width / (box.w * mpp_x), image.height + 6
    draw.rectangle((6, top, 6 + round(bar) - 1, top + 3), fill=INK)
    length = f"{length_um:g} um" if length_um < 1000 else f"{length_um / 1000:g} mm"
    draw.text((6, top + 7), length, fill=INK, font=font)
    lines = (f"{mpp:.3g} um/px, {magnification(mpp):.3g}x", f"box {box.x}, {box.y}, {box.w}, {box.h}")
    x = max(6 + round(bar) + 12, 70)
    for line, text in enumerate(lines):
        draw.text((x, image.height + 2 + 15 * line), text, fill=INK, font=font)
    return canvas


def framed(image: Image.Image, box: Box, mpp_x: float, mpp: float, frame: Frame) -> Image.Image:
    """A region as it is kept and sent: guides on it, caption below, padded. Tissue starts at its top left."""
    sheet = captioned(image, box, mpp_x, mpp)
    size = (_up(sheet.width, frame.multiple), _up(sheet.height, frame.multiple))
    if frame.guides is not None:
        from tools.guides import with_guides

        sheet.paste(with_guides(image, box, frame.guides, frame.unit, size), (0, 0))
    if size == sheet.size:
        return sheet
    canvas = Image.new("RGB", size, PAPER)
    canvas.paste(sheet, (0, 0))
    return canvas


def _up(px: int, multiple: int) -> int:
    return -(-px // multiple) * multiple


def pixels_sha256(image: Image.Image) -> str:
    """Hash of an image's size and RGB values: equal for the same pixels, whatever file they are in."""
    rgb = image.convert("RGB")
    digest = hashlib.sha256(f"{rgb.width}x{rgb.height} RGB\n".encode())
    digest.update(rgb.tobytes())
    return digest.hexdigest()


def read_again(slide: Slide, observation: Observation) -> Image.Image:
    """The region of a recorded observation, read from the slide in the same way as then.

    Raises `RunError` where the observation shows no region, and what reading a slide raises.
    """
    if observation.box is None or observation.mpp is None:
        raise RunError(f"an observation of {observation.tool} shows no region", where=slide.name)
    if observation.tool in ("overview", "ask_region"):
        return slide.survey(observation.box, observation.mpp).shown()
    return slide.read(observation.box, observation.mpp)


def numbered_boxes(
    image: Image.Image, boxes: Sequence[tuple[int, Box]], region: Box, colour: tuple[int, int, int] = MARK
) -> Image.Image:
    """A copy of `image`, which shows the level-0 box `shown`, with outlined boxes and their numbers."""
    canvas = image.convert("RGB")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=14)
    sx, sy = image.width / region.w, image.height / region.h
    for number, box in boxes:
        x0, y0 = (box.x - region.x) * sx, (box.y - region.y) * sy
        x1, y1 = max(x0 + 2, (box.right - region.x) * sx - 1), max(y0 + 2, (box.bottom - region.y) * sy - 1)
        draw.rectangle((x0, y0, x1, y1), outline=colour, width=2)
        label = str(number)
        width = draw.textlength(label, font=font) + 6
        x, y = min(max(x0, 0), image.width - width), min(max(y0, 0), image.height - 18)
        draw.rectangle((x, y, x + width, y + 17), fill=colour)
        draw.text((x + 3, y + 1), label, fill=PAPER, font=font)
    return canvas


def save_jpeg(image: Image.Image, path: Path) -> None:
    """Write a JPEG without metadata, whole or not at all. Raises `RunError`."""
    bare = image.convert("RGB")
    bare.info.clear()  # comments, profiles and the like come from the slide's file
    try:
        with replacing(path) as part:
            bare.save(part, format="JPEG", quality=QUALITY)
    except OSError as error:
        raise RunError(f"the image cannot be written ({error})", where=path) from error
