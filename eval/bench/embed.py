"""Embedding from file to features: beside the encoder alone on tiles in memory, and as tissue grows.

    reading alone · the encoder alone · end to end      the same tiles, in turns, in one process
    a slide, and one with four times its tissue         each indexed in a process of its own

The slides are made of a small one, repeated, and kept.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.bench.measure import MIB, answer_parent, hardware, in_own_process, memory_peak, reset_memory_peak
from eval.tables import figures_table

if TYPE_CHECKING:
    from rich.table import Table

SIDES = (8192, 16384)
"""Sides of two slides of which the second has four times the tissue, px."""
MODULE = "eval.bench.embed"


@dataclass(frozen=True)
class Rates:
    """Tiles per second, medians over rounds; `ratio` is the median of the rounds' own ratios."""

    tiles: int
    threads: int
    readers: int
    reading: float
    encoder: float
    together: float
    ratio: float
    """End to end as a share of the encoder alone."""
    cpu_ratio: float
    """The same by CPU seconds, which tells more where other work is on the machine."""


@dataclass(frozen=True)
class Growth:
    """What indexing one slide took."""

    side: int
    tiles: int
    seconds: float
    peak: int
    """Bytes that the process held at most."""


def main(slide: Path, side: int, work: Path, tiles: int, rounds: int, model: str, as_json: bool) -> None:
    """Make the slides where they are not there, measure, print tables or JSON."""
    from agent.cli.streams import ascii_json
    from agent.cli.terminal import stderr, stdout

    large = {px: work / f"{slide.stem}-{px}.tiff" for px in (side, *SIDES)}
    for px, path in large.items():
        if not path.exists():
            stderr().print(f"Writing {path}")
            in_own_process(MODULE, "write", str(slide), str(path), str(px), where=path)
    rates = Rates(**in_own_process(MODULE, "rates", str(large[side]), str(tiles), str(rounds), model))
    grown = [Growth(**in_own_process(MODULE, "growth", str(large[px]), str(px), model)) for px in SIDES]
    if as_json:
        import json

        found = {"hardware": hardware(), "rates": asdict(rates), "growth": [asdict(one) for one in grown]}
        print(ascii_json(json.dumps(found)))
        return
    stdout().print(
        f"{hardware()}; {large[side].name}, {rates.tiles} tiles, median of {rounds} rounds in turns"
    )
    stdout().print(rates_table(rates))
    stdout().print(growth_table(grown))


def rates_table(rates: Rates) -> Table:
    """The three rates, for a terminal."""
    table = figures_table([f"{rates.threads} threads"], ["tiles/s", "of the encoder alone", "by CPU time"])
    table.add_row(f"reading alone, {rates.readers} readers", f"{rates.reading:.0f}", "", "")
    table.add_row("the encoder alone", f"{rates.encoder:.1f}", "1", "1")
    ratios = (f"{rates.ratio:.3f}", f"{rates.cpu_ratio:.3f}")
    table.add_row("end to end", f"{rates.together:.1f}", *ratios)
    return table


def growth_table(grown: list[Growth]) -> Table:
    """Time and memory of both slides, and how many times those of the first the second takes."""
    table = figures_table(["side, px"], ["tiles", "s", "peak MB"])
    for one in grown:
        table.add_row(str(one.side), str(one.tiles), f"{one.seconds:.1f}", f"{one.peak / MIB:.0f}")
    first, last = grown[0], grown[-1]
    times = (last.tiles / first.tiles, last.seconds / first.seconds, last.peak / first.peak)
    table.add_row("times", *(f"{value:.2f}" for value in times))
    return table


def measure_rates(slide_path: str, tiles: int, rounds: int, model: str) -> Rates:
    """Read, encode, and both, in turns, the first `tiles` tiles in the order of reading."""
    import numpy as np
    import torch

    from core_model.features.extract import encode_grid
    from core_model.features.grid import MIN_TISSUE, tile_grid
    from core_model.features.reading import choose_pace, read_steps, reading_order, steps_of
    from core_model.models.tile_encoders import load_tile_encoder
    from core_model.slides.slide import open_slide
    from core_model.slides.tissue import find_tissue

    encoder: Any = load_tile_encoder(model)
    with open_slide(slide_path) as slide:
        grid = tile_grid(slide, find_tissue(slide), encoder.tile_um, MIN_TISSUE)
        grid = grid.only(np.sort(reading_order(grid)[:tiles]))
        steps, pace = steps_of(grid, encoder.step), choose_pace(encoder.tile_px, encoder.step)

        def read() -> list[list[Any]]:
            pieces = read_steps(slide, grid, encoder.mpp, steps, lambda images: images, pace)
            return [[image for piece in step if piece.tiles for image in piece.prepared] for step in pieces]

        cached = read()
        ways: list[Callable[[], object]] = [
            read,
            lambda: [encoder.encode(images) for images in cached],
            lambda: encode_grid(slide, encoder, grid, pace=pace),
        ]
        encoder.encode(cached[0])
        times = np.array([[_seconds(way) for way in ways] for _ in range(rounds)])  # (rounds, 3, 2)
    reading, alone, together = len(grid) / np.median(times[..., 0], axis=0)
    ratio, cpu_ratio = np.median(times[:, 1] / times[:, 2], axis=0)
    figures = (float(value) for value in (reading, alone, together, ratio, cpu_ratio))
    return Rates(len(grid), torch.get_num_threads(), pace.readers, *figures)


def measure_growth(slide_path: str, side: int, model: str) -> Growth:
    """Index a slide that nothing is known of: tissue, tiles, features in a store."""
    from core_model.features.extract import extract
    from core_model.features.store import FeatureStore
    from core_model.models.tile_encoders import load_tile_encoder
    from core_model.slides.slide import open_slide

    encoder, folder = load_tile_encoder(model), Path(tempfile.mkdtemp(prefix="giant-bench-"))
    try:
        reset_memory_peak()
        start = time.perf_counter()
        with open_slide(slide_path) as slide:
            features = extract(slide, encoder, FeatureStore(folder))
        return Growth(side, len(features), time.perf_counter() - start, memory_peak())
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds, and CPU seconds of this process."""
    start, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - start, time.process_time() - cpu


def _do(job: str, *args: str) -> dict[str, Any]:
    if job == "rates":
        slide, tiles, rounds, model = args
        return asdict(measure_rates(slide, int(tiles), int(rounds), model))
    if job == "growth":
        slide, side, model = args
        return asdict(measure_growth(slide, int(side), model))
    from eval.bench.pyramid import write_large

    source, target, px = args
    write_large(Path(source), Path(target), int(px))
    return {}


if __name__ == "__main__":
    answer_parent(_do)
