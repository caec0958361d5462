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
)


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
