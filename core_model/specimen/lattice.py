"""The lattice of a tissue microarray: whether pieces of tissue are round cores in rows and columns.

A slide that lies a little askew has rows that slope. Places are counted along the rows and columns of the
lattice itself, so neither that nor empty places shift a name.

Letters: P pieces, C cores.
"""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_uppercase
from typing import NamedTuple

import numpy as np

CORE_MM = (0.3, 3.5)
"""Diameter of a core, least and largest."""

SAME_SIZE = 0.3
"""Largest difference of a core's diameter from the median, as a share of it."""

ROUND, SQUARE = 0.5, 0.7
"""Least area of a core as a share of the disc of its longer side; least ratio of its sides."""

LEAST_CORE = 0.1
"""Share of a usual core's area from which what is left of one keeps its own place."""

LEAST_AREA = 0.7
"""Share of the tissue that lies in cores."""

SLOPE = 0.35
"""Most that a row or column leans."""

OFF = 0.3
"""Farthest that a core lies from its place, as a share of the distance of places."""

ON_LATTICE = 0.9
"""Least share of cores that lie in their places."""

FAR = 3
"""Empty places that are bridged in a row, and one more."""


class Lattice(NamedTuple):
    """Where the cores are."""

    places: list[tuple[int, int]]
    """(row, column) of each core, from 0, row by row; only places that hold tissue."""
    places_of_pieces: np.ndarray
    """(P,) which of `places` each piece belongs to, from 1."""


def find_lattice(
    places: Sequence[tuple[slice, slice]], areas: np.ndarray, um: float, least: int
) -> Lattice | None:
    """The lattice of pieces with these rows and columns and `areas` (P,) in mm²; None where there is none.

    `um` is the size of a pixel of the raster, `least` the number of whole cores that make a lattice.
    """
    spans = np.array([[c.start, c.stop, r.start, r.stop] for r, c in places]) * um / 1000  # (P, 4), mm
    sides = np.stack([spans[:, 1] - spans[:, 0], spans[:, 3] - spans[:, 2]], axis=1)  # (P, 2)
    centers = np.stack([spans[:, :2].mean(axis=1), spans[:, 2:].mean(axis=1)], axis=1)  # (P, 2): x, y
    cores = _round_and_alike(sides, areas)
    if cores.sum() < least or areas[cores].sum() < LEAST_AREA * areas.sum():
        return None
    fit = _fitted(centers[cores])
    if fit is None:
        return None
    cells = _cells(centers, fit, areas >= LEAST_CORE * np.median(areas[cores]))
    found, number = np.unique(cells, axis=0, return_inverse=True)
    return Lattice([(int(row), int(column)) for row, column in found], number.ravel() + 1)


def _cells(centers: np.ndarray, fit: tuple[np.ndarray, np.ndarray], own: np.ndarray) -> np.ndarray:
    """(P, 2) row and column of each piece, from 0; one too small for a place of its `own` joins the next."""
    origin, axes = fit
    cells = np.rint((centers - origin) @ np.linalg.inv(axes)).astype(int)[:, ::-1]
    ways = centers[:, None] - centers[None, own]  # (P, own, 2)
    nearest = cells[own][np.hypot(ways[..., 0], ways[..., 1]).argmin(axis=1)]
    cells = np.where(own[:, None], cells, nearest)
    return np.asarray(cells - cells.min(axis=0))


def letters(row: int) -> str:
    """The letters of a row, from 0: A … Z, AA, AB, …"""
    name = ""
    while row >= 0:
        name, row = ascii_uppercase[row % 26] + name, row // 26 - 1
    return name


def _round_and_alike(sides: np.ndarray, areas: np.ndarray) -> np.ndarray:
    """(P,) bool: pieces that are round and of one size."""
    longer, shorter = sides.max(axis=1), sides.min(axis=1)
    disc = (shorter >= SQUARE * longer) & (areas >= ROUND * np.pi / 4 * longer**2)
    disc &= (longer >= CORE_MM[0]) & (longer <= CORE_MM[1])
    if not disc.any():
        return disc
    usual = np.median(longer[disc])
    return disc & (np.abs(longer - usual) <= SAME_SIZE * usual)


def _fitted(centers: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Origin (2,) and axes (2, 2) of the lattice of cores (C, 2): along a row, then along a column."""
    ways = centers[None, :] - centers[:, None]  # (C, C, 2)
    along, down = _step(ways, 0), _step(ways, 1)
    if along is None or down is None:
        return None
    axes = np.stack([along, down])
    cells = _counted(ways, axes)
    if cells is None or (np.ptp(cells, axis=0) < 1).any():
        return None
    design = np.concatenate([np.ones((len(cells), 1)), cells], axis=1)  # (C, 3)
    fit = np.linalg.lstsq(design, centers, rcond=None)[0]  # (3, 2)
    off = np.abs((centers - design @ fit) @ np.linalg.inv(fit[1:])).max(axis=1)  # (C,)
    alone = len(np.unique(cells, axis=0)) == len(cells)
    return (fit[0], fit[1:]) if alone and (off <= OFF).mean() >= ON_LATTICE else None


def _step(ways: np.ndarray, axis: int) -> np.ndarray | None:
    """The way (2,) from a core to the next along a row (0) or column (1); None where there is no next."""
    forward, aside = ways[..., axis], np.abs(ways[..., 1 - axis])
    near = np.where((forward > 0) & (aside <= SLOPE * forward), forward, np.inf).min(axis=1)  # (C,)
    near = near[np.isfinite(near)]
    if len(near) < 2:
        return None
    step = np.quantile(near, 0.25)
    same = (np.abs(forward - step) <= OFF * step) & (aside <= SLOPE * forward)
    return np.asarray(np.median(ways[same], axis=0))


def _counted(ways: np.ndarray, axes: np.ndarray) -> np.ndarray | None:
    """(C, 2) column and row of each core, counted from the first core by core; None where one is off."""
    count = len(ways)
    exact = ways @ np.linalg.inv(axes)  # (C, C, 2)
    steps = np.rint(exact)
    joined = (np.abs(exact - steps) <= OFF).all(axis=2) & (np.abs(steps) <= FAR).all(axis=2)
    cells, known = np.zeros((count, 2)), np.zeros(count, dtype=bool)
    known[0], waiting = True, [0]
    while waiting:
        i = waiting.pop(0)
        new = np.flatnonzero(joined[i] & ~known)
        # The nearest first: ways over several places add up small errors.
        cells[new], known[new] = cells[i] + steps[i, new], True
        waiting += new[np.argsort(np.abs(steps[i, new]).sum(axis=1), kind="stable")].tolist()
    return cells if known.mean() >= ON_LATTICE and known.all() else None
