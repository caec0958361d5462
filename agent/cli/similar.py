"""`giant index` and `giant similar`: build an index of tiles, and search it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agent.cli.options import (
    EncoderMppOpt,
    EncoderOpt,
    JsonOpt,
    MppOpt,
    OverrideOpt,
    QuietOpt,
    SlideArg,
    SlidesArg,
    opt,
)
from agent.cli.streams import ascii_json
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
    from tools.similar import SlideFailed, index_slides

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


def similar(
    slide: SlideArg,
    box: Annotated[tuple[int, int, int, int] | None, opt("X Y W H", "The place, in level-0 px.")] = None,
    text: Annotated[str | None, opt("PHRASE", "Instead of a place; needs an --encoder with words.")] = None,
    k: Annotated[int, opt("N", "How many tiles.", "-k")] = 5,
    among: Annotated[Path | None, opt("DIR", "Search all slides indexed there.", "--in")] = None,
    encoder: EncoderOpt = "mini",
    encoder_mpp: EncoderMppOpt = None,
    mpp: MppOpt = None,
    mpp_override: OverrideOpt = None,
    as_json: JsonOpt = False,
    quiet: QuietOpt = False,
) -> None:
    """Find the tiles most like a place or a phrase, in the slide or in all indexed slides."""
    from agent.cli import terminal
    from agent.session.models import quieten_libraries
    from tools.similar import Query, find_similar

    quieten_libraries(quiet)
    with terminal.tile_bar(terminal.stderr(), quiet) as progress:
        query = Query(box, text, k)
        hits = find_similar(slide, query, among, encoder, encoder_mpp, mpp, progress, mpp_override)
    if as_json:
        typer.echo(ascii_json(hits.model_dump_json(exclude={"version"})))
        return
    for hit in hits.hits:
        typer.echo(f"{hit.score:.3f}  {hit.slide}  box {' '.join(map(str, hit.box))}")
