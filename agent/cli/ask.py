"""`giant ask` and `giant report`: a question about a slide, and structured reports on many."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agent.cli.options import (
    AnyModelOpt,
    BaseUrlOpt,
    BitsOpt,
    JsonOpt,
    MppOpt,
    PatchesOpt,
    PatchMppOpt,
    PatchPxOpt,
    PricesOpt,
    ProfileOpt,
    QuietOpt,
    SeedOpt,
    SlideModelOpt,
    SlidesArg,
)
from core_model.errors import GiantError


def ask(
    slide: Annotated[str, typer.Argument(metavar="SLIDE", help="A slide file, or slide tokens (.pt).")],
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="What to find out.")],
    option: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="An answer to choose from; repeat it.")
    ] = None,
    model: AnyModelOpt = "mini",
    bits: BitsOpt = None,
    base_url: BaseUrlOpt = None,
    slide_model: SlideModelOpt = "mini",
    navigator: Annotated[
        str | None,
        typer.Option(metavar="search|chat", help="Who decides where to look; default: what fits the model."),
    ] = None,
    profile: ProfileOpt = None,
    mode: Annotated[
        str,
        typer.Option(
            metavar="MODE",
            help="agent looks around. One pass: slide (local) reads the whole at once, patches vote; by chat"
            " thumbnail, joint, patches, blind.",
        ),
    ] = "agent",
    patches: PatchesOpt = None,
    patch_px: PatchPxOpt = None,
    patch_mpp: PatchMppOpt = None,
    votes: Annotated[int, typer.Option(metavar="N", help="Independent runs; the majority answers.")] = 1,
    max_steps: Annotated[
        int | None, typer.Option(metavar="N", help="Most looks before the answer: 16, or 20 by chat.")
    ] = None,
    max_cost: Annotated[float | None, typer.Option(metavar="USD", help="Spending limit.")] = None,
    prices: PricesOpt = None,
    seed: SeedOpt = 0,
    mpp: MppOpt = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Run folder.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")] = False,
    confirm: Annotated[bool, typer.Option("--confirm", help="Be asked before each look.")] = False,
    hint: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="Something to consider from now on; repeat it.")
    ] = None,
    look: Annotated[
        tuple[int, int, int, int] | None, typer.Option(metavar="X Y W H", help="A place to look at next.")
    ] = None,
    as_json: JsonOpt = False,
    quiet: QuietOpt = False,
) -> None:
    """Ask a question about a slide; answer it with evidence and a report."""
    from agent.cli import terminal

    answer = terminal.ask(
        slide,
        question,
        confirm=confirm,
        hints=hint or (),
        look=look,
        quiet=quiet,
        options=option,
        model=model,
        base_url=base_url,
        slide_model=slide_model,
        bits=bits,
        navigator=navigator,
        profile=profile,
        mode=mode,
        patches=patches,
        patch_px=patch_px,
        patch_mpp=patch_mpp,
        votes=votes,
        max_steps=max_steps,
        max_cost=max_cost,
        prices=prices,
        seed=seed,
        mpp=mpp,
        out=out,
        resume=resume,
    )
    if as_json:
        # `version` belongs to answer.json; the fields that scripts read are a contract of their own
        typer.echo(answer.model_dump_json(exclude={"version"}))
    else:
        terminal.show_answer(terminal.stdout(), answer)


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
    terminal.quieten_libraries(plan.quiet)
    found = find_slides(slides)
    with watching(console, len(found), quiet) as watch:
        done, failed = Batch(plan, workers, ray, resume).run(found, watch)
    typer.echo(str(out / "index.html"))
    if failed:
        raise GiantError(
            f"{failed} of {done + failed} slides failed", fix=f"They are listed in {out / 'failures.csv'}"
        )
