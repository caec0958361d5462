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
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from core_model.errors import MppError, SlideError, UsageError
from eval.bench.damaged import MPP, Original, Verdict, look, overview
from eval.bench.mutations import Mutant, anatomy_of, mutant
from eval.tables import figures_table

if TYPE_CHECKING:
    from core_model.slides.isolation.process import Child

HARM = ("SILENT BLANKS", "CRASHES of the parent", "OVER 3 GB", "UNCLEAR errors", "HANGS", "died")
"""Mutants of which this is said are kept."""
SECONDS = 30.0
"""For one request of a child."""


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
    with suppress(SlideError):  # of those that are damaged as they are
        found.slide = open_slide(path, mpp_override=MPP)
        found.overview = overview(found.slide)[0]
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
        verdict.peak = self._child.peak() if self._child is not None else 0
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
                look(original, slide, source, damaged, rng, verdict)
        finally:
            source.close()
