"""Where the survey looks: on tissue, spread over what differs, the same each time, and kept for a replay."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import agent_fakes as fakes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.navigators.survey import farthest, places, survey
from agent.run.journal import Journal
from core_model.errors import RunError
from core_model.features.tiles import TileFeatures
from core_model.slides.box import Box
from core_model.slides.tissue import TissueMask

PX = 250
SIDE = 500
"""Width of a window: 250 px at 2 µm/px on a slide of 1 µm/px."""


def context(features: TileFeatures, tissue: Box, journal: Journal | None = None) -> Any:
    """A slide of 4000 x 3000 px with tissue in one box."""
    mask = np.zeros((fakes.HEIGHT // 8, fakes.WIDTH // 8), dtype=bool)
    mask[tissue.y // 8 : tissue.bottom // 8, tissue.x // 8 : tissue.right // 8] = True
    slide = fakes.fake_slide()
    known = TissueMask(mask, np.zeros_like(mask), 8.0, slide.box, fakes.MPP)
    toolbox = SimpleNamespace(features=features)
    return SimpleNamespace(slide=slide, tissue=known, quality=None, toolbox=toolbox, journal=journal)


def test_it_takes_what_is_rare_early_and_stays_on_tissue() -> None:
    tiles = fakes.all_features()
    odd = (tiles.coords[:, 0] // SIDE == 6) & (tiles.coords[:, 1] // SIDE == 4)
    tiles.features[odd] = 50.0
    tissue = Box(500, 500, 3000, 2500)
    found = places(context(tiles, tissue), 6, PX)
    assert len(found) == 6
    assert len(set(found)) == 6
    assert all(box.overlap(tissue) >= 0.1 for box in found)
    assert any(box.overlap(Box(3000, 2000, SIDE, SIDE)) > 0.5 for box in found[:2])


def test_windows_without_readable_tiles_are_left_out() -> None:
    tiles = fakes.all_features()
    left = TileFeatures(
        tiles.features[tiles.coords[:, 0] < 1500],
        tiles.coords[tiles.coords[:, 0] < 1500],
        fakes.TILE,
        112.0,
        1.0,
        "",
    )
    found = places(context(left, Box(0, 0, 4000, 3000)), 40, PX)
    assert max(box.x for box in found) <= 1500


def test_without_any_features_places_are_spread_over_the_slide() -> None:
    none = fakes.all_features(tiles=0)
    found = places(context(none, Box(0, 0, 4000, 3000)), 2, PX)
    assert np.hypot(found[0].x - found[1].x, found[0].y - found[1].y) > 3000


def test_a_slide_that_the_overview_shows_as_finely_needs_no_survey() -> None:
    assert places(context(fakes.all_features(), Box(0, 0, 4000, 3000)), 8, 4000) == []


def test_a_small_slide_is_surveyed_closer_than_at_low_power() -> None:
    """At 2 µm/px one window would be the slide; a third of its length shows more than the overview does."""
    found = places(context(fakes.all_features(), Box(0, 0, 4000, 3000)), 8, 1000)
    assert {(box.w, box.h) for box in found} == {(1334, 1334)}
    assert len(set(found)) == 8


def test_places_are_kept_and_read_back_without_features(tmp_path: Path) -> None:
    tissue = Box(0, 0, 4000, 3000)
    first = survey(context(fakes.all_features(), tissue, Journal(tmp_path)), 4, PX)
    again = survey(context(None, tissue, Journal(tmp_path, replaying=True)), 4, PX)  # type: ignore[arg-type]
    assert again == first
    assert first[0].args["mpp"] == 2.0
    with pytest.raises(RunError):
        survey(context(None, tissue, Journal(tmp_path / "other", replaying=True)), 4, PX)  # type: ignore[arg-type]


@given(
    st.lists(st.tuples(st.floats(-9, 9), st.floats(-9, 9), st.floats(0, 1)), min_size=1, max_size=30),
    st.integers(0, 12),
)
def test_farthest_points_are_different_points_of_worth(points: list[tuple[float, ...]], most: int) -> None:
    table = np.array(points)
    found = farthest(table[:, :2], table[:, 2], most)
    assert len(found) == len(set(found)) == min(most, int((table[:, 2] > 0).sum()))
    assert all(table[i, 2] > 0 for i in found)
    assert found == farthest(table[:, :2], table[:, 2], most)
