"""Outlines of masks: filled again they are the mask, and every polygon is a valid one."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from core_model.specimen.outlines import Outline, outlines

MASKS = arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12)))


def area(ring: np.ndarray) -> float:
    """Signed area of a ring: above zero where it runs counter-clockwise, y upwards."""
    x, y = ring[:, 0], ring[:, 1]
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def filled(outline: Outline, shape: tuple[int, int]) -> np.ndarray:
    """The pixels whose centre an upward ray from it leaves by an odd number of edges."""
    rows, columns = np.indices(shape) + 0.5
    inside = np.zeros(shape, dtype=bool)
    for ring in (ring for rings in outline.polygons for ring in rings):
        for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
            if y0 == y1:
                inside ^= (rows > y0) & (columns > min(x0, x1)) & (columns < max(x0, x1))
    return inside


@given(mask=MASKS)
@settings(max_examples=300, deadline=None)
def test_outlines_filled_again_are_the_mask(mask: np.ndarray) -> None:
    labels, count = ndimage.label(mask, np.ones((3, 3)))
    pieces = outlines(mask)
    assert len(pieces) == count
    assert [piece.pixels for piece in pieces] == sorted(np.bincount(labels.ravel())[1:], reverse=True)
    seen = set()
    for piece in pieces:
        again = filled(piece, mask.shape)
        (number,) = set(labels[again])
        assert np.array_equal(again, labels == number)
        seen.add(number)
    assert seen == set(range(1, count + 1))


@given(mask=MASKS)
@settings(max_examples=300, deadline=None)
def test_areas_are_exact_and_polygons_valid(mask: np.ndarray) -> None:
    for piece in outlines(mask):
        rings = [ring for polygon in piece.polygons for ring in polygon]
        assert sum(area(ring) for ring in rings) == piece.pixels
        for outer, *holes in piece.polygons:
            assert area(outer) > 0
            assert all(area(hole) < 0 for hole in holes)
        for ring in rings:
            steps = np.roll(ring, -1, axis=0) - ring
            assert ((steps == 0).sum(axis=1) == 1).all(), "edges are upright or level"
            assert ((steps[:, 0] == 0) != (np.roll(steps, -1, axis=0)[:, 0] == 0)).all(), "and turn"
            assert len({tuple(corner) for corner in ring.tolist()}) == len(ring), "no place twice"


def test_pixels_that_touch_at_a_corner_are_two_polygons_of_one_piece() -> None:
    (piece,) = outlines(np.eye(2, dtype=bool))
    assert [len(polygon) for polygon in piece.polygons] == [1, 1]
    assert piece.polygons[0][0].tolist() == [[0, 0], [1, 0], [1, 1], [0, 1]]


def test_a_hole_that_reaches_the_edge_by_a_corner_is_a_hole() -> None:
    mask = np.ones((3, 3), dtype=bool)
    mask[1, 1] = mask[2, 2] = False
    (piece,) = outlines(mask)
    ((outer, hole),) = piece.polygons
    assert (area(outer), area(hole)) == (8, -1)


def test_an_empty_mask_has_no_outline() -> None:
    assert outlines(np.zeros((4, 5), dtype=bool)) == []
