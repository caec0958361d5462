"""A progress bar for `extract`, on stderr: tiles done, tiles per second, time left."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.text import Text


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
        """See `core_model.extract.Progress`."""
        self._bar.update(self._task, completed=done, total=total, visible=True)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.0f} tiles/s" if task.speed else "… tiles/s")
