"""`giant replay`: follow a finished run again and say whether it holds together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from agent.cli.options import JsonOpt, opt
from agent.cli.streams import ascii_json
from agent.cli.terminal import stdout
from core_model.errors import GiantError

if TYPE_CHECKING:
    from agent.replay.verdict import Compared, Replayed


def in_json(outcome: Replayed) -> str:
    """One JSON object on one line."""
    return f'{{"ok":{"true" if outcome.ok else "false"},{outcome.model_dump_json()[1:]}'


def show(outcome: Replayed) -> None:
    """Each file with its verdict, each region that differs, and what it comes to."""
    console = stdout()
    for part in (*outcome.votes, outcome):
        if outcome.votes:
            console.print(Text(part.run, style="bold"))
        for file in part.files:
            console.print(Text(f"{file.file:<18}").append(_verdict(file)))
        for problem in (*part.problems, *part.changed):
            console.print(Text(problem, style="bold red"))
        if part.regions is not None:
            line = f"{part.equal} of {part.regions} regions have the pixels of the slide"
            console.print(Text(line, style="" if part.equal == part.regions else "bold red"))


def _verdict(file: Compared) -> Text:
    if file.differs:
        return Text(f"differs: {file.differs}", style="bold red")
    if not file.reworded:
        return Text("same")
    page = Path(file.file).suffix in (".html", ".md")
    return Text("not compared: a page of another version" if page else "the same facts, in other words")


def replay(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run folder.")],
    slide: Annotated[Path | None, opt("SLIDE", "Read every region from it again.")] = None,
    as_json: JsonOpt = False,
) -> None:
    """Follow a finished run again without model or network; exit 1 where anything differs."""
    from agent.replay.follow import follow_again

    outcome = follow_again(run, slide)
    if as_json:
        typer.echo(ascii_json(in_json(outcome)))
    else:
        show(outcome)
    if not outcome.ok:
        raise GiantError(f"the run is not as recorded: {outcome.first_fault}", where=run)
