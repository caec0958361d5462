"""Damaged slides, by the thousand: each is opened and read in a child, and gives pixels or a clear error.

Every file of a folder's slides is damaged in ways chosen at random; mutant `n` of a seed is always the same.
What is read is compared with the slide as it was: a tile that had tissue and comes back in one flat colour,
without an error, is a silent blank.
"""

from __future__ import annotations

import itertools
import json
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from core_model.errors import GiantError, MppError, SlideError, UsageError
from eval.bench.mutations import Anatomy, Mutant, Tile, anatomy_of, mutant
from eval.tables import figures_table

if TYPE_CHECKING:
    from core_model.slides.box import Box
    from core_model.slides.isolation.process import Child
    from core_model.slides.slide import Slide

MPP = 0.5
"""µm/px that every slide is taken to have: the scale is no part of this."""
OVERVIEW, PIECE = 1024, 64
"""Long side of the overview, and side of its pieces that may be blank, px."""
TILES, BOXES = 6, 3
"""Most damaged tiles that are read of a mutant, and other places."""
FLAT, LIVELY = 2, 24
"""Largest range of values of a channel in a flat tile, and the least in one that shows something."""
MOST_MEMORY = 3 << 30
SECONDS = 30.0
"""For one request of a child."""

HARM = ("SILENT BLANKS", "CRASHES of the parent", "OVER 3 GB", "UNCLEAR errors", "HANGS", "died")
"""Mutants of which this is said are kept."""


@dataclass
class Place:
    """A rectangle of level-0 pixels at a resolution, and what the slide shows there."""

    box: Box
    mpp: float
    pixels: np.ndarray


@dataclass
class Original:
    """A slide as it was, open, and a copy of its files to be damaged."""

    path: Path
    copy: Path
    data: bytes
    anatomy: Anatomy
    slide: Slide | None
    """None where it cannot be opened as it is: its mutants are read all the same."""
    places: list[Place] = field(default_factory=list)
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
        signs += ["partly flat"] if self.partly else []
        signs += ["CRASHES of the parent"] if self.crash else []
        signs += ["OVER 3 GB"] if self.peak > MOST_MEMORY else []
        signs += ["UNCLEAR errors"] if any("its reader failed" in text for text in said) else []
        for word, sign in (("HANGS", " s and was"), ("stopped for memory", " of memory"), ("died", "signal")):
            signs += [word] if any(sign in text for text in said) else []
        return signs


def main(data: Path, count: int, seed: int, keep: Path | None, as_json: bool) -> None:
    """Damage, read, and print what became of it; mutants that did harm are kept in `keep`."""
    from agent.cli.terminal import stderr, stdout

    console, verdicts = stderr(), []
    for verdict in fuzz(data, count, seed, keep):
        verdicts.append(verdict)
        if verdict.number % 250 == 249:
            console.print(f"{verdict.number + 1} of {count}")
    if as_json:
        print(json.dumps([asdict(verdict) for verdict in verdicts]))
        return
    stdout().print(summary_table(verdicts))
    seconds = sum(verdict.seconds for verdict in verdicts)
    most = max(verdict.peak for verdict in verdicts)
    stdout().print(f"{len(verdicts)} files, {seconds:.0f} s, at most {most / 2**20:.0f} MiB in a child")


def summary_table(verdicts: list[Verdict]) -> Any:
    """How often what happened, by kind of damage."""
    signs = sorted({sign for verdict in verdicts for sign in verdict.signs}, key=str.lower)
    table = figures_table(["damage"], ["files", *signs])
    kinds = sorted({verdict.kind for verdict in verdicts})
    for kind in [*kinds, "all"]:
        chosen = [verdict for verdict in verdicts if kind in ("all", verdict.kind)]
        counts = Counter(sign for verdict in chosen for sign in verdict.signs)
        table.add_row(kind, str(len(chosen)), *(str(counts[sign]) for sign in signs))
    return table


def fuzz(data: Path, count: int, seed: int = 0, keep: Path | None = None) -> Iterator[Verdict]:
    """Verdicts on `count` mutants of the slides under `data`. Raises `UsageError` where there is none."""
    from core_model.slides.discover import slides_under

    paths = slides_under([data]).paths
    if not paths or count < 1:
        raise UsageError("there is nothing to damage", where=data, fix="Give --data DIR with slides in it")
    with tempfile.TemporaryDirectory() as folder:
        originals = [_original(path, Path(folder) / str(i)) for i, path in enumerate(paths)]
        bench = _Bench(keep)
        try:
            for number, original in zip(range(count), itertools.cycle(originals), strict=False):
                yield bench.judge(original, number, seed)
        finally:
            bench.close()
            for original in originals:
                if original.slide is not None:
                    original.slide.close()


def _original(path: Path, folder: Path) -> Original:
    """The slide, and its files copied into a folder; the main file is what is damaged."""
    from core_model.slides.parts import parts_of
    from core_model.slides.slide import open_slide

    folder.mkdir()
    for part in parts_of(path):
        target = folder / part.relative_to(path.parent)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(part, target)
    found = Original(path, folder / path.name, path.read_bytes(), anatomy_of(path), None)
    try:
        found.slide = open_slide(found.copy, mpp_override=MPP)
    except SlideError:
        return found
    # The copy is damaged while the original is open: what is compared with is read from where it lies.
    found.slide.close()
    found.slide = open_slide(path, mpp_override=MPP)
    with suppress(SlideError):
        found.overview = _overview(found.slide)[0]
    return found


class _Bench:
    """The child that serves one mutant after another, until one ends it."""

    def __init__(self, keep: Path | None) -> None:
        self.keep = keep
        self._child: Child | None = None

    def close(self) -> None:
        if self._child is not None:
            self._child.close()

    def child(self) -> Child:
        """The child, or a new one where it has died."""
        from core_model.slides.isolation.process import Child
        from core_model.slides.isolation.wire import Limits

        if self._child is None or self._child.is_dead:
            self.close()
            self._child = Child(Limits(seconds=SECONDS))
        return self._child

    def judge(self, original: Original, number: int, seed: int) -> Verdict:
        """Damage, open, read, compare."""
        rng = np.random.default_rng([seed, number])
        damaged = mutant(original.data, original.anatomy, rng)
        original.copy.write_bytes(damaged.data)
        verdict = Verdict(number, original.path.name, damaged.kind)
        start = time.perf_counter()
        try:
            self._read(original, damaged, rng, verdict)
        except SlideError as error:
            verdict.refused = str(error).replace(str(original.copy), "FILE")
        except Exception as error:  # what must not be: it is counted
            verdict.crash = f"{type(error).__name__}: {error}"
        verdict.seconds = time.perf_counter() - start
        self._keep(verdict, damaged)
        return verdict

    def _keep(self, verdict: Verdict, damaged: Mutant) -> None:
        if self.keep is not None and set(HARM) & set(verdict.signs):
            self.keep.mkdir(parents=True, exist_ok=True)
            (self.keep / f"{verdict.number}-{verdict.slide}").write_bytes(damaged.data)

    def _read(self, original: Original, damaged: Mutant, rng: np.random.Generator, verdict: Verdict) -> None:
        from core_model.slides.isolation.source import IsolatedSource
        from core_model.slides.scale import find_scale
        from core_model.slides.slide import Slide

        source = IsolatedSource(original.copy, child=self.child())
        try:
            with suppress(MppError):
                find_scale(source.properties, None, None, source.path)
            with Slide(source.path, source, source.identity, MPP, "user", source.name) as slide:
                if original.slide is not None:
                    _compare_overview(original, slide, verdict)
                for box, mpp in _chosen(original, slide, damaged, rng):
                    _compare(original, slide, box, mpp, verdict)
            verdict.peak = self.child().peak()
        finally:
            source.close()


def _overview(slide: Slide) -> tuple[np.ndarray, np.ndarray]:
    """The whole slide small, (h, w, 3), and what of it is unknown, (h, w)."""
    survey = slide.survey(
        slide.box, slide.effective_mpp(slide.mpp * max(slide.width, slide.height) / OVERVIEW)
    )
    return np.asarray(survey.image), survey.unknown


def _compare_overview(original: Original, slide: Slide, verdict: Verdict) -> None:
    try:
        image, unknown = _overview(slide)
    except SlideError as error:
        verdict.errors.append(error.what)
        return
    verdict.read += 1
    verdict.errors += ["parts of the overview are unknown"] if unknown.any() else []
    before = original.overview
    if before is None or before.shape != image.shape:
        return
    verdict.differing += not np.array_equal(before[~unknown], image[~unknown])
    for y in range(0, image.shape[0], PIECE):
        for x in range(0, image.shape[1], PIECE):
            piece = np.s_[y : y + PIECE, x : x + PIECE]
            if not unknown[piece].any():
                verdict.blanks += _is_blank(before[piece], image[piece])


def _chosen(
    original: Original, slide: Slide, damaged: Mutant, rng: np.random.Generator
) -> Iterator[tuple[Box, float]]:
    """Boxes to read: of tiles that were damaged, and of places anywhere, at several resolutions."""
    from core_model.slides.box import Box

    some = [damaged.touched[int(i)] for i in rng.permutation(len(damaged.touched))[:TILES]]
    for tile in some:
        found = _at_level(slide, tile)
        if found is not None:
            yield found
    for mpp in (MPP, 1.3, 4.0)[:BOXES]:
        side = min(int(256 * mpp / MPP), slide.width, slide.height)
        x = int(rng.integers(slide.width - side + 1))
        y = int(rng.integers(slide.height - side + 1))
        yield Box(x, y, side, side), mpp


def _at_level(slide: Slide, tile: Tile) -> tuple[Box, float] | None:
    """The box and resolution that read a tile of a level alone; None where the slide has no such level."""
    if tile.size not in slide.level_dimensions:
        return None
    factor = slide.level_downsamples[slide.level_dimensions.index(tile.size)]
    x, y, w, h = tile.box
    box = _box(int(x * factor), int(y * factor), int(w * factor), int(h * factor), slide)
    return box and (box, MPP * factor)


def _box(x: int, y: int, w: int, h: int, slide: Slide) -> Box | None:
    from core_model.slides.box import Box

    return Box(x, y, min(w, 2048), min(h, 2048)).intersect(slide.box)


def _compare(original: Original, slide: Slide, box: Box, mpp: float, verdict: Verdict) -> None:
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
    verdict.blanks += _is_blank(before, after)
    verdict.partly += _is_partly_blank(before, after)


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
