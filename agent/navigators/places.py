"""Where on the slide it is worth looking: windows over tissue, ranked by what retrieval found there.

Lengths are level-0 pixels. Windows are chosen inside the slide; nothing here moves a box that somebody asked
for.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from core_model.slides.box import Box

if TYPE_CHECKING:
    from core_model.slides.slide import Slide
    from core_model.slides.tissue import TissueMask

COARSE_UM, COARSE_MPP = 900.0, 2.0
"""First look at a place: architecture, at about 5x."""
FINE_UM, FINE_MPP = 450.0, 0.5
"""Second look inside it: cells, at about 20x."""
SEEN_SHARE = 0.5
"""A window of which this share has been shown at its scale counts as seen."""
LEAST_TISSUE = 0.1
"""A window with a smaller share of tissue is not worth a look."""
MAX_WINDOWS = 4096
"""Most windows of a grid that are compared; a larger grid is thinned evenly."""


class WindowScale(NamedTuple):
    """A size of window and the resolution it is shown at."""

    name: str
    side: int
    """Level-0 px."""
    mpp: float


def scales(slide: Slide) -> tuple[WindowScale, WindowScale]:
    """The coarse and the fine scale on this slide."""
    return (
        WindowScale("coarse", max(1, round(COARSE_UM / slide.mpp)), slide.effective_mpp(COARSE_MPP)),
        WindowScale("fine", max(1, round(FINE_UM / slide.mpp)), slide.effective_mpp(FINE_MPP)),
    )


def window_around(center: tuple[float, float], side: int, inside: Box) -> Box:
    """A window of `side` around a point, as far as `inside` leaves room for it."""
    w, h = min(side, inside.w), min(side, inside.h)
    x = min(max(round(center[0] - w / 2), inside.x), inside.right - w)
    y = min(max(round(center[1] - h / 2), inside.y), inside.bottom - h)
    return Box(x, y, w, h)


def grid(side: int, inside: Box) -> list[Box]:
    """Windows of `side` side by side over `inside`, in reading order, thinned to `MAX_WINDOWS`."""
    columns, rows = _starts(inside.x, inside.w, side), _starts(inside.y, inside.h, side)
    w, h, count = min(side, inside.w), min(side, inside.h), len(rows) * len(columns)
    indices = range(0, count, -(-count // MAX_WINDOWS))
    return [Box(columns[i % len(columns)], rows[i // len(columns)], w, h) for i in indices]


def _starts(start: int, length: int, side: int) -> list[int]:
    last = max(0, length - side)
    count = 1 + -(-last // side)
    return [start + (last * i // (count - 1) if count > 1 else 0) for i in range(count)]


def discrimination(
    first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]]
) -> dict[Box, float]:
    """How far two retrievals disagree on each tile that either of them found.

    A tile that only one retrieval returned scores at most the other's last hit there; that bound is used.
    """
    a, b = _by_box(first), _by_box(second)
    floor_a, floor_b = min(a.values(), default=0.0), min(b.values(), default=0.0)
    return {box: abs(a.get(box, floor_a) - b.get(box, floor_b)) for box in {**a, **b}}


def _by_box(hits: Sequence[Mapping[str, Any]]) -> dict[Box, float]:
    return {Box(*hit["box"]): float(hit["score"]) for hit in hits}


def seen_shares(boxes: Sequence[Box], earlier: Sequence[Box]) -> np.ndarray:
    """(N,) share of each of N boxes that earlier looks covered; looks that overlap count each for itself."""
    b = np.array(boxes, dtype=np.int64).reshape(-1, 1, 4)  # (N, 1, 4): x, y, w, h
    s = np.array(earlier, dtype=np.int64).reshape(1, -1, 4)  # (1, S, 4)
    near = np.maximum(b[..., :2], s[..., :2])
    far = np.minimum(b[..., :2] + b[..., 2:], s[..., :2] + s[..., 2:])
    common = np.clip(far - near, 0, None).prod(axis=-1)  # (N, S)
    return common.sum(axis=1) / b[:, 0, 2:].prod(axis=-1)


class WindowChoice(NamedTuple):
    """A window to look at, and whether retrieval or only the amount of tissue speaks for it."""

    box: Box
    retrieved: bool


def choose(
    side: int,
    inside: Box,
    worth: Mapping[Box, float],
    earlier: Sequence[Box],
    tissue: TissueMask,
    rng: random.Random,
) -> WindowChoice | None:
    """The best unseen window of `side` within `inside`; None where nothing is left.

    Windows around the retrieved tiles come first, by the sum of their tiles' worth; where none is left, the
    window with most tissue. Ties are broken by `rng`.
    """
    centers = [(box.x + box.w / 2, box.y + box.h / 2) for box in worth]
    around = {window_around(center, side, inside) for center in centers if inside.contains(*center)}
    values = {box: _worth_inside(box, worth) for box in _worthwhile(sorted(around), earlier, tissue)}
    is_retrieved = bool(values)
    if not is_retrieved:
        values = _worthwhile(grid(side, inside), earlier, tissue)
    if not values:
        return None
    best = max(values.values())
    return WindowChoice(rng.choice([box for box, value in values.items() if value == best]), is_retrieved)


def _worthwhile(boxes: list[Box], earlier: Sequence[Box], tissue: TissueMask) -> dict[Box, float]:
    """The windows (all of one size) that are unseen and hold tissue, with their share of it."""
    if not boxes:
        return {}
    shares = tissue.shares(np.array([box[:2] for box in boxes]), boxes[0].w, boxes[0].h)  # (N,)
    worthwhile = (shares >= LEAST_TISSUE) & (seen_shares(boxes, earlier) < SEEN_SHARE)
    return {boxes[i]: float(shares[i]) for i in np.flatnonzero(worthwhile)}


def _worth_inside(box: Box, worth: Mapping[Box, float]) -> float:
    return sum(value * tile.overlap(box) for tile, value in worth.items())
