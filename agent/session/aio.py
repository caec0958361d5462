"""`ask` and `stream` for programs that run an event loop: the same run, in a thread of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.graph.control import Control
from agent.run.records import Answer
from agent.session.ask import paused, stream

if TYPE_CHECKING:
    from agent.session.ask import Item
    from core_model.slides.slide import Slide


async def aask(slide: str | Path | Slide, question: str, **options: Any) -> Answer:
    """As `ask`. Where the task is cancelled the run is paused, and resumes at any later time."""
    control = options.get("control") or Control()
    answer = None
    async for item in astream(slide, question, **{**options, "control": control}):
        answer = item if isinstance(item, Answer) else None
    if answer is None:
        raise paused(control)
    return answer


async def astream(slide: str | Path | Slide, question: str, **options: Any) -> AsyncIterator[Item]:
    """As `stream`. Where the task is cancelled the run is paused after the step in hand.

    The cancellation is raised when that step has ended and the run folder is free again.
    """
    control = options.get("control") or Control()
    run = stream(slide, question, **{**options, "control": control})
    # One thread for the whole run: torch, SQLite and LangGraph keep some of their state by thread.
    with ThreadPoolExecutor(1, thread_name_prefix="giant-run") as pool:
        loop = asyncio.get_running_loop()
        try:
            while (item := await loop.run_in_executor(pool, next, run, None)) is not None:
                yield item
        finally:
            control.pause()  # before the wait: a run that is at its end already takes no notice
            await _whatever_happens(loop.run_in_executor(pool, _close, run))


async def _whatever_happens(ending: asyncio.Future[None]) -> None:
    """Wait for `ending` even where the task is cancelled again meanwhile; then the cancellation is raised."""
    again = None
    while not ending.done():
        try:
            await asyncio.shield(ending)
        except asyncio.CancelledError as error:
            if ending.cancelled():
                raise
            again = error
    ending.result()
    if again is not None:
        raise again


def _close(run: Any) -> None:
    run.close()
