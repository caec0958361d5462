"""Boxes in level-0 pixels, and the magnification that a resolution is called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Box(NamedTuple):
    """A rectangle in level-0 pixels, half-open: it covers x … x+w-1 and y … y+h-1."""

    x: int
    y: int
    w: int
    h: int

    @property
    def right(self) -> int:
        """First column right of the box."""
        return self.x + self.w

    @property
    def bottom(self) -> int:
        """First row below the box."""
        return self.y + self.h

    @property
    def area(self) -> int:
        """Area in level-0 px²."""
        return self.w * self.h

    def intersect(self, box: Box) -> Box | None:
        """The common rectangle, or None where the two share no pixel."""
        x, y = max(self.x, box.x), max(self.y, box.y)
        w, h = min(self.right, box.right) - x, min(self.bottom, box.bottom) - y
        return Box(x, y, w, h) if w > 0 and h > 0 else None

    def overlap(self, box: Box) -> float:
        """Share of this box that `other` covers, in [0, 1]."""
        common = self.intersect(box)
        return common.area / self.area if common is not None else 0.0

    def contains(self, x: float, y: float) -> bool:
        """Whether the level-0 point lies inside."""
        return self.x <= x < self.right and self.y <= y < self.bottom


def tile_box(
    corner: Sequence[int], size: int, extent: tuple[int, int] | None, height: int | None = None
) -> Box:
    """Box of a tile with its corner (2,) at x, y: its part on a slide of `extent` where that is known.

    It is `size` px wide, and as high unless `height` says otherwise.
    """
    x, y, height = int(corner[0]), int(corner[1]), height or size
    if extent is None:
        return Box(x, y, size, height)
    return Box(x, y, min(size, extent[0] - x), min(height, extent[1] - y))


def magnification(mpp: float) -> float:
    """Objective magnification that pathologists would call this resolution: 20 at 0.5 µm/px."""
    return 10.0 / mpp
