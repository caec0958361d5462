"""The benches measure what they say; no figure is asserted, only that each part is there."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

from core_model import open_slide
from core_model.config import SlideEncoderConfig
from core_model.errors import GiantError, UsageError
from core_model.slides.box import Box
from eval.bench import slide_encoder, startup
from eval.bench.measure import MIB, ResourceMeter
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
    meter = ResourceMeter()
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


def test_startup_is_the_median_of_commands_run_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both run once before anything counts; the seconds here are given, so no clock decides."""
    given = iter([50.0, 60.0, 1.0, 4.0, 2.0, 9.0, 3.0, 5.0])
    commands: list[str] = []
    monkeypatch.setattr(startup, "_seconds", lambda code: commands.append(code) or next(given))
    assert startup.time_startup(rounds=3) == (2.0, 5.0)
    assert commands == [startup.IMPORT, startup.HELP] * 4


def test_a_command_that_fails_has_no_time() -> None:
    startup._seconds(startup.HELP)
    with pytest.raises(GiantError, match="no such thing"):
        startup._seconds("raise SystemExit('no such thing')")


def slide_bench(*args: str) -> str:
    from agent.cli.app import build_app

    result = CliRunner().invoke(build_app(), ["bench", "slide-encoder", "--small", "--device", "cpu", *args])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_slide_encoder_is_measured_at_every_size() -> None:
    """Each in a process of its own."""
    told = slide_bench("--tiles", "30,300")
    for part in ("tiles/s", "peak GB", "TFLOP/s", "float32", "30 to 300 tiles", "times the arithmetic"):
        assert part in told


def test_figures_of_the_slide_encoder_as_json() -> None:
    found = json.loads(slide_bench("--tiles", "40", "--bf16", "--json"))
    (run,) = found["runs"]
    assert run["tiles"] == 40
    assert run["seconds"] > 0
    assert run["peak"] > 50 * MIB  # torch alone holds more
    assert run["flops"] == slide_encoder.encoder_flops(slide_encoder.small_slide_config(), 40)
    assert (found["bf16"], found["tenfold"]) == (True, [])


@pytest.mark.parametrize("text", ["", "1000,x", "0", "10,-1"])
def test_sizes_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--tiles"):
        slide_encoder.sizes_of(text)


def test_a_failed_size_says_which_and_why() -> None:
    with pytest.raises(GiantError, match=r"900,000 tiles.*position grid"):
        slide_encoder.main((900000,), small=True, bf16=False, device="cpu", as_json=False)


def test_operations_of_the_slide_encoder_are_those_that_torch_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    from core_model.encoders import fused
    from core_model.encoders.slide_encoder import LongNetViT

    monkeypatch.setattr(fused, "KERNELS", ())  # the counter knows no fused attention
    config = slide_encoder.small_slide_config().model_copy(update={"segment_length": (32, 64, 99, 200, 200)})
    network, coords = LongNetViT(config).eval(), slide_encoder.tile_corners(150, config)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 150, config.in_chans), coords)
    assert counter.get_total_flops() == slide_encoder.encoder_flops(config, 150)


def test_the_full_slide_encoder_takes_what_its_size_says() -> None:
    """Two operations per weight and token, and the attention's own."""
    full = SlideEncoderConfig.gigapath()
    assert slide_encoder.encoder_flops(full, 1) == pytest.approx(2 * 2 * 85e6, rel=0.02)
    assert slide_encoder.encoder_flops(full, 100_000) > 2 * 2 * 86e6 * 100_000


def test_tiles_of_the_bench_lie_on_the_position_grid() -> None:
    config = SlideEncoderConfig.gigapath()
    cells = slide_encoder.tile_corners(100_000, config)[0] / config.tile_size
    assert len(cells.unique(dim=0)) == 100_000
    assert cells.max() < config.slide_ngrids / 2
