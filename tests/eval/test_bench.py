"""The benches measure what they say; no figure is asserted, only that each part is there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core_model import open_slide
from core_model.errors import UsageError
from core_model.slide import Box
from eval.bench import startup
from eval.bench.measure import MIB, Meter
from eval.bench.pyramid import write_large

SIDE = 8192


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gradient of 330 x 210 px repeated to 8192 x 8192."""
    folder = tmp_path_factory.mktemp("large")
    y, x = np.indices((210, 330))
    pixels = np.stack([x * 255 // 329, y * 255 // 209, np.full_like(x, 120)], axis=-1).astype(np.uint8)
    Image.fromarray(pixels).save(folder / "small.png")
    source = folder / "small.tiff"
    Image.fromarray(pixels).save(source, resolution=20000, resolution_unit=3)
    return write_large(source, folder / "large.tiff", SIDE)


def test_large_slide_is_a_six_level_pyramid(large: Path) -> None:
    with open_slide(large) as slide:
        assert slide.level_dimensions == tuple((SIDE >> k, SIDE >> k) for k in range(6))
        assert slide.mpp == pytest.approx(0.5, rel=1e-3)


def test_every_level_repeats_the_source_in_place(large: Path) -> None:
    """The period is 320 x 192 px; level k shows at level-0 place (x, y) what the source shows there."""
    with open_slide(large) as slide:
        for mpp in (0.5, 1.0, 4.0):
            for corner in ((0, 0), (320 * 9, 192 * 17), (320 * 20, 192 * 30)):
                image = np.asarray(slide.read(Box(*corner, 320, 192), mpp), dtype=float)
                red = image[..., 0].mean(axis=0)
                expected = np.linspace(0, 247, len(red))
                assert np.abs(red - expected)[1:-1].max() < 24  # JPEG, and the seam at the edge
                assert image[..., 1].mean(axis=1)[len(image) // 2] == pytest.approx(117, abs=14)


def test_a_slide_that_is_there_is_kept(large: Path) -> None:
    before = large.stat().st_mtime_ns
    assert write_large(Path("not needed"), large, SIDE).stat().st_mtime_ns == before


def test_a_side_that_makes_no_pyramid_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="8192"):
        write_large(tmp_path / "a.tiff", tmp_path / "b.tiff", 5000)


def test_parts_carry_memory_and_notes() -> None:
    meter = Meter()
    with meter.part("grow") as note:
        block = np.ones(64 * MIB, dtype=np.uint8)
        note.append("64 MB")
    with meter.part("free"):
        del block
    grow, free = meter.parts
    assert (grow.name, grow.note) == ("grow", "64 MB")
    if Path("/proc/self/status").exists():
        assert grow.held > 50 * MIB
        assert free.held < -50 * MIB
        assert grow.peak >= grow.held


def test_startup_compares_two_real_commands() -> None:
    base, ours = startup.compare(rounds=1)
    assert base > 0
    assert ours > 0
