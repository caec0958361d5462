"""`giant index`: compute the tile features of slides, and what `giant similar` searches."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agent.cli.options import (
    EncoderMppOpt,
    EncoderOpt,
    IsolateOpt,
    MppOpt,
    OverrideOpt,
    QuietOpt,
    SlidesArg,
    opt,
)
from core_model.errors import GiantError, UsageError

WorkersOpt = Annotated[
    int | None, opt("N", "Slides at once, each in a process; with several GPUs each has its own.")
]
StageOpt = Annotated[
    Path | None, opt("DIR", "Copy each slide to this local disk before it is read: for slow storage.")
]
BatchOpt = Annotated[int | None, opt("N", "Tiles encoded at once; default: what memory and cores allow.")]
ReadersOpt = Annotated[int | None, opt("N", "Threads that read tiles; default: by the cores.")]
RegionsOpt = Annotated[
    Path | None,
    opt("FILE|DIR", "Only tissue in these QuPath annotations: a GeoJSON, or SLIDE.geojson in DIR."),
]
CoordsOpt = Annotated[
    Path | None, opt("FILE|DIR", "Tiles that TRIDENT, CLAM or AtlasPatch chose: an H5, or those of DIR.")
]


def index(
    slides: SlidesArg,
    encoder: EncoderOpt = "mini",
    encoder_mpp: EncoderMppOpt = None,
    out: Annotated[Path | None, opt("DIR", "Default: the cache.")] = None,
    mpp: MppOpt = None,
    mpp_override: OverrideOpt = None,
    isolate: IsolateOpt = None,
    regions: RegionsOpt = None,
    coords: CoordsOpt = None,
    workers: WorkersOpt = None,
    ray: Annotated[str | None, opt("ADDRESS", "Work on this Ray cluster: HOST:PORT, or auto.")] = None,
    stage: StageOpt = None,
    batch: BatchOpt = None,
    readers: ReadersOpt = None,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Let torch compile the encoder: slow to begin, then faster.")
    ] = False,
    quiet: QuietOpt = False,
) -> None:
    """Compute tile features and the vectors that `similar` searches; go on where it was interrupted."""
    from agent.batch.batch import find_slides
    from agent.batch.indexing import IndexBatch
    from agent.cli import terminal
    from agent.cli.progress import Lines, watching
    from agent.session.models import quieten_libraries
    from tools.chosen import Chosen
    from tools.indexing import IndexPlan, SlideFailed

    quieten_libraries(quiet)
    chosen = Chosen(regions, coords) if regions is not None or coords is not None else None
    plan = IndexPlan(
        encoder, encoder_mpp, out, mpp, mpp_override, batch, readers, compiled, isolate is not False, chosen
    )
    work = IndexBatch(plan, workers, ray, stage)
    found, failures = find_slides(slides), 0
    if chosen is not None and chosen.is_of_one and len(found.paths) > 1:
        raise UsageError(
            "one file chooses tiles of one slide", fix="Give a folder with a file for each slide"
        )
    for line in found.summary():
        typer.echo(line, err=True)
    console, alone = terminal.stderr(), workers is None and ray is None
    with (
        terminal.tile_bar(console, quiet or not alone) as progress,
        watching(console, len(found.paths), quiet or progress is not None) as watch,
    ):
        follow = Lines(console, len(found.paths)) if progress is not None else watch
        for made in work.run(found.paths, follow, progress):
            if not isinstance(made, SlideFailed):
                typer.echo(str(made.path))
                continue
            failures += 1
            if quiet:
                typer.echo(f"giant: {made.error}", err=True)
    if failures:
        raise GiantError(f"{failures} of {len(found.paths)} slides failed", fix="They are named above")
