"""Windows of tiles, and batches of regions of equal length."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from training.cohort.regions import (
    EXACT_LENGTH,
    batches_by_length,
    even_length,
    sample_regions,
    sample_window,
    thin,
)


@settings(deadline=None)
@given(st.integers(1, 40000))
def test_even_length_keeps_nearly_all_tiles(count: int) -> None:
    length = even_length(count)
    assert length <= count
    assert length == count if count <= EXACT_LENGTH else length > 0.93 * count
    assert even_length(length) == length


def test_a_window_holds_exactly_the_tiles_in_its_box(world: Any) -> None:
    rng = np.random.default_rng(0)
    name, features = next(iter(world.features.items()))
    extent = world.cohort.extents[name]
    sizes = set()
    for _ in range(200):
        region = sample_window(name, features, extent, rng)
        assert region.box is not None
        assert np.array_equal(region.tiles, np.flatnonzero(features.inside_mask(region.box, 0.99)))
        assert len(region.tiles) >= 1
        assert region.box.right <= extent[0]
        assert region.box.bottom <= extent[1]
        sizes.add(len(region.tiles))
    assert 1 in sizes
    assert max(sizes) > len(features) / 2


def test_slides_without_truth_are_shown_whole(world: Any) -> None:
    regions = sample_regions(world.features, {}, 40, 0.0, np.random.default_rng(0))
    assert all(region.box is None for region in regions)
    assert min(Counter(region.slide for region in regions).values()) == 1  # every slide is shown


def test_every_slide_comes_equally_often(world: Any) -> None:
    some = {name: world.features[name] for name in list(world.features)[:5]}
    regions = sample_regions(some, world.cohort.extents, 50, 0.5, np.random.default_rng(0))
    assert set(Counter(region.slide for region in regions).values()) == {10}


@settings(deadline=None)
@given(st.integers(0, 80), st.integers(1, 12), st.integers(1, 8))
def test_batches_are_full_and_their_groups_even(count: int, batch: int, together: int) -> None:
    lengths = np.random.default_rng(count).integers(1, 7, count).tolist()
    batches = batches_by_length(lengths, batch, together, np.random.default_rng(0))
    used = [i for groups in batches for group in groups for i in group]
    assert len(used) == len(set(used)) == len(lengths) // batch * batch
    for groups in batches:
        assert sum(map(len, groups)) == batch
        assert all(len(group) <= together and len({lengths[i] for i in group}) == 1 for group in groups)


def test_thin_keeps_order_and_number() -> None:
    kept = thin(np.arange(100), 40, np.random.default_rng(0))
    assert len(kept) == 40
    assert np.array_equal(kept, np.unique(kept))
    assert np.array_equal(thin(np.arange(5), 5, np.random.default_rng(0)), np.arange(5))


def test_coordinates_are_those_of_level_0(world: Any) -> None:
    """The same slide scanned at twice the resolution gives the same tiles in boxes twice as large."""
    name, features = next(iter(world.features.items()))
    fine = replace(features, coords=features.coords * 2, size=features.size * 2, slide_mpp=0.25)
    width, height = world.cohort.extents[name]
    one = sample_window(name, features, (width, height), np.random.default_rng(3))
    two = sample_window(name, fine, (2 * width, 2 * height), np.random.default_rng(3))
    assert np.array_equal(one.tiles, two.tiles)
    assert one.box is not None
    assert two.box == tuple(2 * v for v in one.box)
