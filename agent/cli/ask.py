"""`giant ask`: a question about a slide, with the person at the terminal taking part."""

from __future__ import annotations

from typing import Annotated

import typer

from agent.cli.options import JsonOpt, QuietOpt, opt, with_ask_options
from agent.session.options import AskOptions


@with_ask_options()
def ask(
    slide: Annotated[str, typer.Argument(metavar="SLIDE", help="A slide file, or slide tokens (.pt).")],
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="What to find out.")],
    ask_options: AskOptions,
    confirm: Annotated[bool, typer.Option("--confirm", help="Be asked before each look.")] = False,
    hint: Annotated[list[str] | None, opt("TEXT", "Something to consider from now on; repeat it.")] = None,
    look: Annotated[tuple[int, int, int, int] | None, opt("X Y W H", "A place to look at next.")] = None,
    as_json: JsonOpt = False,
    quiet: QuietOpt = False,
) -> None:
    """Ask a question about a slide; answer it with evidence and a report."""
    from agent.cli import terminal

    answer = terminal.ask(
        slide, question, ask_options, confirm=confirm, hints=hint or (), look=look, quiet=quiet
    )
    if as_json:
        # `version` belongs to answer.json; the fields that scripts read are a contract of their own
        typer.echo(answer.model_dump_json(exclude={"version"}))
    else:
        terminal.show_answer(terminal.stdout(), answer)
