"""The tile encoder's bench runs on any device and counts its work as a counter of torch does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

from core_model.config import TileEncoderConfig
from core_model.errors import UsageError
from eval.bench import gigapath

TINY = TileEncoderConfig.gigapath().model_copy(
    update={"embed_dim": 64, "depth": 2, "heads": 1, "ffn_dim": 176, "tile_px": 64, "crop_px": 48}
)


def test_operations_are_those_that_torch_counts() -> None:
    encoder = gigapath.random_encoder(TINY, "cpu")
    encoder.bf16 = False
    encoder.network.float().set_attn_implementation("eager")  # the counter knows no fused attention of a CPU
    with FlopCounterMode(display=False) as counter:
        encoder.network(pixel_values=torch.zeros(3, 3, 48, 48))
    assert counter.get_total_flops() == 3 * gigapath.tile_flops(TINY)


def test_the_full_network_takes_what_its_size_says() -> None:
    """Two operations per weight and token, and the attention's own few percent."""
    full = TileEncoderConfig.gigapath()
    assert gigapath.tile_flops(full) == pytest.approx(2 * 1.13e9 * 197, rel=0.03)


def test_every_batch_size_is_timed() -> None:
    speeds = gigapath.measure_batches(gigapath.random_encoder(TINY, "cpu"), TINY, (1, 3), use_compile=False)
    assert [speed.batch for speed in speeds] == [1, 3]
    for speed in speeds:
        assert speed.tiles_per_second == pytest.approx(speed.batch / speed.seconds)
        assert speed.rate == pytest.approx(speed.tiles_per_second * gigapath.tile_flops(TINY))
        assert speed.peak_gb > 0


def test_compiling_is_asked_of_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, asked = gigapath.random_encoder(TINY, "cpu"), list[dict[str, Any]]()
    monkeypatch.setattr(encoder.network, "compile", lambda **how: asked.append(how))
    gigapath.measure_batches(encoder, TINY, (1,), use_compile=True)
    assert asked == [{"dynamic": False}], "one kernel for each batch size, none for any"


def test_the_command_prints_figures_and_their_share() -> None:
    from agent.cli.app import build_app

    result = CliRunner().invoke(build_app(), ["bench", "gigapath", "--small", "--batch", "2"])
    assert result.exit_code == 0, result.output
    for part in ("tiles/s", "of matmul", "peak GB", "GFLOP per tile", "matrix product reaches", "CPU"):
        assert part in result.stdout


def test_a_batch_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="--batch"):
        gigapath.main(small=True, use_compile=False, batches=[0])
