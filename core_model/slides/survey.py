"""A coarse look at a slide in which some parts may be unknown, because they do not decode."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage

from core_model.slides.box import Box


@dataclass(frozen=True)
class Survey:
    """What `Slide.survey` returns."""

    image: Image.Image
    """RGB; its colour is meaningless where `unknown`."""
    unknown: np.ndarray
    """Bool (H, W): pixels whose area did not decode, whole or in part."""
    box: Box
    """What was looked at."""
    mpp: float

    @property
    def unreadable(self) -> tuple[Box, ...]:
        """Bounding boxes of the connected unknown parts, in level-0 px."""
        sx, sy = self.box.w / self.image.width, self.box.h / self.image.height
        places = ndimage.find_objects(ndimage.label(self.unknown, structure=np.ones((3, 3)))[0])
        found = []
        for rows, columns in places:
            x, y = self.box.x + int(columns.start * sx), self.box.y + int(rows.start * sy)
            right, bottom = self.box.x + math.ceil(columns.stop * sx), self.box.y + math.ceil(rows.stop * sy)
            found.append(Box(x, y, min(right, self.box.right) - x, min(bottom, self.box.bottom) - y))
        return tuple(found)

    def shown(self) -> Image.Image:
        """The image with unknown parts hatched in grey, so that nobody takes them for glass."""
        if not self.unknown.any():
            return self.image
        pixels = np.array(self.image)
        rows, columns = np.indices(self.unknown.shape)
        stripe = (rows + columns) // 4 % 2 == 0
        pixels[self.unknown & stripe] = 96
        pixels[self.unknown & ~stripe] = 160
        return Image.fromarray(pixels)
