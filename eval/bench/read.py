"""How fast tiles are read, beside a plain loop over openslide-python and beside OpenSlide behind `Slide`.

Every way reads the same boxes in the same run, in turns, from a file opened just before.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from core_model.errors import UsageError
from core_model.slides.box import Box
from eval.bench.measure import hardware
from eval.tables import figures_table

if TYPE_CHECKING:
    from core_model.slides.slide import Slide

THREADS = 2
Times = tuple[float, float]
"""Seconds, and CPU seconds."""

CHUNK = 16
"""Neighbouring tiles that a thread reads one after another."""


@dataclass(frozen=True)
class Way:
    """What is read, and how fast by each reader; times are medians over the rounds."""

    name: str
    tiles: int
    loop: float
    """Seconds of the loop over openslide-python, one thread."""
    one: float
    """Seconds of `Slide.read` in one thread."""
    many: float
    """Seconds of `Slide.read` in `THREADS` threads."""
    loop_cpu: float
    """CPU seconds of the loop."""
    one_cpu: float
    """CPU seconds of `Slide.read` in one thread."""

    @property
    def ratio(self) -> float:
        """How many times as fast as the loop `Slide.read` is with its threads."""
        return self.loop / self.many


def main(slide: Path, tiles: int, rounds: int, as_json: bool) -> None:
    """Print a line for each kind of reading."""
    from agent.cli.streams import ascii_json
    from agent.cli.terminal import stdout

    ways = measure(slide, tiles, rounds)
    if as_json:
        import json

        rows = [asdict(way) | {"ratio": way.ratio} for way in ways]
        print(ascii_json(json.dumps({"hardware": hardware(), "threads": THREADS, "ways": rows})))
        return
    table = figures_table(
        ["tiles read"], ["loop/s", "1 thread/s", f"{THREADS} threads/s", "times", "CPU times"]
    )
    for way in ways:
        speeds = [way.tiles / seconds for seconds in (way.loop, way.one, way.many)]
        table.add_row(
            way.name,
            *(f"{speed:.0f}" for speed in speeds),
            f"{way.ratio:.2f}",
            f"{way.loop_cpu / way.one_cpu:.2f}",
        )
    stdout().print(f"{hardware()}; {slide.name}; median of {rounds} rounds of {tiles} tiles, in turns")
    stdout().print(table)
    stdout().print(
        "loop: openslide-python, one thread; times: by threads, against the loop; CPU: one thread each"
    )


def measure(path: Path, tiles: int = 1500, rounds: int = 3) -> list[Way]:
    """Read `tiles` tiles of each kind. Raises `UsageError` where the slide is too small for one."""
    from core_model.models.tile_encoders import load_tile_encoder
    from core_model.slides.slide import open_slide

    encoder = load_tile_encoder("mini")
    with open_slide(path) as slide:
        side = round(encoder.tile_um / slide.mpp)
        grid = _grid(slide, side, tiles)
        out = round(side * slide.mpp / slide.effective_mpp(encoder.mpp))
        aligned, halved = _grid(slide, 256, tiles), _grid(slide, 512, tiles)
        mpp, fine = slide.mpp, slide.effective_mpp(encoder.mpp)
    ways = [
        _way(path, f"grid of the encoder, {side} px at {fine:g} µm/px", grid, fine, out, rounds),
        _way(path, "aligned, 256 px", aligned, mpp, 256, rounds),
        _way(path, "512 to 256 px, by the nearest level", halved, 2 * mpp, 256, rounds),
    ]
    if _made_half(path) is not None:
        ways.append(_way(path, "512 to 256 px, from level 0 alone", halved, None, 256, rounds))
    return ways


def _way(path: Path, name: str, boxes: Sequence[Box], mpp: float | None, out: int, rounds: int) -> Way:
    """Time a kind of reading; at `mpp`, or at half of level 0 without the help of other levels."""
    loops, ones, manys = [], [], []
    for _ in range(rounds):
        loops.append(_loop(path, boxes, out, nearest=mpp is not None))
        ones.append(_read(path, boxes, mpp, 1))
        manys.append(_read(path, boxes, mpp, THREADS))
    loop, one, many = (statistics.median(seconds for seconds, _ in runs) for runs in (loops, ones, manys))
    loop_cpu, one_cpu = (statistics.median(seconds for _, seconds in runs) for runs in (loops, ones))
    return Way(name, len(boxes), loop, one, many, loop_cpu, one_cpu)


def _grid(slide: Slide, side: int, count: int) -> list[Box]:
    """About `count` neighbouring tiles on a grid from (0, 0), around the slide's middle, row by row."""
    across, down = slide.width // side, slide.height // side
    columns = min(across, 64)
    rows = min(down, -(-count // columns)) if columns else 0
    if columns * rows < 4:
        raise UsageError(f"the slide has less than four tiles of {side} px", where=slide.name)
    x0, y0 = (across - columns) // 2 * side, (down - rows) // 2 * side
    return [Box(x0 + c * side, y0 + r * side, side, side) for r in range(rows) for c in range(columns)][
        :count
    ]


def _loop(path: Path, boxes: Sequence[Box], out: int, nearest: bool) -> Times:
    """What a script does: read RGBA at the nearest level, make it RGB, resize by the mean where it must."""
    import openslide
    from PIL import Image

    with openslide.OpenSlide(str(path)) as slide:
        level = slide.get_best_level_for_downsample(boxes[0].w / out) if nearest else 0
        side = round(boxes[0].w / slide.level_downsamples[level])
        clock = _Clock()
        for box in boxes:
            image = slide.read_region((box.x, box.y), level, (side, side)).convert("RGB")
            if image.width != out:
                image.resize((out, out), Image.Resampling.BOX)
        return clock.times()


def _read(path: Path, boxes: Sequence[Box], mpp: float | None, threads: int) -> Times:
    """The same boxes by `Slide.read`, or at half of level 0 alone."""
    from core_model.slides.slide import open_slide

    with open_slide(path) as slide:
        half = _made_half(path) if mpp is None else None

        def read(chunk: Sequence[Box]) -> None:
            for box in chunk:
                if mpp is not None:
                    slide.read(box, mpp)
                elif half is not None:
                    slide._source.read_level(half, box.x // 2, box.y // 2, box.w // 2, box.h // 2)

        chunks = [boxes[i : i + CHUNK] for i in range(0, len(boxes), CHUNK)]
        with ThreadPoolExecutor(threads) as pool:
            clock = _Clock()
            list(pool.map(read, chunks))
            return clock.times()


def _made_half(path: Path) -> int | None:
    """Number of the level that the reader makes of level 0 at its half; None where it makes none."""
    from core_model.slides.slide import open_slide

    with open_slide(path) as slide:
        source = slide._source
        made = (0, 2) in source.made_levels
        return len(source.level_dimensions) + source.made_levels.index((0, 2)) if made else None


class _Clock:
    """Seconds, and CPU seconds of the process, since it was made."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def times(self) -> Times:
        return time.perf_counter() - self._wall, time.process_time() - self._cpu
