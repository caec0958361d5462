"""`giant report`: structured reports on one slide or many."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agent.cli.options import (
    KeyOpt,
    PseudonymOpt,
    QuietOpt,
    SlidesArg,
    check_key,
    opt,
    with_ask_options,
)
from agent.session.options import AskOptions
from core_model.errors import GiantError

SlideBudgetOpt = Annotated[float | None, opt("USD", "Spending limit for each slide.")]
QuestionStepsOpt = Annotated[int | None, opt("N", "Most looks per question: 16, or 20 by a chat model.")]


@with_ask_options(
    *(
        "model",
        "base_url",
        "slide_model",
        "profile",
        "prices",
        "timeout",
        "sight_check",
        "seed",
        "mpp",
        "mpp_override",
        "isolate",
    ),
    max_steps=QuestionStepsOpt,
    max_cost=SlideBudgetOpt,
)
def report(
    slides: SlidesArg,
    ask_options: AskOptions,
    out: Annotated[Path, opt("DIR", "Where the reports go.")],
    questions: Annotated[
        Path | None, opt("FILE", "What to ask, in place of the built-in list (JSON).")
    ] = None,
    workers: Annotated[int | None, opt("N", "Slides at once: 1, or on a cluster all its CPUs.")] = None,
    ray: Annotated[str | None, opt("ADDRESS", "Work on this Ray cluster: HOST:PORT, or auto.")] = None,
    pseudonymise: PseudonymOpt = False,
    key: KeyOpt = None,
    resume: Annotated[bool, typer.Option("--resume", help="Skip what is complete and unchanged.")] = False,
    quiet: QuietOpt = False,
) -> None:
    """Write a structured report on each slide: a folder for each, an index page, a list of failures."""
    from agent.batch.batch import Batch, find_slides
    from agent.batch.plan import BatchPlan
    from agent.batch.questions import read_questions
    from agent.cli import terminal
    from agent.cli.progress import watching
    from agent.session.models import quieten_libraries

    check_key(pseudonymise, key)
    console = terminal.stderr()
    plan = BatchPlan(
        out,
        ask_options,
        questions=read_questions(questions) if questions else None,
        quiet=quiet or console.is_terminal,  # a line amid the bar would tear it
    )
    quieten_libraries(plan.quiet)
    found = find_slides(slides)
    for line in found.summary(0 if pseudonymise else 20):
        typer.echo(line, err=True)
    with watching(console, len(found.paths), quiet) as watch:
        reports, failures = Batch(plan, workers, ray, resume, key).run(found.paths, watch)
    typer.echo(str(out / "index.html"))
    if failures:
        raise GiantError(
            f"{failures} of {reports + failures} slides failed",
            fix=f"They are listed in {out / 'failures.csv'}",
        )
