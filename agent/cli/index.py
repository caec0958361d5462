"""`giant index`: compute the tile features of slides, and what `giant similar` searches."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.cli.options import (
    EncoderMppOpt,
    EncoderOpt,
    IsolateOpt,
    KeyOpt,
    MppOpt,
    OverrideOpt,
    PseudonymOpt,
    QuietOpt,
    RegionsOpt,
    check_key,
    opt,
)
from core_model.errors import GiantError, UsageError

if TYPE_CHECKING:
    from tools.cohort.update import Change

WorkersOpt = Annotated[
    int | None, opt("N", "Slides at once, each in a process; with several GPUs each has its own.")
]
StageOpt = Annotated[
    Path | None, opt("DIR", "Copy each slide to this local disk before it is read: for slow storage.")
]
BatchOpt = Annotated[int | None, opt("N", "Tiles encoded at once; default: what memory and cores allow.")]
ReadersOpt = Annotated[int | None, opt("N", "Threads that read tiles; default: by the cores.")]
CoordsOpt = Annotated[
    Path | None, opt("FILE|DIR", "Tiles that TRIDENT, CLAM or AtlasPatch chose: an H5, or those of DIR.")
]
RemoveOpt = Annotated[
    str | None,
    opt("NAME", "In place of slides: take the one of this name or identity out of the index of --out."),
]
ExactOpt = Annotated[
    int | None,
    opt("N", "Tiles in --out up to which similar is exact; beyond, it measures its recall. Default 1000000."),
]


def index(
    slides: Annotated[
        list[str] | None, typer.Argument(metavar="SLIDE|DIR...", help="Slides, or folders of them.")
    ] = None,
    encoder: EncoderOpt = "mini",
    encoder_mpp: EncoderMppOpt = None,
    out: Annotated[Path | None, opt("DIR", "Default: the cache.")] = None,
    mpp: MppOpt = None,
    mpp_override: OverrideOpt = None,
    isolate: IsolateOpt = None,
    regions: RegionsOpt = None,
    coords: CoordsOpt = None,
    pseudonymise: PseudonymOpt = False,
    key: KeyOpt = None,
    workers: WorkersOpt = None,
    ray: Annotated[str | None, opt("ADDRESS", "Work on this Ray cluster: HOST:PORT, or auto.")] = None,
    stage: StageOpt = None,
    batch: BatchOpt = None,
    readers: ReadersOpt = None,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Let torch compile the encoder: slow to begin, then faster.")
    ] = False,
    remove: RemoveOpt = None,
    exact_up_to: ExactOpt = None,
    quiet: QuietOpt = False,
) -> None:
    """Compute tile features and the vectors that `similar` searches; go on where it was interrupted."""
    from agent.batch.batch import find_slides
    from agent.batch.indexing import IndexBatch
    from agent.cli import terminal
    from agent.cli.progress import Lines, watching
    from agent.session.models import quieten_libraries
    from tools.chosen import Chosen, check_one_slide
    from tools.cohort.update import add_slides
    from tools.indexing import IndexPlan, SlideFailed

    quieten_libraries(quiet)
    if remove is not None or not slides:
        _take_out(slides, remove, out)
        return
    _check_limit(exact_up_to, out)
    chosen = Chosen(regions, coords) if regions is not None or coords is not None else None
    plan = IndexPlan(
        encoder, encoder_mpp, out, mpp, mpp_override, batch, readers, compiled, isolate is not False, chosen
    )
    check_key(pseudonymise, key)
    work = IndexBatch(plan, workers, ray, stage, key)
    found, failures, done = find_slides(slides), 0, list[Path]()
    check_one_slide(Chosen(regions, coords), found.paths)
    for line in found.summary(0 if pseudonymise else 20):
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
                done.append(made.path)
                continue
            failures += 1
            if quiet:
                typer.echo(f"giant: {made.error}", err=True)
    if out is not None and done:
        tell_change(add_slides(done, exact_up_to))
    if failures:
        raise GiantError(f"{failures} of {len(found.paths)} slides failed", fix="They are named above")


def _take_out(slides: list[str] | None, remove: str | None, out: Path | None) -> None:
    """Take a slide out of an index."""
    from tools.cohort.update import remove_from_store

    if remove is None:
        raise UsageError("no slide is named", fix="Give SLIDE or DIR, or --remove NAME")
    if slides or out is None:
        raise UsageError(
            "--remove takes a slide out of an index", fix="Give it with --out DIR, and no slides"
        )
    for entry in remove_from_store(out, remove):
        typer.echo(entry.name)


def _check_limit(exact_up_to: int | None, out: Path | None) -> None:
    if exact_up_to is None:
        return
    if exact_up_to < 0:
        raise UsageError(f"--exact-up-to {exact_up_to} is no number of tiles", fix="Give 0 or more")
    if out is None:
        raise UsageError("--exact-up-to is for the index of a folder", fix="Give --out DIR")


def tell_change(change: Change) -> None:
    """Say what is no longer searched, and where a search may miss tiles."""
    for name in change.dropped:
        typer.echo(f"{name}: its index file is gone, and it is no longer searched", err=True)
    if change.recall is not None:
        typer.echo(
            f"{change.slides} slides, {change.tiles:,} tiles: a search finds {change.recall:.1%} of the 10"
            f" nearest, as measured with {change.queries} tiles that it was not fitted to",
            err=True,
        )
