"""`giant import --features` and `giant export --features`: folders of tile features, from and to others."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import typer

from core_model.errors import GiantError, UsageError


def import_tiles(
    job: Path, out: Path, slides: list[str] | None, encoder: str | None, mpp: float | None
) -> None:
    """Keep the features of a job of TRIDENT, CLAM or AtlasPatch in a feature store; print what was made."""
    from agent.batch.batch import find_slides
    from tools.exchange import import_features

    given_slides = find_slides(slides) if slides else None
    for line in given_slides.summary() if given_slides is not None else ():
        typer.echo(line, err=True)
    results = import_features(
        job, out, given_slides.paths if given_slides is not None else None, encoder, mpp
    )
    _show(results, "Import them as jobs of their own, or with --slides, where the reason says so")


def export_tiles(source: Path, out: Path, layout: str, encoder: str | None, pt: bool) -> None:
    """Write the features of a store as another tool lays them out; print the files of features."""
    from tools.exchange import export_features

    _show(export_features(source, out, layout, encoder, pt), "They are named above")


def one_of(**options: object) -> None:
    """Raise `UsageError` unless exactly one of the options is given."""
    names = [f"--{name}" for name in options]
    if sum(value is not None for value in options.values()) != 1:
        raise UsageError("it must be said what to take, and once", fix=f"Give one of {', '.join(names)}")


def _show(results: Iterable[object], fix: str) -> None:
    from tools.indexing import SlideFailed

    count = failures = 0
    for item in results:
        count += 1
        if isinstance(item, SlideFailed):
            failures += 1
            typer.echo(f"giant: {item.error}", err=True)
        else:
            typer.echo(str(item))
    if failures:
        raise GiantError(f"{failures} of {count} slides failed", fix=fix)
