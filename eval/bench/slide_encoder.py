"""Time and peak memory of the slide encoder as slides grow, with random weights of the published size.

Letters: N tiles, D channels. Every size runs in a process of its own, so that its peak memory is its own. The
clock starts when network and tiles are in memory and a few tiles have been encoded.

Beside the time stands the arithmetic that the network asks for. It grows faster than the tiles: the two
longest attention segments are longer than any of these slides, and the third than most.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from core_model.config import SlideEncoderConfig
from core_model.errors import UsageError
from eval.bench.measure import answer_parent, hardware, in_own_process, memory_peak
from eval.tables import figures_table

if TYPE_CHECKING:
    from rich.table import Table
    from torch import Tensor

SIZES = (1000, 10000, 50000, 100000)
TOKENS = 576
WARM_UP = 256
"""Tiles that are encoded before the clock starts."""


@dataclass(frozen=True)
class SizeRun:
    """Time and memory of one size."""

    tiles: int
    seconds: float
    cpu_seconds: float
    """Of all threads: what others do on the machine changes it less."""
    peak: int
    """Most bytes held: by the whole process, or on the GPU where there is one."""
    flops: float
    """Floating-point operations of the network's matrix products."""
    threads: int
    device: str


def main(sizes: Sequence[int], small: bool, bf16: bool, device: str | None, as_json: bool) -> None:
    """Measure every size; print a table, or one JSON object."""
    from agent.cli.terminal import stderr, stdout

    runs = []
    for tiles in sizes:
        stderr().print(f"Encoding {tiles:,} tiles")
        arguments = {"tiles": tiles, "small": small, "bf16": bf16, "device": device}
        where = f"{tiles:,} tiles"
        record = in_own_process("eval.bench.slide_encoder", json.dumps(arguments), where=where)
        runs.append(SizeRun(**record))
    if as_json:
        record = {"hardware": hardware(), "small": small, "bf16": bf16, "runs": [asdict(run) for run in runs]}
        print(json.dumps(record | {"tenfold": tenfold(runs)}, indent=1))
        return
    where = f"{runs[0].device}, {'bf16' if bf16 else 'float32'}"
    stdout().print(f"{hardware()}; {where}; {'a small network' if small else 'the full network'}")
    stdout().print(sizes_table(runs))
    for pair in tenfold(runs):
        stdout().print(
            f"{pair['from']:,} to {pair['to']:,} tiles: {pair['time']:.1f} times the time,"
            f" {pair['cpu_time']:.1f} times the CPU time, {pair['flops']:.1f} times the arithmetic"
        )


def sizes_of(text: str | None) -> tuple[int, ...]:
    """Numbers of tiles as a user lists them, "1000,10000"; the four of `SIZES` where there are none."""
    if text is None:
        return SIZES
    try:
        sizes = tuple(int(part) for part in text.split(","))
    except ValueError:
        sizes = (0,)
    if min(sizes) < 1:
        raise UsageError(
            f"'{text}' is not a list of numbers of tiles", fix="Give for example --tiles 1000,10000"
        )
    return sizes


def measure_size(tiles: int, small: bool, bf16: bool, device: str | None) -> SizeRun:
    """Encode random features of so many tiles once, in this process."""
    import torch

    from core_model.devices import device_name, usable_device, wait_for_device
    from core_model.encoders.slide_encoder import LongNetViT

    device = usable_device(device)
    config = small_slide_config() if small else SlideEncoderConfig.gigapath()
    torch.manual_seed(0)
    with torch.device(device):
        network = LongNetViT(config).eval()
    features = torch.randn(1, tiles, config.in_chans, device=device)
    coords = tile_corners(tiles, config).to(device)
    with torch.inference_mode(), torch.autocast(torch.device(device).type, torch.bfloat16, enabled=bf16):
        network.slide_tokens(features[:, :WARM_UP], coords[:, :WARM_UP], TOKENS)
        wait_for_device(device)
        start, cpu_start = time.perf_counter(), time.process_time()
        network.slide_tokens(features, coords, TOKENS)
        wait_for_device(device)
        seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    memory = torch.cuda.max_memory_allocated(device) if torch.device(device).type == "cuda" else memory_peak()
    flops, threads = encoder_flops(config, tiles), torch.get_num_threads()
    return SizeRun(tiles, seconds, cpu_seconds, memory, flops, threads, device_name(device))


def tile_corners(tiles: int, config: SlideEncoderConfig) -> Tensor:
    """Corners (1, N, 2) of tiles that fill a block of 4:3 row by row, in px at the encoder's mpp."""
    import torch

    columns = math.ceil(math.sqrt(tiles * 4 / 3))
    at = torch.arange(tiles)
    return torch.stack([at % columns, at // columns], dim=-1)[None].float() * config.tile_size


def encoder_flops(config: SlideEncoderConfig, tiles: int) -> float:
    """Operations to encode a slide: two for each multiplication and addition of a matrix product."""
    from core_model.encoders.longnet import score_count

    D, tokens = config.embed_dim, tiles + 1
    pairs = score_count(tokens, config.heads, config.segments, config.dilated_ratio)
    layer = tokens * (4 * D * D + 2 * D * config.ffn_dim) + 2 * pairs * D // config.heads
    return 2.0 * (tiles * config.in_chans * D + config.depth * layer)


def small_slide_config() -> SlideEncoderConfig:
    """A slide encoder of this kind at a size that a CPU runs in no time."""
    return SlideEncoderConfig(in_chans=16, embed_dim=32, depth=2, heads=4, ffn_dim=64)


def tenfold(runs: Sequence[SizeRun]) -> list[dict[str, Any]]:
    """Growth of time and arithmetic from each size to ten times that size, where both were run."""
    return [
        {
            "from": a.tiles,
            "to": b.tiles,
            "time": b.seconds / a.seconds,
            "cpu_time": b.cpu_seconds / a.cpu_seconds,
            "flops": b.flops / a.flops,
        }
        for a in runs
        for b in runs
        if b.tiles == 10 * a.tiles
    ]


def sizes_table(runs: Sequence[SizeRun]) -> Table:
    """Sizes with their figures, and how time grows per tile from one size to the next."""
    titles = ["tiles", "s", "CPU s", "tiles/s", "peak GB", "TFLOP", "TFLOP/s"]
    table = figures_table([], [*titles, "time per tile", "work per tile"])
    for before, run in zip([None, *runs], runs, strict=False):
        figures = [f"{run.tiles:,}", f"{run.seconds:.2f}", f"{run.cpu_seconds:.2f}"]
        figures += [f"{run.tiles / run.seconds:.0f}", f"{run.peak / 1e9:.2f}", f"{run.flops / 1e12:.3g}"]
        figures += [f"{run.flops / run.seconds / 1e12:.3f}"]
        if before is not None:
            more = run.tiles / before.tiles
            figures += [f"× {run.seconds / before.seconds / more:.2f}"]
            figures += [f"× {run.flops / before.flops / more:.2f}"]
        table.add_row(*figures)
    return table


def _measure_as_told(arguments: str) -> dict[str, Any]:
    return asdict(measure_size(**json.loads(arguments)))


if __name__ == "__main__":
    answer_parent(_measure_as_told)
