"""A damaged slide beside the slide as it was: what is read of both, and what came back blank."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from core_model.errors import GiantError, SlideError
from eval.bench.mutations import Anatomy, Mutant, anatomy_of

if TYPE_CHECKING:
    from core_model.slides.box import Box
    from core_model.slides.slide import Slide
    from core_model.slides.sources import PixelSource

MPP = 0.5
"""µm/px that every slide is taken to have: the scale is no part of this."""
MOST_MEMORY = 3 << 30
OVERVIEW, PIECE = 1024, 64
"""Long side of the overview, and least side of its pieces that are looked at, px."""
TILES, BOXES = 6, 2
"""Most damaged tiles that are read of a mutant, and other tiles."""
ACROSS = (1.3, 4.0)
"""µm/px at which boxes across tiles are read."""
MOST_SIDE = 2048
"""Side of a tile that is read whole, px."""
FLAT, LIVELY = 2, 24
"""Largest range of values of a channel in a flat tile, and the least in one that shows something."""

Place = tuple[int, int]
"""Level and number of a tile."""


@dataclass
class Original:
    """A slide as it was, open, and a copy of its files to be damaged."""

    path: Path
    copy: Path
    data: bytes
    anatomy: Anatomy
    slide: Slide | None
    """None where it cannot be opened as it is: its mutants are read all the same."""
    overview: np.ndarray | None = None


@dataclass
class Verdict:
    """What became of one mutant."""

    number: int
    slide: str
    kind: str
    refused: str | None = None
    """Why it was not opened."""
    errors: list[str] = field(default_factory=list)
    """What was said of places that could not be read."""
    read: int = 0
    """Places that were read."""
    differing: int = 0
    blanks: int = 0
    displaced: int = 0
    """Tiles in whose place the damaged file has another, which is flat."""
    partly: int = 0
    """Places of which at least a quarter came back flat that was not, without an error."""
    crash: str | None = None
    """An exception in the parent that is none of ours."""
    peak: int = 0
    seconds: float = 0.0

    @property
    def signs(self) -> list[str]:
        """What is counted of it."""
        said = [self.refused or "", *self.errors]
        signs = ["refused"] if self.refused else []
        signs += ["places with a clear error"] if self.errors else []
        signs += ["all as it was"] if not (self.refused or self.errors or self.differing) else []
        signs += ["differing pixels"] if self.differing else []
        signs += ["SILENT BLANKS"] if self.blanks else []
        signs += ["a flat tile in place of another"] if self.displaced else []
        signs += ["partly flat"] if self.partly else []
        signs += ["CRASHES of the parent"] if self.crash else []
        signs += ["OVER 3 GB"] if self.peak > MOST_MEMORY else []
        signs += ["UNCLEAR errors"] if any("its reader failed" in text for text in said) else []
        for word, sign in (("HANGS", " s and was"), ("stopped for memory", " of memory"), ("died", "signal")):
            signs += [word] if any(sign in text for text in said) else []
        return signs


def look(
    original: Original,
    slide: Slide,
    source: PixelSource,
    damaged: Mutant,
    rng: np.random.Generator,
    verdict: Verdict,
) -> None:
    """Read the damaged slide, whose pixels come from `source`, and put into the verdict what is found."""
    if original.slide is not None:
        _compare_overview(original, slide, source, verdict)
    for box, mpp, tile in _chosen(slide, source, damaged, rng):
        _compare(original, slide, box, mpp, tile, verdict)


def overview(slide: Slide) -> tuple[np.ndarray, np.ndarray]:
    """The whole slide small, (h, w, 3), and what of it is unknown, (h, w)."""
    mpp = slide.effective_mpp(slide.mpp * max(slide.width, slide.height) / OVERVIEW)
    survey = slide.survey(slide.box, mpp)
    return np.asarray(survey.image), survey.unknown


def _compare_overview(original: Original, slide: Slide, source: PixelSource, verdict: Verdict) -> None:
    try:
        image, unknown = overview(slide)
    except SlideError as error:
        verdict.errors.append(error.what)
        return
    verdict.read += 1
    verdict.errors += ["parts of the overview are unknown"] if unknown.any() else []
    before = original.overview
    if before is None or before.shape != image.shape:
        return
    verdict.differing += not np.array_equal(before[~unknown], image[~unknown])
    level, w, h = _tile_in(slide, source, image.shape[1])
    for row, y in enumerate(range(0, image.shape[0], h)):
        for column, x in enumerate(range(0, image.shape[1], w)):
            piece = np.s_[y : y + h, x : x + w]
            if not unknown[piece].any() and _is_blank(before[piece], image[piece]):
                _count_blank(original, slide, (level, row * -(-image.shape[1] // w) + column), verdict)


def _tile_in(slide: Slide, source: PixelSource, width: int) -> tuple[int, int, int]:
    """The level that a picture `width` px wide was made of; width and height of its tiles in px of that."""
    factor = slide.width / width
    near = [i for i, d in enumerate(slide.level_downsamples) if i == 0 or d <= factor * 1.005]
    shrink = factor / slide.level_downsamples[near[-1]]
    w, h = source.tile_size(near[-1])
    return near[-1], max(PIECE, math.ceil(w / shrink)), max(PIECE, math.ceil(h / shrink))


def _chosen(
    slide: Slide, source: PixelSource, damaged: Mutant, rng: np.random.Generator
) -> Iterator[tuple[Box, float, Place | None]]:
    """Boxes to read, at which resolution, and the tile of the file that each is, if it is one.

    Tiles that were damaged, tiles anywhere, and boxes across tiles at other resolutions.
    """
    from core_model.slides.box import Box

    for i in rng.permutation(len(damaged.touched))[:TILES]:
        if damaged.touched[int(i)].size in slide.level_dimensions:
            level = slide.level_dimensions.index(damaged.touched[int(i)].size)
            tile = damaged.touched[int(i)]
            yield from _at_level(slide, (level, tile.number), tile.box)
    for _ in range(BOXES):
        level = int(rng.integers(len(slide.level_dimensions)))
        (width, height), (w, h) = slide.level_dimensions[level], source.tile_size(level)
        column, row = int(rng.integers(-(-width // w))), int(rng.integers(-(-height // h)))
        x, y, number = column * w, row * h, row * -(-width // w) + column
        yield from _at_level(slide, (level, number), (x, y, min(w, width - x), min(h, height - y)))
    for mpp in ACROSS:
        side = min(int(256 * mpp / MPP), slide.width, slide.height)
        x = int(rng.integers(slide.width - side + 1))
        y = int(rng.integers(slide.height - side + 1))
        yield Box(x, y, side, side), mpp, None


def _at_level(
    slide: Slide, place: Place, tile: tuple[int, int, int, int]
) -> Iterator[tuple[Box, float, Place | None]]:
    """The box and resolution that read a tile of a level alone, or the first part of a huge one."""
    from core_model.slides.box import Box

    factor = slide.level_downsamples[place[0]]
    x, y, w, h = (int(value * factor) for value in tile)
    most = int(MOST_SIDE * factor)
    box = Box(x, y, max(1, min(w, most)), max(1, min(h, most))).intersect(slide.box)
    if box is not None:
        yield box, MPP * factor, place if w <= most and h <= most else None


def _compare(
    original: Original, slide: Slide, box: Box, mpp: float, tile: Place | None, verdict: Verdict
) -> None:
    try:
        after = np.asarray(slide.read(box, mpp))
    except GiantError as error:
        verdict.errors.append(error.what)
        return
    verdict.read += 1
    if original.slide is None or original.slide.level_dimensions[0] != slide.level_dimensions[0]:
        return
    try:
        before = np.asarray(original.slide.read(box, mpp))
    except SlideError:
        return
    if before.shape != after.shape:
        return
    verdict.differing += not np.array_equal(before, after)
    if tile is not None and _is_blank(before, after):
        _count_blank(original, slide, tile, verdict)
    verdict.partly += _is_partly_blank(before, after)


def _count_blank(original: Original, slide: Slide, tile: Place, verdict: Verdict) -> None:
    if _is_displaced(original, slide.level_dimensions[tile[0]], tile[1]):
        verdict.displaced += 1
    else:
        verdict.blanks += 1


def _is_displaced(original: Original, size: tuple[int, int], number: int) -> bool:
    """Whether the damaged file places another whole tile there, undamaged, which nobody can tell."""
    now, data = anatomy_of(original.copy), original.copy.read_bytes()
    tiles = [tile for page in now.tiles for tile in page if (tile.size, tile.number) == (size, number)]
    others = {
        tile.offset: tile.count
        for page in original.anatomy.tiles
        for tile in page
        if (tile.size, tile.number) != (size, number)
    }
    spans = [slice(tile.offset, tile.offset + others[tile.offset]) for tile in tiles if tile.offset in others]
    return any(data[span] == original.data[span] for span in spans)


def _spread(pixels: np.ndarray) -> int:
    """Largest range of a channel, over (h, w, 3)."""
    return int(np.ptp(pixels.reshape(-1, 3), axis=0).max())


def _is_blank(before: np.ndarray, after: np.ndarray) -> bool:
    return _spread(after) <= FLAT and _spread(before) >= LIVELY


def _is_partly_blank(before: np.ndarray, after: np.ndarray) -> bool:
    """Whether a quarter of the blocks of 16 px that showed something are flat now."""
    pairs = [
        (before[y : y + 16, x : x + 16], after[y : y + 16, x : x + 16])
        for y in range(0, after.shape[0] - 15, 16)
        for x in range(0, after.shape[1] - 15, 16)
    ]
    flat = sum(_spread(b) >= LIVELY and _spread(a) == 0 for b, a in pairs)
    return flat * 4 >= max(1, len(pairs))
