"""`giant index`: compute the tile features of slides, and what `giant similar` searches."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agent.cli.options import EncoderMppOpt, EncoderOpt, MppOpt, OverrideOpt, QuietOpt, SlidesArg, opt
from core_model.errors import GiantError


def index(
    slides: SlidesArg,
    encoder: EncoderOpt = "mini",
    encoder_mpp: EncoderMppOpt = None,
    out: Annotated[Path | None, opt("DIR", "Default: the cache.")] = None,
    mpp: MppOpt = None,
    mpp_override: OverrideOpt = None,
    quiet: QuietOpt = False,
) -> None:
    """Compute tile features and the vectors that `similar` searches."""
    from agent.batch.batch import find_slides
    from agent.cli import terminal
    from agent.session.models import quieten_libraries
    from tools.indexing import SlideFailed, index_slides

    quieten_libraries(quiet)
    found, failures = find_slides(slides), 0
    for line in found.summary():
        typer.echo(line, err=True)
    with terminal.tile_bar(terminal.stderr(), quiet) as progress:
        for made in index_slides(found.paths, encoder, encoder_mpp, out, mpp, progress, mpp_override):
            if isinstance(made, SlideFailed):
                failures += 1
                typer.echo(f"giant: {made.error}", err=True)
            else:
                typer.echo(str(made))
    if failures:
        raise GiantError(f"{failures} of {len(found.paths)} slides failed", fix="They are named above")
