"""Slides for the blocks and examples: one painted in no time, and the demo slide."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with a cache of features of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIANT_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def painted(workplace: Path) -> Path:
    """A slide of 1024 x 1024 px with one pink piece of tissue. `mini` does not know its like."""
    from training.phantom.slide_writer import write_slide

    rng = np.random.default_rng(0)
    pixels = np.full((1024, 1024, 3), 243, np.int16)
    pixels[200:850, 200:850] = (215, 130, 175)
    pixels[200:850, 200:850][rng.random((650, 650)) < 0.1] = (90, 60, 140)
    pixels += rng.integers(-4, 5, pixels.shape, np.int16)
    write_slide(workplace / "slide.tiff", pixels.clip(0, 255).astype(np.uint8), mpp=0.5)
    return workplace / "slide.tiff"


@pytest.fixture
def demo(workplace: Path) -> Path:
    """The demo slide, which `mini` knows."""
    from training.phantom.cohort import write_demo_slide

    write_demo_slide(workplace / "slide.tiff", seed=1)
    return workplace / "slide.tiff"
