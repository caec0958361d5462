"""Prints the steps of a run while it goes on, and its answer.

Steps, bars and warnings go to stderr, answers to stdout, so that a pipe receives the answer alone. Texts
come from users and models: none of them is read as markup.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from agent.cli.interrupts import run_is_kept
from agent.graph.control import Control, said_before
from agent.run.records import Answer, Cost, Step, Vote
from agent.session.models import quieten_libraries
from agent.text import NOTICE, first_sentences, first_upper, same_words

if TYPE_CHECKING:
    from agent.cli.person import Person
    from agent.run.records import Claim, Evidence
    from agent.session.options import AskOptions
    from core_model.features.extract import Progress

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
    from agent.cli.progress import TileBar

    with TileBar("Reading tiles", console) as bar:
        yield bar


def stderr() -> Console:
    """A console on stderr that prints texts as they are."""
    return Console(stderr=True, markup=False, highlight=False, emoji=False)


def stdout() -> Console:
    """A console on stdout that prints texts as they are; lines are not broken where it is piped."""
    is_pipe = not sys.stdout.isatty()
    width = PIPED_WIDTH if is_pipe else None
    return Console(markup=False, highlight=False, emoji=False, soft_wrap=is_pipe, width=width)


def ask_and_show(
    slide: str,
    question: str,
    options: AskOptions,
    *,
    confirm: bool,
    hints: Sequence[str],
    look: Sequence[int] | None,
    quiet: bool,
) -> Answer:
    """Ask with the person at the terminal taking part and the steps shown to them.

    Raises `RunError` where they pause, `KeyboardInterrupt` where they press Ctrl-C.
    """
    from agent.session.ask import paused, stream_with

    quieten_libraries(quiet)
    console, answer = stderr(), None
    person = None
    if confirm:
        from agent.cli.person import Person

        person = Person(console)
    control, printer = Control(person), StepPrinter(console, quiet)
    for words in said_before(hints, look):
        control.redirect(words)
    try:
        # A bar that redraws itself would write over the line the person types.
        with tile_bar(console, quiet or confirm) as progress, pausing(control, person, console):
            for item in stream_with(slide, question, replace(options, control=control, progress=progress)):
                if isinstance(item, Answer):
                    answer = item
                else:
                    printer(item)
        if answer is None and control.paused:
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        raise KeyboardInterrupt(run_is_kept(control.run, options.resume)) from None
    if answer is None:
        raise paused(control)
    if control.take():
        console.print("The run ended before it could take notice of what you said.")
    return answer


@contextmanager
def pausing(control: Control, person: Person | None, console: Console) -> Iterator[None]:
    """Let Ctrl-C pause the run after the step in hand, so that nothing paid for is lost.

    It stops at once the second time, while nothing runs yet, and while the person is being asked.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def pressed(*_: object) -> None:
        if control.run is None or control.paused or (person is not None and person.waiting):
            raise KeyboardInterrupt
        control.pause()
        console.print("Pausing after the step in hand; Ctrl-C again stops at once.")

    before = signal.signal(signal.SIGINT, pressed)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class StepPrinter:
    """Shows what happens as it happens: each step once, and the words that are found for it later."""

    def __init__(self, console: Console, quiet: bool) -> None:
        self.console, self.quiet = console, quiet
        self._findings: dict[int, str] = {}
        self._votes = 0

    def __call__(self, item: Step | Vote) -> None:
        """Show a step, the new words for one, or the vote that a run ended in."""
        if self.quiet:
            return
        if isinstance(item, Vote):
            self._votes += 1
            self._findings.clear()
            self.console.print(_vote(item, self._votes), soft_wrap=True)
        elif item.index not in self._findings:
            show_step(self.console, item)
            self._findings[item.index] = item.finding
        elif item.finding != self._findings[item.index]:
            show_words(self.console, item)
            self._findings[item.index] = item.finding


def show_step(console: Console, step: Step) -> None:
    """One step as it happens: in columns on a terminal, else on one line."""
    style = "bold cyan" if step.observation.ok else "bold red"
    tool = Text(f"{step.action.tool.replace('_', ' '):<10}", style=style)
    finding = Text(" ".join(step.finding.split())).append(f"  {step.seconds:.1f} s", style="dim")
    _columns(console, Text(f"{step.index:>3}", style="dim"), tool, finding)


def show_words(console: Console, step: Step) -> None:
    """Print the words that a model found for a step that was shown before."""
    words = Text(" ".join(step.finding.split()))
    _columns(console, Text(f"{step.index:>3}", style="dim"), Text(f"{'':<10}"), words)


def _columns(console: Console, number: Text, tool: Text, text: Text) -> None:
    if not console.is_terminal:
        console.print(Text("  ").join([number, tool, text]), soft_wrap=True)
        return
    from rich.table import Table

    row = Table.grid(padding=(0, 2))
    row.add_row(number, tool, text)
    console.print(row)


def show_answer(console: Console, answer: Answer) -> None:
    """The answer first, then what it rests on, where the report lies, and what it is not for."""
    style = "bold yellow" if answer.abstained else "bold green"
    headline = first_sentences(answer.answer, 1)
    if answer.choice is not None and not same_words(answer.choice, headline[: len(answer.choice)]):
        headline = f"{first_upper(answer.choice)}, confidence {answer.confidence:.2f}."
    rest = " ".join(answer.answer.split()).removeprefix(headline).strip()
    console.print(Text(headline, style=style))
    if rest:
        console.print(rest)
    if answer.reason and _bare(answer.reason) not in _bare(answer.answer):
        console.print(Text(answer.reason, style="yellow"))
    for warning in answer.slide.warnings:
        console.print(Text(warning, style="yellow"))
    if not answer.abstained and f"{answer.confidence:.2f}" not in headline:
        console.print(f"Confidence: {answer.confidence:.2f}")
    if answer.agreement is not None:
        console.print(f"{round(answer.agreement * len(answer.votes))} of {len(answer.votes)} votes agree.")
    if answer.coverage and "Of the tissue" not in answer.answer:
        from agent.evidence.coverage import coverage_in_words

        console.print(coverage_in_words(answer.coverage))
    for item in answer.evidence[:CITED]:
        console.print(_cited(item))
    if len(answer.evidence) > CITED:
        console.print(f"  and {len(answer.evidence) - CITED} more in the report")
    for claim in answer.claims:
        if claim.unsupported or claim.unchecked:
            console.print(_doubtful(claim), soft_wrap=True)
    if answer.cost.calls:
        console.print(_cost(answer.cost))
    console.print(f"Report: {Path(answer.run_dir) / 'report.html'}", soft_wrap=True)
    console.print(Text(NOTICE, style="dim"))


def _bare(text: str) -> str:
    return " ".join(text.casefold().split()).rstrip(".")


def _cost(cost: Cost) -> str:
    price = f"{cost.usd:.4f} USD" if cost.usd is not None else "price unknown"
    return (
        f"Cost: {cost.calls} call{'s' * (cost.calls != 1)}, {cost.tokens_in:,} tokens in,"
        f" {cost.tokens_out:,} out, {price}"
    )


def _doubtful(claim: Claim) -> Text:
    line = Text("  unsupported: " if claim.unsupported else "  not checked: ", style="bold yellow")
    line.append(" ".join(claim.text.split()), style="not bold")
    return line.append(f" ({claim.unsupported or claim.unchecked})", style="not bold dim")


def _vote(vote: Vote, number: int) -> Text:
    words = "abstains" if vote.abstained else vote.choice or " ".join(vote.answer.split())
    return Text(f"vote {number}: {words} ({vote.confidence:.2f})", style="bold")


def _cited(item: Evidence) -> Text:
    place = f" box {', '.join(map(str, item.box))}" if item.box else ""
    scale = f" at {item.mpp:.3g} µm/px" if item.mpp else ""
    line = Text(f"  step {item.step}{place}{scale}: ", style="dim")
    return line.append(" ".join(item.finding.split()), style="not dim")
