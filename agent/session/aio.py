"""`ask` and `stream` for programs that run an event loop: the same run, in a thread of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agent.graph.control import Control
from agent.run.records import Answer
from agent.session.ask import paused, stream_with
from agent.session.options import AskOptions, with_options

if TYPE_CHECKING:
    from agent.session.ask import Item
    from agent.session.options import SlideSource


@with_options(AskOptions)
async def aask(slide: SlideSource, question: str, options: AskOptions) -> Answer:
    """Answer `question` about `slide` in an event loop. A cancelled task pauses its run, for `resume`.

    Takes the arguments of `agent.ask` and raises what it raises.
    """
    control = options.control or Control()
    answer = None
    async for item in _items(slide, question, replace(options, control=control)):
        answer = item if isinstance(item, Answer) else None
    if answer is None:
        raise paused(control)
    return answer


@with_options(AskOptions)
def astream(slide: SlideSource, question: str, options: AskOptions) -> AsyncIterator[Item]:
    """Ask in an event loop, yielding what `agent.stream` yields. A cancelled task pauses its run.

    The cancellation is raised when the step in hand has ended and the run folder is free again.
    """
    return _items(slide, question, options)


async def _items(slide: SlideSource, question: str, options: AskOptions) -> AsyncIterator[Item]:
    control = options.control or Control()
    run = stream_with(slide, question, replace(options, control=control))
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
    cancellation = None
    while not ending.done():
        try:
            await asyncio.shield(ending)
        except asyncio.CancelledError as error:
            if ending.cancelled():
                raise
            cancellation = error
    ending.result()
    if cancellation is not None:
        raise cancellation


def _close(run: Any) -> None:
    run.close()
