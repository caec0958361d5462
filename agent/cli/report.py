"""`giant report`: structured reports on one slide or many."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agent.cli.options import (
    AnyModelOpt,
    BaseUrlOpt,
    MppOpt,
    PricesOpt,
    ProfileOpt,
    QuietOpt,
    SeedOpt,
    SlideModelOpt,
    SlidesArg,
)
from core_model.errors import GiantError


def report(
    slides: SlidesArg,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the reports go.")],
    model: AnyModelOpt = "mini",
    base_url: BaseUrlOpt = None,
    slide_model: SlideModelOpt = "mini",
    profile: ProfileOpt = None,
    questions: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What to ask, in place of the built-in list (JSON).")
    ] = None,
    max_steps: Annotated[
        int | None, typer.Option(metavar="N", help="Most looks per question: 16, or 20 by chat.")
    ] = None,
    max_cost: Annotated[
        float | None, typer.Option(metavar="USD", help="Spending limit for each slide.")
    ] = None,
    prices: PricesOpt = None,
    seed: SeedOpt = 0,
    mpp: MppOpt = None,
    workers: Annotated[
        int | None, typer.Option(metavar="N", help="Slides at once: 1, or on a cluster all its CPUs.")
    ] = None,
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Work on this Ray cluster: HOST:PORT, or auto.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Skip what is complete and unchanged.")] = False,
    quiet: QuietOpt = False,
) -> None:
    """Write a structured report on each slide: a folder for each, an index page, a list of failures."""
    from agent.batch.batch import Batch, find_slides
    from agent.batch.plan import Plan
    from agent.batch.questions import read_questions
    from agent.cli import terminal
    from agent.cli.progress import watching
    from agent.session.models import quieten_libraries

    console = terminal.stderr()
    plan = Plan(
        out,
        model=model,
        slide_model=slide_model,
        questions=read_questions(questions) if questions else None,
        max_steps=max_steps,
        max_cost=max_cost,
        seed=seed,
        mpp=mpp,
        base_url=base_url,
        profile=profile,
        prices=prices,
        quiet=quiet or console.is_terminal,  # a line amid the bar would tear it
    )
    quieten_libraries(plan.quiet)
    found = find_slides(slides)
    with watching(console, len(found), quiet) as watch:
        done, failed = Batch(plan, workers, ray, resume).run(found, watch)
    typer.echo(str(out / "index.html"))
    if failed:
        raise GiantError(
            f"{failed} of {done + failed} slides failed", fix=f"They are listed in {out / 'failures.csv'}"
        )
