"""`giant index` and `giant similar`: build an index of tiles, and search it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agent.cli.options import EncoderMppOpt, EncoderOpt, JsonOpt, MppOpt, QuietOpt, SlideArg, SlidesArg, opt


def index(
    slides: SlidesArg,
    encoder: EncoderOpt = "mini",
    encoder_mpp: EncoderMppOpt = None,
    out: Annotated[Path | None, opt("DIR", "Default: the cache.")] = None,
    mpp: MppOpt = None,
    quiet: QuietOpt = False,
) -> None:
    """Compute tile features and the vectors that `similar` searches."""
    from agent.batch.batch import find_slides
    from agent.cli import terminal
    from agent.session.models import quieten_libraries
    from tools.similar import index_slides

    quieten_libraries(quiet)
    with terminal.tile_bar(terminal.stderr(), quiet) as progress:
        for path in index_slides(find_slides(slides), encoder, encoder_mpp, out, mpp, progress):
            typer.echo(str(path))


def similar(
    slide: SlideArg,
    box: Annotated[tuple[int, int, int, int] | None, opt("X Y W H", "The place, in level-0 px.")] = None,
    text: Annotated[str | None, opt("PHRASE", "Instead of a place; needs an --encoder with words.")] = None,
    k: Annotated[int, opt("N", "How many tiles.", "-k")] = 5,
    among: Annotated[Path | None, opt("DIR", "Search all slides indexed there.", "--in")] = None,
    encoder: EncoderOpt = "mini",
    encoder_mpp: EncoderMppOpt = None,
    mpp: MppOpt = None,
    as_json: JsonOpt = False,
    quiet: QuietOpt = False,
) -> None:
    """Find the tiles most like a place or a phrase, in the slide or in all indexed slides."""
    from agent.cli import terminal
    from agent.session.models import quieten_libraries
    from tools.similar import Query, find_similar

    quieten_libraries(quiet)
    with terminal.tile_bar(terminal.stderr(), quiet) as progress:
        hits = find_similar(slide, Query(box, text, k), among, encoder, encoder_mpp, mpp, progress)
    if as_json:
        typer.echo(hits.model_dump_json(exclude={"version"}))
        return
    for hit in hits.hits:
        typer.echo(f"{hit.score:.3f}  {hit.slide}  box {' '.join(map(str, hit.box))}")
