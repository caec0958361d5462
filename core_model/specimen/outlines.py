"""Outlines of a mask as polygons that follow the edges of its pixels, so that they cover just the mask.

Pixels that share a side are one part: an outer ring and its holes. Parts that touch at a corner alone are one
piece of several polygons. So every ring passes a place only once, and every polygon is a valid one for those
who check that.

Letters: H rows and W columns of the mask, C corners of outlines, P corners of one ring.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from core_model.slides.regions import regions_of

Ring = np.ndarray
"""(P, 2) int64: x, y of the corners of a ring, in mask px; the last is joined to the first."""


@dataclass(frozen=True)
class Outline:
    """The outline of one piece of a mask."""

    polygons: tuple[tuple[Ring, ...], ...]
    """Each an outer ring, counter-clockwise where y counts upwards, and then its holes, clockwise."""
    pixels: int
    """Area in mask px."""


@dataclass(frozen=True)
class _Corners:
    """Corners of outlines in reading order; each joins a horizontal and a vertical edge.

    Where two pixels touch at a corner alone there are two corners at one place.
    """

    x: np.ndarray
    y: np.ndarray
    east: np.ndarray
    """(C,) bool: its horizontal edge leads to the right, not to the left."""
    south: np.ndarray
    """(C,) bool: its vertical edge leads down, not up."""


def outlines(mask: np.ndarray) -> list[Outline]:
    """The outlines of a bool mask (H, W), one for each piece of it, largest first."""
    parts = regions_of(mask, corners=False)
    part_at = np.pad(parts.numbers(np.ones(parts.count, dtype=bool)), 1)  # (H + 2, W + 2), 0 off the mask
    corners = _corners(part_at)
    rings: list[list[Ring]] = [[] for _ in range(parts.count)]
    for ring in _rings(corners):
        x, y = ring[0]
        inside = part_at[y + 1, x + 1]  # below and to the right of its first corner
        if inside:
            rings[inside - 1].append(ring)
        else:
            rings[part_at[y, x + 1] - 1].append(np.roll(ring[::-1], 1, axis=0))
    return _pieces(mask, part_at, rings)


def _pieces(mask: np.ndarray, part_at: np.ndarray, rings: list[list[Ring]]) -> list[Outline]:
    """Outlines of the pieces, from the rings of their parts."""
    pieces = regions_of(mask, corners=True)
    piece_at = pieces.numbers(np.ones(pieces.count, dtype=bool))
    members: list[list[tuple[Ring, ...]]] = [[] for _ in range(pieces.count)]
    for part in rings:
        x, y = part[0][0]
        members[piece_at[y, x] - 1].append(tuple(part))
    order = np.argsort(-pieces.areas, kind="stable")
    return [Outline(tuple(members[i]), int(pieces.areas[i])) for i in order]


def _corners(part_at: np.ndarray) -> _Corners:
    above_left, above_right = part_at[:-1, :-1], part_at[:-1, 1:]
    below_left, below_right = part_at[1:, :-1], part_at[1:, 1:]  # (H + 1, W + 1) each
    falling = (above_left > 0) & (below_right > 0) & (above_right == 0) & (below_left == 0)
    rising = (above_right > 0) & (below_left > 0) & (above_left == 0) & (below_right == 0)
    odd = (above_left > 0) ^ (above_right > 0) ^ (below_left > 0) ^ (below_right > 0)
    # Pixels that touch are parted where they belong to two parts, else what lies between them is.
    crossing = falling | rising
    parted = np.where(falling, above_left != below_right, above_right != below_left)
    turns_up = crossing & (falling == parted)  # the left edge is joined with the upper one
    east = odd & ((above_right > 0) != (below_right > 0))
    south = odd & ((below_left > 0) != (below_right > 0))
    y, x = np.nonzero(odd | crossing)
    twice = crossing[y, x]
    copies = np.repeat(np.arange(len(x)), 1 + twice)
    y, x, twice = y[copies], x[copies], twice[copies]
    second = np.zeros(len(copies), dtype=bool)
    second[1:] = copies[1:] == copies[:-1]
    east_here = np.where(twice, second, east[y, x])
    south_here = np.where(twice, second == turns_up[y, x], south[y, x])
    return _Corners(x, y, east_here, south_here)


def _rings(corners: _Corners) -> list[Ring]:
    """Closed rings through the corners, each from its first in reading order, to the right at first."""
    across = _mates(np.lexsort((corners.east, corners.x, corners.y)))
    along = _mates(np.lexsort((corners.south, corners.y, corners.x)))
    places = np.stack([corners.x, corners.y], axis=1)
    seen = np.zeros(len(places), dtype=bool)
    rings = []
    right, down = across.tolist(), along.tolist()
    for start in np.flatnonzero(corners.east & corners.south).tolist():
        if seen[start]:
            continue
        ring: list[int] = []
        corner = start
        while not ring or corner != start:
            ring += [corner, right[corner]]
            corner = down[right[corner]]
        seen[ring] = True
        rings.append(places[ring])
    return rings


def _mates(order: np.ndarray) -> np.ndarray:
    """(C,) the other end of each corner's edge: corners in `order` along a line are joined in twos."""
    mates = np.empty_like(order)
    mates[order[0::2]], mates[order[1::2]] = order[1::2], order[0::2]
    return mates
