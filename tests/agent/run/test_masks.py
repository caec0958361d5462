"""A tissue mask survives the journal, bit for bit and small, and says how much of it was seen."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agent.evidence.coverage import coverage, packed, unpacked
from agent.run.journal import Journal
from agent.run.records import Action, Step
from core_model.slides.box import Box
from core_model.slides.tissue import TissueMask
from tools.records import Observation


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_a_mask_comes_back_bit_for_bit(height: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    tissue, unknown = rng.random((2, height, width)) < 0.4
    extent = None if seed % 2 else (width * 16.0, height * 16.0)
    box = Box(0, 0, width * 16 - seed % 3, height * 16 - seed % 5)
    before = TissueMask(tissue, unknown, 8.0 + rng.random(), box, 0.5, extent)
    after = unpacked(json.loads(json.dumps(packed(before))))
    assert np.array_equal(after.mask, tissue)
    assert np.array_equal(after.unknown, unknown)
    assert (after.mpp, after.slide_box, after.slide_mpp) == (before.mpp, before.slide_box, before.slide_mpp)
    assert after.extent == before.extent
    boxes = [Box(0, 0, width * 8, height * 8)]
    assert after.covered(boxes) == before.covered(boxes)
    assert after.area_mm2 == before.area_mm2


def test_the_mask_of_a_large_slide_stays_small(tmp_path: Path) -> None:
    rows, columns = np.indices((3000, 3000))
    tissue = (rows - 1500) ** 2 + (columns - 1500) ** 2 < 1200**2
    mask = TissueMask(tissue, np.zeros_like(tissue), 8.0, Box(0, 0, 96000, 96000), 0.25)
    Journal(tmp_path).put("tissue", "mask", packed(mask))
    assert (tmp_path / "journal" / "tissue-mask.json").stat().st_size < 60_000


def test_coverage_counts_what_was_shown_finely_enough() -> None:
    mask = np.zeros((60, 80), dtype=bool)
    mask[10:50, 10:70] = True
    tissue = TissueMask(mask, np.zeros_like(mask), 8.0, Box(0, 0, 640, 480), 1.0)

    def look(index: int, box: Box, mpp: float, image: str | None = "a.jpg") -> Step:
        seen = Observation(tool="zoom", text="t", box=box, mpp=mpp, image=image)
        return Step(index=index, action=Action(tool="zoom"), observation=seen, finding="f")

    steps = [
        look(1, Box(0, 0, 640, 480), 4.0),
        look(2, Box(80, 80, 240, 320), 2.0),
        look(3, Box(80, 80, 240, 160), 0.504),
        look(4, Box(320, 80, 240, 320), 0.5, image=None),
    ]
    assert coverage(tissue, steps) == {"0.5": 0.25, "2.0": 0.5, "8.0": 1.0}
    assert coverage(tissue, []) == {"0.5": 0.0, "2.0": 0.0, "8.0": 0.0}
