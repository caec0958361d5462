"""`giant import --features` and `giant export --features`: folders of tile features, from and to others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from core_model.errors import GiantError, UsageError

if TYPE_CHECKING:
    from tools.indexing import SlideFailed


def import_tiles(
    job: Path, out: Path, slides: list[str] | None, encoder: str | None, mpp: float | None
) -> None:
    """Keep the features of a job of TRIDENT, CLAM or AtlasPatch in a feature store; print what was made.

    What was made is put into the index of the store's folder, as `giant index --out` does.
    """
    from agent.batch.batch import find_slides
    from agent.cli.index import tell_change
    from tools.cohort.update import add_slides
    from tools.exchange import import_features

    given_slides = find_slides(slides) if slides else None
    for line in given_slides.summary() if given_slides is not None else ():
        typer.echo(line, err=True)
    results = import_features(
        job, out, given_slides.paths if given_slides is not None else None, encoder, mpp
    )
    files, failures = _shown(results)
    if files:
        tell_change(add_slides(files))
    _raise_for(
        failures, files, "Import them as jobs of their own, or with --slides, where the reason says so"
    )


def export_tiles(source: Path, out: Path, layout: str, encoder: str | None, pt: bool) -> None:
    """Write the features of a store as another tool lays them out; print the files of features."""
    from tools.exchange import export_features

    files, failures = _shown(export_features(source, out, layout, encoder, pt))
    _raise_for(failures, files, "They are named above")


def one_of(**options: object) -> None:
    """Raise `UsageError` unless exactly one of the options is given."""
    names = [f"--{name}" for name in options]
    if sum(value is not None for value in options.values()) != 1:
        raise UsageError("it must be said what to take, and once", fix=f"Give one of {', '.join(names)}")


def _shown(results: Iterable[Path | SlideFailed]) -> tuple[list[Path], int]:
    """The files that were made, each printed, and how many slides failed, each in a line on stderr."""
    from tools.indexing import SlideFailed

    files, failures = list[Path](), 0
    for item in results:
        if isinstance(item, SlideFailed):
            failures += 1
            typer.echo(f"giant: {item.error}", err=True)
        else:
            files.append(item)
            typer.echo(str(item))
    return files, failures


def _raise_for(failures: int, files: Sequence[Path], fix: str) -> None:
    if failures:
        raise GiantError(f"{failures} of {failures + len(files)} slides failed", fix=fix)
