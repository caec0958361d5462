"""Time of finding the tissue and its grid, beside reading the level it is found on; how right the mask is.

    openslide-python reads the level · the tissue is found and the grid laid      in turns, in one process
    our mask · Otsu's threshold of the saturation · the truth of a cohort         intersection over union

Otsu's threshold is what many pipelines begin with; it takes ink for tissue, and so the two need not agree.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from core_model.errors import CohortError, UsageError
from eval.bench.measure import MIB, hardware, memory_held, memory_peak, reset_memory_peak
from eval.tables import figures_table

if TYPE_CHECKING:
    from core_model.slides.slide import Slide
    from core_model.slides.tissue import TissueMask

T = TypeVar("T")

TILE_UM = 112.0
"""Side of a tile of the grid."""

MOST_RATIO, MOST_SECONDS = 1.5, 0.5
"""CPU time that tissue and grid may take: as a share of reading the level alone, and in seconds."""


@dataclass(frozen=True)
class Speed:
    """CPU seconds on one slide, medians over the rounds."""

    level: tuple[int, int]
    """Size of the level that the tissue is found on, px."""
    level_mpp: float
    mask_mpp: float
    tiles: int
    baseline: float
    """Reading that level by openslide-python."""
    reading: float
    """Reading it as the finding of tissue does, in blocks of mask pixels."""
    tissue: float
    """Finding the tissue, with that reading."""
    grid: float
    """Laying the grid."""
    peak: int
    """Bytes that finding the tissue held at most above what was held before."""

    @property
    def ratio(self) -> float:
        """Tissue and grid together, as a multiple of the baseline."""
        return (self.tissue + self.grid) / self.baseline


@dataclass(frozen=True)
class Agreement:
    """Intersection over union of masks of one slide."""

    slide: str
    ours_otsu: float
    ours_truth: float | None
    otsu_truth: float | None


FIGURES = ("ours_otsu", "ours_truth", "otsu_truth")


def main(slide: Path | None, cohort: Path | None, rounds: int, as_json: bool) -> None:
    """Measure the slide, the cohort or both; print tables, or JSON. Raises `UsageError` for neither."""
    from agent.cli.streams import ascii_json
    from agent.cli.terminal import stdout

    if slide is None and cohort is None:
        raise UsageError("this bench needs a slide or a cohort", fix="Add --slide SLIDE or --cohort DIR")
    speed = measure(slide, rounds) if slide is not None else None
    rows = [agreement(slide)] if slide is not None else []
    rows += cohort_agreement(cohort) if cohort is not None else []
    if as_json:
        timed = None if speed is None else asdict(speed) | {"ratio": speed.ratio}
        facts = {"hardware": hardware(), "speed": timed, "iou": [asdict(row) for row in rows]}
        print(ascii_json(json.dumps(facts)))
        return
    stdout().print(hardware())
    if speed is not None:
        _print_speed(speed, rounds)
    _print_agreement(rows)


def measure(path: Path, rounds: int = 5) -> Speed:
    """Time reading and finding in turns, on files opened just before. Raises `UsageError`, `GiantError`."""
    from core_model.slides.slide import open_slide

    with open_slide(path) as slide:
        level = _level(slide)
        size, mpp = slide.level_dimensions[level], slide.mpp * slide.level_downsamples[level]
    baselines, runs = [], []
    for _ in range(rounds):
        baselines.append(_baseline(path, size))
        runs.append(_finding(path))
    return Speed(
        level=size,
        level_mpp=mpp,
        mask_mpp=runs[0].mask_mpp,
        tiles=runs[0].tiles,
        baseline=statistics.median(baselines),
        reading=statistics.median(run.reading for run in runs),
        tissue=statistics.median(run.tissue for run in runs),
        grid=statistics.median(run.grid for run in runs),
        peak=max(run.peak for run in runs),
    )


class _Run(NamedTuple):
    """CPU seconds of reading, finding and the grid; and what came of it."""

    reading: float
    tissue: float
    grid: float
    mask_mpp: float
    tiles: int
    peak: int


def _level(slide: Slide) -> int:
    """The stored level that the tissue is found on."""
    from core_model.slides.resample import block_window
    from core_model.slides.tissue import MOST_PX, MPP

    wanted = max(1.0, MPP / slide.mpp)
    return block_window(slide.level_downsamples, (slide.width, slide.height), wanted, MOST_PX)[0].level


def _baseline(path: Path, size: tuple[int, int]) -> float:
    """CPU seconds of reading the level of that size, as a script does. Raises `UsageError`."""
    import openslide

    try:
        with openslide.OpenSlide(str(path)) as slide:
            level = slide.level_dimensions.index(size)
            return _cpu(lambda: slide.read_region((0, 0), level, size).convert("RGB"))[0]
    except (openslide.OpenSlideError, ValueError) as error:
        raise UsageError(
            f"openslide-python does not read the level of {size[0]} x {size[1]} px ({error})",
            where=path,
            fix="Give a slide that it reads",
        ) from error


def _finding(path: Path) -> _Run:
    from core_model.features.grid import tile_grid
    from core_model.slides.slide import open_slide
    from core_model.slides.tissue import MOST_PX, MPP, find_tissue

    with open_slide(path) as slide:
        reading, _ = _cpu(lambda: slide.blocks(MPP, MOST_PX))
    with open_slide(path) as slide:
        held = memory_held()
        reset_memory_peak()
        finding, tissue = _cpu(lambda: find_tissue(slide))
        laying, grid = _cpu(lambda: tile_grid(slide, tissue, TILE_UM))
        return _Run(reading, finding, laying, tissue.mpp, len(grid), memory_peak() - held)


def _cpu(work: Callable[[], T]) -> tuple[float, T]:
    """CPU seconds that this process spent on `work`, and what it gave."""
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def agreement(path: Path, truth: Path | None = None) -> Agreement:
    """How far the masks of a slide agree; `truth` is the file of a cohort that says what was drawn."""
    from core_model.slides.slide import open_slide
    from core_model.slides.tissue import MPP, find_tissue

    with open_slide(path) as slide:
        tissue = find_tissue(slide)
        otsu = otsu_mask(np.asarray(slide.blocks(MPP, tissue.mask.size).image))  # on the same raster
        name = slide.name
    if truth is None:
        return Agreement(name, iou(tissue.mask, otsu), None, None)
    drawn = drawn_tissue(truth, tissue)
    return Agreement(name, iou(tissue.mask, otsu), iou(tissue.mask, drawn), iou(otsu, drawn))


def cohort_agreement(cohort: Path) -> list[Agreement]:
    """The agreement of every slide of a cohort whose truth is there. Raises `UsageError` where none is."""
    slides = {path.stem: path for path in sorted((cohort / "slides").glob("*.tiff"))}
    truths = {path.stem: path for path in (cohort / "truth").glob("*.npz")}
    rows = [agreement(path, truths[name]) for name, path in slides.items() if name in truths]
    if not rows:
        raise UsageError(
            "the folder holds no slides with truth", where=cohort, fix="Write one: giant phantom --out DIR"
        )
    return rows


def otsu_mask(rgb: np.ndarray) -> np.ndarray:
    """Bool (H, W): pixels of uint8 (H, W, 3) more saturated than Otsu's threshold (1979)."""
    high = rgb.max(axis=2).astype(np.int32)
    saturation = (255 * (high - rgb.min(axis=2)) // np.maximum(high, 1)).astype(np.uint8)
    counts = np.bincount(saturation.ravel(), minlength=256).astype(float)
    below, sums = np.cumsum(counts), np.cumsum(counts * np.arange(256))
    above = below[-1] - below
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return saturation > int(np.argmax(np.nan_to_num(between)))


def drawn_tissue(path: Path, tissue: TissueMask) -> np.ndarray:
    """Bool (H, W) on the raster of `tissue`: whether its pixels' centres lie in drawn tissue.

    `path` is a cohort's truth file: `zones`, 0 where nothing is drawn, and `cell_px` in `meta`. Raises
    `CohortError`.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            zones, side = file["zones"], int(json.loads(str(file["meta"]))["cell_px"])
    except (OSError, KeyError, ValueError, EOFError) as error:
        raise CohortError(
            f"the truth of this slide cannot be read ({error})",
            where=path,
            fix="Write the cohort again with giant phantom",
        ) from error
    rows, columns = (
        np.minimum((np.arange(count) + 0.5) * scale / side, most - 1).astype(int)
        for count, scale, most in zip(tissue.mask.shape, tissue.scale[::-1], zones.shape, strict=True)
    )
    return np.asarray(zones[np.ix_(rows, columns)] > 0)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two masks; 1 where both are empty."""
    union = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / union if union else 1.0


def _print_speed(speed: Speed, rounds: int) -> None:
    from agent.cli.terminal import stdout

    table = figures_table(["CPU time"], ["s", "of the reading"])
    rows = [
        ("openslide-python reads the level", speed.baseline),
        ("giant reads it", speed.reading),
        ("tissue, with that reading", speed.tissue),
        ("grid", speed.grid),
        ("tissue and grid", speed.tissue + speed.grid),
    ]
    for name, seconds in rows:
        table.add_row(name, f"{seconds:.3f}", f"{seconds / speed.baseline:.2f}")
    stdout().print(
        f"Level of {speed.level[0]} x {speed.level[1]} px at {speed.level_mpp:.3g} µm/px, mask at"
        f" {speed.mask_mpp:.3g} µm/px, {speed.tiles} tiles; median of {rounds} rounds in turns"
    )
    stdout().print(table)
    within = speed.ratio <= MOST_RATIO and speed.tissue + speed.grid <= MOST_SECONDS
    verdict = "Within" if within else "OVER"
    limits = f"{MOST_RATIO:g} times the reading and {MOST_SECONDS:g} s"
    stdout().print(f"{verdict} the limits of {limits}; at most {speed.peak / MIB:.0f} MB held besides")


def _print_agreement(rows: Sequence[Agreement]) -> None:
    from agent.cli.terminal import stdout

    table = figures_table(["IoU"], ["ours, Otsu", "ours, truth", "Otsu, truth"])
    for row in rows:
        figures = (row.ours_otsu, row.ours_truth, row.otsu_truth)
        table.add_row(row.slide, *("" if figure is None else f"{figure:.3f}" for figure in figures))
    known = [row for row in rows if row.ours_truth is not None]
    if len(known) > 1:
        means = [statistics.fmean(getattr(row, name) for row in known) for name in FIGURES]
        table.add_row("mean with truth", *(f"{mean:.3f}" for mean in means))
    stdout().print(table)
