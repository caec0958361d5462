"""The progress of a batch on stderr: done of total, time left, the slides being worked on.

A terminal gets a bar that stays at its foot while lines pass above it; anything else gets one line per
slide, with the time left in words.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.text import Text

if TYPE_CHECKING:
    from agent.batch.batch import Watcher


class TileBar:
    """Pass it as `progress`; used as a context manager, so that the terminal is left tidy."""

    def __init__(self, title: str = "Reading tiles", console: Console | None = None) -> None:
        self._title = title
        self._bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TimeRemainingColumn(),
            console=console or Console(stderr=True),
            transient=True,
        )
        self._task = self._bar.add_task(title, total=None, visible=False)

    def __enter__(self) -> TileBar:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def __call__(self, done: int, total: int) -> None:
        """Show that `done` of `total` tiles are encoded."""
        self._bar.update(self._task, completed=done, total=total, visible=True)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.0f} tiles/s" if task.speed else "… tiles/s")


IN_HAND = 3
"""Slides named as being worked on; of more only the number is told."""


@contextmanager
def watching(console: Console, total: int, quiet: bool) -> Iterator[Watcher]:
    """A watcher for a batch of `total` slides: a bar, lines, or nothing."""
    from agent.batch.batch import Nobody

    if quiet:
        yield Nobody()
    elif console.is_terminal:
        with Bar(console, total) as bar:
            yield bar
    else:
        yield Lines(console, total)


class Pace:
    """Counts the slides that are done, and estimates the time left from the pace of this call."""

    def __init__(self, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.total, self.done, self._fresh = total, 0, 0
        self._clock, self._started = clock, clock()

    def ended(self, new: bool) -> None:
        """One more is done; one that failed or was complete already says nothing about the pace."""
        self.done += 1
        self._fresh += new

    @property
    def seconds_left(self) -> float | None:
        """None until a slide was done."""
        if not self._fresh:
            return None
        return (self._clock() - self._started) / self._fresh * (self.total - self.done)

    def left(self) -> str:
        """The time left in words; empty where it is unknown or nothing is left."""
        seconds = self.seconds_left
        return f"{in_time(seconds)} left" if seconds and self.done < self.total else ""


def in_time(seconds: float) -> str:
    """A time as one would say it: 40 s, 12 min, 3 h 20 min."""
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


class Lines:
    """One line per slide."""

    def __init__(self, console: Console, total: int, pace: Pace | None = None) -> None:
        self._console, self._pace = console, pace or Pace(total)

    def started(self, name: str) -> None:
        """Show it."""

    def ended(self, name: str, message: str, new: bool) -> None:
        """Show it."""
        self._pace.ended(new)
        remaining = self._pace.left()
        line = f"{self._pace.done}/{self._pace.total} {name}: {message}"
        self._console.print(f"{line} ({remaining})" if remaining else line, soft_wrap=True)


class Bar:
    """A bar at the foot of the terminal; a line above it for each slide."""

    def __init__(self, console: Console, total: int, pace: Pace | None = None) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self._pace, self._hand = pace or Pace(total), list[str]()
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[left]}  {task.fields[hand]}"))
        self._bar = Progress(*columns, console=console, transient=True)
        for column in columns:
            if isinstance(column, TextColumn):
                column.markup = False  # names are nobody's markup
        self._task = self._bar.add_task("", total=total, left="", hand="")

    def __enter__(self) -> Bar:
        self._bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._bar.stop()

    def started(self, name: str) -> None:
        """Show it."""
        if name not in self._hand:  # it is there already where its worker died
            self._hand.append(name)
        self._show()

    def ended(self, name: str, message: str, new: bool) -> None:
        """Show it."""
        self._hand = [item for item in self._hand if item != name]
        self._pace.ended(new)
        self._bar.console.print(f"{name}: {message}", soft_wrap=True)
        self._show()

    def _show(self) -> None:
        more = len(self._hand) - IN_HAND
        hand = ", ".join(self._hand[:IN_HAND]) + (f" and {more} more" if more > 0 else "")
        self._bar.update(self._task, completed=self._pace.done, left=self._pace.left(), hand=hand)
