"""Which pieces of tissue belong together: sections in reading order, or cores of a tissue microarray by name.

Fragments that lie close together are one section; where gaps are of two kinds, the narrow ones lie inside
the sections, if those come out of like size. Many round pieces of one size on a lattice are cores, named by
row letter and column number; an empty position keeps its place.

Letters: h rows and w columns of the raster, P pieces, K places of cores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from scipy import ndimage

from core_model.slides.box import Box

if TYPE_CHECKING:
    from core_model.slides.tissue import TissueMask

LONG_SIDE = 1024
"""Long side of the raster that pieces are found on, at most."""

REACH_UM, REACH = 300.0, 0.1
"""Pieces are one section up to this gap, in µm or as a share of the larger one's size, whichever is wider."""

CRUMB, LARGE_MM2 = 0.05, 2.0
"""A piece below this share of the largest, and below this area, goes with the piece next to it."""

WIDER = 2.0
"""How much wider gaps between sections are than gaps inside them."""

ALIKE = 2.5
"""Largest ratio of areas of sections that were told apart by their gaps alone."""

LEAST_CORES = 8
"""Whole cores of a tissue microarray."""

MOST_SECTIONS = 12
"""With more than these the slide holds fragments, and no sections."""

LEAST_SHARE = 0.1
"""A part is named with a box where it holds this share of the tissue in it."""

MOST_NAMED = 4
"""Cores named with a box one by one."""


class Part(NamedTuple):
    """A section or a core."""

    name: str
    """Its number or place: "2", "B3"."""
    box: Box
    """Bounding box, in level-0 px."""


@dataclass(frozen=True)
class Layout:
    """How a slide's tissue is divided. Without parts there is one section, and nothing to say."""

    kind: Literal["section", "core"]
    parts: tuple[Part, ...]
    """Sections in reading order, cores row by row."""
    labels: np.ndarray
    """(h, w) int: 0 for glass, i for tissue of `parts[i - 1]`."""
    scale: tuple[float, float]
    """Level-0 px that a pixel of `labels` spans, across and down."""

    def inside(self, box: Box) -> list[Part]:
        """The parts with at least a tenth of the tissue in `box`; a part that lies in it whole counts too."""
        if not self.parts:
            return []
        (height, width), (sx, sy) = self.labels.shape, self.scale
        x, y = min(int(box.x / sx), width - 1), min(int(box.y / sy), height - 1)
        window = self.labels[y : max(y + 1, round(box.bottom / sy)), x : max(x + 1, round(box.right / sx))]
        counts = np.bincount(window.ravel(), minlength=len(self.parts) + 1)[1:]
        enough = counts >= max(1.0, LEAST_SHARE * counts.sum())
        return [
            part
            for part, keep in zip(self.parts, enough, strict=True)
            if keep or part.box.intersect(box) == part.box
        ]

    def part_at(self, x: float, y: float) -> str | None:
        """The part that a place in level-0 px belongs to: "section 2", "core B3"; None on glass."""
        row, column = int(y / self.scale[1]), int(x / self.scale[0])
        label = int(self.labels[row, column]) if self.parts else 0
        return f"{self.kind} {self.parts[label - 1].name}" if label else None

    def words(self, box: Box) -> str | None:
        """Where a box lies: "section 2 of 3", "core B3"; None where that says nothing."""
        names = [part.name for part in self.inside(box)]
        if not names or len(names) == len(self.parts):
            return None
        plural = "s" * (len(names) > 1)
        if self.kind == "section":
            return f"section{plural} {_listed(names)} of {len(self.parts)}"
        if len(names) > MOST_NAMED:
            return f"{len(names)} cores from {names[0]} to {names[-1]}"
        return f"core{plural} {_listed(names)}"

    def described(self, most: int) -> str:
        """All parts with the boxes of the first `most`, in words; empty where there is nothing to say."""
        if not self.parts:
            return ""
        listing = "; ".join(f"{part.name} {tuple(part.box)}" for part in self.parts[:most])
        rest = f"; and {len(self.parts) - most} more" if len(self.parts) > most else ""
        count = len(self.parts)
        if self.kind == "core":
            return f"It is a tissue microarray of {count} cores, by row and column: {listing}{rest}."
        return f"It forms {count} sections, in reading order: {listing}{rest}."


def find_layout(tissue: TissueMask) -> Layout:
    """The sections or cores of a slide. The same mask always gives the same names."""
    raster, um = _raster(tissue)
    labels, count = ndimage.label(raster > 0, structure=np.ones((3, 3)))
    if count < 2:
        return _layout("section", tissue, [], labels)
    areas = ndimage.sum_labels(raster, labels, np.arange(1, count + 1)) * (um / 1000) ** 2  # (P,), mm²
    if count >= LEAST_CORES and (cores := _cores(tissue, labels, areas, um)) is not None:
        return cores
    group_of = _in_reading_order(_groups(raster, labels, areas, um), labels)
    sections = int(group_of.max())
    names = [str(number) for number in range(1, sections + 1)] if 1 < sections <= MOST_SECTIONS else []
    return _layout("section", tissue, names, _renumbered(labels, group_of))


def part_of(tissue: TissueMask, mask: np.ndarray) -> TissueMask:
    """The tissue under a bool `mask` of its raster."""
    return replace(tissue, mask=mask & tissue.mask, unknown=np.zeros_like(tissue.mask))


def share_of(part: TissueMask, tissue: TissueMask) -> float:
    """Share of the tissue that is the part."""
    total = np.count_nonzero(tissue.mask)
    return float(np.count_nonzero(part.mask) / total) if total else 0.0


def _raster(tissue: TissueMask) -> tuple[np.ndarray, float]:
    """(h, w) share of tissue, on a raster of at most `LONG_SIDE`, and its µm/px."""
    (height, width), step = tissue.mask.shape, _pixels(tissue)
    padded = np.pad(tissue.mask, ((0, -height % step), (0, -width % step))).astype(np.float32)
    shares = padded.reshape(padded.shape[0] // step, step, -1, step).mean(axis=(1, 3))
    return shares, tissue.scale[0] * tissue.slide_mpp * step


def _cores(tissue: TissueMask, labels: np.ndarray, areas: np.ndarray, um: float) -> Layout | None:
    from core_model.specimen.lattice import find_lattice, letters

    lattice = find_lattice(ndimage.find_objects(labels), areas, um, LEAST_CORES)
    if lattice is None:
        return None
    names = [f"{letters(row)}{column + 1}" for row, column in lattice.places]
    return _layout("core", tissue, names, _renumbered(labels, lattice.places_of_pieces))


def _pixels(tissue: TissueMask) -> int:
    """How many pixels of the mask, across and down, one of the raster spans."""
    return -(-max(tissue.mask.shape) // LONG_SIDE)


def _layout(
    kind: Literal["section", "core"], tissue: TissueMask, names: Sequence[str], labels: np.ndarray
) -> Layout:
    """The parts, by labels from 1 to the number of names."""
    step, (sx, sy) = _pixels(tissue), tissue.scale
    places = ndimage.find_objects(labels)[: len(names)]
    boxes = [
        tissue.box_of(*(slice(side.start * step, side.stop * step) for side in place)) for place in places
    ]
    parts = tuple(Part(name, box) for name, box in zip(names, boxes, strict=True))
    return Layout(kind, parts, labels, (sx * step, sy * step))


def _renumbered(labels: np.ndarray, number_of: np.ndarray) -> np.ndarray:
    """(h, w) labels in which piece i has the number `number_of[i - 1]`."""
    return np.concatenate([[0], number_of])[labels]


def _groups(raster: np.ndarray, labels: np.ndarray, areas: np.ndarray, um: float) -> np.ndarray:
    """(P,) group of each piece, from 0: first bodies by their gaps, then crumbs by what lies next to them."""
    largest = areas.max()
    bodies = np.flatnonzero((areas >= CRUMB * largest) | (areas >= LARGE_MM2))
    gaps = _gaps(labels, bodies, um)  # (B, B), µm
    reach = np.maximum(REACH_UM, REACH * 1000 * np.sqrt(np.maximum.outer(areas[bodies], areas[bodies])))
    group_of_body = _by_gaps(gaps, _linked(gaps <= reach), areas[bodies])
    group_of = np.zeros(len(areas), dtype=np.int64)
    group_of[bodies] = group_of_body
    crumbs = np.setdiff1d(np.arange(len(areas)), bodies)
    if len(crumbs):
        body_here = np.concatenate([[0], np.isin(np.arange(len(areas)), bodies)])[labels].astype(bool)
        _, (rows, columns) = ndimage.distance_transform_edt(~body_here, return_indices=True)
        at = tuple(np.array(ndimage.maximum_position(raster, labels, crumbs + 1)).T)  # rows, columns
        group_of[crumbs] = group_of[labels[rows[at], columns[at]] - 1]
    return group_of


def _gaps(labels: np.ndarray, bodies: np.ndarray, um: float) -> np.ndarray:
    """(B, B) shortest way between the edges of two pieces, µm."""
    from scipy.spatial import cKDTree

    edge = (labels > 0) & ~ndimage.binary_erosion(labels > 0)
    points = [np.argwhere(edge & (labels == body + 1)) for body in bodies]
    trees = [cKDTree(some) for some in points]
    gaps = np.zeros((len(bodies), len(bodies)))
    for i in range(len(bodies)):
        for j in range(i):
            gaps[i, j] = gaps[j, i] = trees[i].query(points[j])[0].min() * um
    return gaps


def _linked(near: np.ndarray) -> np.ndarray:
    """(B,) group of each of B things, from 0, where near ones are one group (B, B)."""
    from scipy.sparse.csgraph import connected_components

    return np.asarray(connected_components(near, directed=False)[1])


def _by_gaps(gaps: np.ndarray, groups: np.ndarray, areas: np.ndarray) -> np.ndarray:
    """The groups, joined across their narrow gaps where gaps are of two kinds and what comes out is alike."""
    count = int(groups.max()) + 1
    if count < 4:
        return groups
    between = np.array(
        [[gaps[np.ix_(groups == a, groups == b)].min() for b in range(count)] for a in range(count)]
    )
    widths = _tree(between)  # (count - 1,), ascending
    ratios = widths[1:] / widths[:-1]
    if ratios.max() < WIDER:
        return groups
    narrow = widths[: int(np.argmax(ratios)) + 1].max()
    joined = _linked(between <= narrow)[groups]
    sums = np.bincount(joined, weights=areas)
    several = len(sums) > 1 and np.bincount(_linked(between <= narrow)).min() > 1
    return joined if several and sums.max() <= ALIKE * sums.min() else groups


def _tree(distances: np.ndarray) -> np.ndarray:
    """(N - 1,) edges of the shortest tree that joins N things, ascending."""
    from scipy.sparse.csgraph import minimum_spanning_tree

    return np.sort(minimum_spanning_tree(distances).data)


def _in_reading_order(group_of: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(P,) groups numbered from 1, row by row and left to right."""
    places = ndimage.find_objects(_renumbered(labels, group_of + 1))
    waiting = sorted(range(len(places)), key=lambda i: (places[i][0].start, places[i][1].start))
    order: list[int] = []
    while waiting:
        top = places[waiting[0]][0]
        row = [i for i in waiting if _overlap(top, places[i][0]) >= 0.5]
        order += sorted(row, key=lambda i: (places[i][1].start, i))
        waiting = [i for i in waiting if i not in row]
    number = np.zeros(len(places), dtype=np.int64)
    number[order] = np.arange(1, len(places) + 1)
    return number[group_of]


def _overlap(a: slice, b: slice) -> float:
    """Common part of two spans, as a share of the shorter one."""
    common = min(a.stop, b.stop) - max(a.start, b.start)
    return float(common / min(a.stop - a.start, b.stop - b.start))


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))
