"""Regions of masks: what scipy finds pixel by pixel is found from runs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from core_model.slides.regions import (
    close_gaps,
    closed,
    dilated,
    eroded,
    fill_holes,
    opened,
    regions_of,
    without_specks,
)

MASKS = arrays(bool, st.tuples(st.integers(1, 14), st.integers(1, 14)))


@pytest.mark.parametrize("corners", [False, True])
@given(mask=MASKS)
@settings(max_examples=150, deadline=None)
def test_regions_areas_and_boxes_are_those_of_labelled_pixels(corners: bool, mask: np.ndarray) -> None:
    labels, count = ndimage.label(mask, np.ones((3, 3)) if corners else None)
    regions = regions_of(mask, corners)
    assert regions.count == count
    assert regions.areas.tolist() == np.bincount(labels.ravel(), minlength=count + 1)[1:].tolist()
    places = ndimage.find_objects(labels)
    assert regions.boxes().tolist() == [[r.start, c.start, r.stop, c.stop] for r, c in places]
    for i in range(count):
        drawn = np.zeros_like(mask)
        regions.draw(drawn, np.arange(count) == i, True)
        assert np.array_equal(drawn, labels == i + 1)


@given(data=st.data(), mask=MASKS)
@settings(max_examples=60, deadline=None)
def test_pixels_of_another_mask_are_counted_by_region(data: st.DataObject, mask: np.ndarray) -> None:
    other = data.draw(arrays(bool, mask.shape))
    labels, count = ndimage.label(mask)
    counts = np.bincount(labels[other], minlength=count + 1)[1:]
    assert regions_of(mask, corners=False).count_in(other).tolist() == counts.tolist()


@given(mask=MASKS, px=st.integers(0, 20))
@settings(max_examples=100, deadline=None)
def test_holes_and_specks_by_size(mask: np.ndarray, px: int) -> None:
    def small(of: np.ndarray, structure: np.ndarray | None, most: int) -> np.ndarray:
        labels, count = ndimage.label(of, structure)
        sizes = np.bincount(labels.ravel(), minlength=count + 1)
        return (sizes <= most)[labels] & of

    before = mask.copy()
    assert np.array_equal(fill_holes(mask, px), mask | small(~mask, None, px))
    assert np.array_equal(without_specks(mask, px), mask & ~small(mask, np.ones((3, 3)), px - 1))
    assert np.array_equal(mask, before), "what is given stays as it is"


@given(mask=MASKS, times=st.integers(1, 3))
@settings(max_examples=100, deadline=None)
def test_growing_and_shrinking_are_those_of_scipy(mask: np.ndarray, times: int) -> None:
    assert np.array_equal(dilated(mask), ndimage.binary_dilation(mask))
    assert np.array_equal(eroded(mask), ndimage.binary_erosion(mask))
    wide = ndimage.binary_closing(np.pad(mask, times), iterations=times)
    assert np.array_equal(closed(mask, times), wide[times:-times, times:-times])
    assert np.array_equal(opened(mask), ndimage.binary_opening(mask, np.ones((2, 2))))


@given(mask=MASKS, barrier=MASKS, reach=st.integers(1, 3), least=st.integers(1, 12))
@settings(max_examples=150, deadline=None)
def test_closing_gaps_joins_no_pieces_and_crosses_no_barrier(
    mask: np.ndarray, barrier: np.ndarray, reach: int, least: int
) -> None:
    wide = np.zeros_like(mask)
    h, w = (min(a, b) for a, b in zip(mask.shape, barrier.shape, strict=True))
    wide[:h, :w] = barrier[:h, :w]
    wide &= ~mask
    joined = close_gaps(mask, wide, reach, least)
    assert not (mask & ~joined).any()
    assert not (joined & ~closed(mask, reach)).any()
    beside = ndimage.binary_dilation(wide, np.ones((3, 3)))
    assert not (joined & ~mask & beside).any()
    pieces, _ = ndimage.label(mask, np.ones((3, 3)))
    large = np.bincount(pieces.ravel()) >= least
    large[0] = False
    new, count = ndimage.label(joined & ~mask)
    reached = [ndimage.binary_dilation(new == i + 1, np.ones((3, 3))) for i in range(count)]
    assert all(len(set(pieces[area & large[pieces]])) <= 1 for area in reached)
