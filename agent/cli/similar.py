"""`giant similar`: search the tiles of a slide, or of an index."""

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
    opt,
)
from agent.cli.streams import ascii_json


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
        scale = f"  {hit.mpp:.4g} µm/px" if hit.mpp is not None else ""
        typer.echo(f"{hit.score:.3f}  {hit.slide}  box {' '.join(map(str, hit.box))}{scale}")
    if hits.recall is not None:
        typer.echo(f"Such a search finds {hits.recall:.1%} of the 10 nearest tiles, as measured.", err=True)
