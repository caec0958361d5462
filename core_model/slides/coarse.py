"""A level made in memory for slides that store none: they are read whole once, not for every overview.

The level is made when something first needs it, by averaging over whole factors, and serves whatever is
coarser.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image

from core_model.slides.resample import Window, survey_window
from core_model.slides.sources import DecodeError, PixelSource

LEAST_SIDE = 2048
"""Long side that the new level has at least, px: overviews are made from it."""
COARSEST_MPP = 8.0
"""µm/px that it does not pass: tissue is found at this."""

log = logging.getLogger(__name__)

Told = Callable[[int, int], None]
"""Told how far the reading is: done, total."""


def coarse_factor(size: tuple[int, int], mpp: float) -> int:
    """How many px of a level, `size` at `mpp` µm/px, one of the new level spans; 1 where none is needed."""
    most = min(max(size) // LEAST_SIDE, int(COARSEST_MPP / mpp), min(size))
    return int(2 ** math.floor(math.log2(most))) if most > 1 else 1


class CoarseSource:
    """A source with one level more, `factor` times coarser than its coarsest."""

    def __init__(self, source: PixelSource, factor: int, name: str) -> None:
        self._source, self._factor, self._name = source, factor, name
        self._stored = len(source.level_dimensions)
        width, height = source.level_dimensions[-1]
        self.vendor, self.reader = source.vendor, source.reader
        self.properties: Mapping[str, str] = source.properties
        self.made_levels = source.made_levels
        self.level_dimensions = (*source.level_dimensions, (width // factor, height // factor))
        self.told: Told | None = None
        """Told how far the making is."""
        self._lock = threading.Lock()
        self._made: tuple[Image.Image, np.ndarray] | None = None

    def tile_size(self, level: int) -> tuple[int, int]:
        """Width and height of the file's tiles; the new level could be cut anywhere."""
        return (1, 1) if level == self._stored else self._source.tile_size(self._below(level))

    def read_level(
        self, level: int, x: int, y: int, w: int, h: int
    ) -> tuple[Image.Image, tuple[float, float]]:
        """RGB of a rectangle and its offset, as the source gives it. Raises `DecodeError`."""
        if level != self._stored:
            return self._source.read_level(self._below(level), x, y, w, h)
        image, unknown = self._coarse()
        if unknown[y : y + h, x : x + w].any():
            raise DecodeError("a part of it does not decode")
        return image.crop((x, y, x + w, y + h)), (0.0, 0.0)

    def close(self) -> None:
        """Free the file and the pixels."""
        self._source.close()
        self._made = None

    def _below(self, level: int) -> int:
        """The number under which the source knows a level that is not the new one."""
        return level if level < self._stored else level - 1

    def _coarse(self) -> tuple[Image.Image, np.ndarray]:
        with self._lock:
            if self._made is None:
                width, height = self.level_dimensions[-1]
                factor, level = self._factor, self._stored - 1
                log.warning("%s stores no small picture of itself: it is read whole, once", self._name)
                window = Window(level, 0.0, 0.0, width * factor, height * factor, width, height)
                self._made = survey_window(self._source, window, self.told)
            return self._made
