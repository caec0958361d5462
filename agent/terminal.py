"""What a person sees while a run goes on, and of its answer.

Steps, bars and warnings go to stderr, answers to stdout, so that a pipe receives the answer alone. Texts
come from users and models: none of them is read as markup.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from agent.report import NOTICE
from agent.report_figures import human_share

if TYPE_CHECKING:
    from agent.records import Answer, Evidence, Step
    from core_model.extract import Progress

CITED = 6
"""Pieces of evidence listed in the terminal; the report has them all."""


PIPED_WIDTH = 200
"""Characters that a table may take where no terminal sets its width."""


@contextmanager
def tile_bar(console: Console, quiet: bool) -> Iterator[Progress | None]:
    """A progress bar for tiles on `console`; None where the user wants none or nobody watches."""
    if quiet or not console.is_terminal:
        yield None
        return
    from core_model.progress import TileBar

    with TileBar("Reading tiles", console) as bar:
        yield bar


def stderr() -> Console:
    """A console on stderr that prints texts as they are."""
    return Console(stderr=True, markup=False, highlight=False, emoji=False)


def stdout() -> Console:
    """A console on stdout that prints texts as they are; lines are not broken where it is piped."""
    piped = not sys.stdout.isatty()
    width = PIPED_WIDTH if piped else None
    return Console(markup=False, highlight=False, emoji=False, soft_wrap=piped, width=width)


def quieten_libraries(quiet: bool) -> None:
    """Our warnings as plain lines on stderr; no chatter and no bars from libraries."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TQDM_DISABLE", "1")
    logging.basicConfig(level=logging.ERROR if quiet else logging.WARNING, format="%(message)s")


def show_step(console: Console, step: Step) -> None:
    """One step as it happens: in columns on a terminal, else on one line."""
    number = Text(f"{step.index:>3}", style="dim")
    style = "bold cyan" if step.observation.ok else "bold red"
    tool = Text(f"{step.action.tool.replace('_', ' '):<10}", style=style)
    found = Text(" ".join(step.finding.split())).append(f"  {step.seconds:.1f} s", style="dim")
    if not console.is_terminal:
        console.print(Text("  ").join([number, tool, found]), soft_wrap=True)
        return
    from rich.table import Table

    row = Table.grid(padding=(0, 2))
    row.add_row(number, tool, found)
    console.print(row)


def show_answer(console: Console, answer: Answer) -> None:
    """Answer, confidence, evidence in short, where the report lies, and what it is not for."""
    if answer.abstained:
        console.print(Text("No answer: the model abstained.", style="bold yellow"))
        console.print(answer.reason or answer.answer)
    else:
        if answer.choice is not None:
            console.print(Text(answer.choice, style="bold green"))
        console.print(answer.answer)
        if answer.reason:
            console.print(Text(answer.reason, style="yellow"))
    console.print(f"Confidence: {answer.confidence:.2f}")
    if answer.coverage:
        seen = ", ".join(f"{human_share(share)} at {mpp} µm/px" for mpp, share in answer.coverage.items())
        console.print(f"Tissue seen: {seen}")
    for cited in answer.evidence[:CITED]:
        console.print(_cited(cited))
    if len(answer.evidence) > CITED:
        console.print(f"  and {len(answer.evidence) - CITED} more in the report")
    console.print(f"Report: {Path(answer.run_dir) / 'report.html'}")
    console.print(Text(NOTICE, style="dim"))


def _cited(cited: Evidence) -> Text:
    place = f" box {', '.join(map(str, cited.box))}" if cited.box else ""
    scale = f" at {cited.mpp:.3g} µm/px" if cited.mpp else ""
    line = Text(f"  step {cited.step}{place}{scale}: ", style="dim")
    return line.append(" ".join(cited.finding.split()), style="not dim")
