"""The same run from an event loop: the same items, and a cancellation that leaves a run to resume."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import agent_fakes as fakes
import pytest

import agent
from agent.run.folder import read_trace
from core_model.errors import RunError, UsageError

Run = Callable[..., list[Any]]
QUESTION = "Which tissue is it?"


def given(folder: Path) -> dict[str, Any]:
    return {"options": fakes.OPTIONS, "model": fakes.FakeModel(), "out": folder}


def waiting(run_agent: Run, tmp_path: Path, before: int) -> tuple[threading.Event, threading.Event]:
    """Make runs wait at a tool call, after one whole run: events of having come there, and to go on."""
    reached, go_on = threading.Event(), threading.Event()
    go_on.set()

    def wait(when: str, number: int) -> None:
        if (when, number) == ("before", before):
            reached.set()
            assert go_on.wait(300)

    run_agent(options=fakes.OPTIONS, out=tmp_path / "whole", tools={"hook": wait})
    go_on.clear()
    reached.clear()
    return reached, go_on


def test_it_yields_what_stream_yields(run_agent: Run, tmp_path: Path) -> None:
    *steps, answer = run_agent(options=fakes.OPTIONS)

    async def collect() -> list[Any]:
        return [item async for item in agent.astream(fakes.fake_slide(), QUESTION, **given(tmp_path / "a"))]

    *same, told = asyncio.run(collect())
    assert [step.action for step in same] == [step.action for step in steps]
    assert told.answer == answer.answer
    again = asyncio.run(agent.aask(fakes.fake_slide(), QUESTION, **given(tmp_path / "a"), resume=True))
    assert again == told


def test_the_loop_is_free_while_a_step_is_made(run_agent: Run, tmp_path: Path) -> None:
    reached, go_on = waiting(run_agent, tmp_path, before=2)

    async def both() -> Any:
        asking = asyncio.create_task(agent.aask(fakes.fake_slide(), QUESTION, **given(tmp_path / "a")))
        await asyncio.to_thread(reached.wait, 10)
        go_on.set()  # only a loop that is free comes here
        return await asking

    assert asyncio.run(both()).choice == "pink tissue"


@pytest.mark.parametrize("times", [1, 3])
def test_a_cancelled_run_is_paused_and_its_folder_free(run_agent: Run, tmp_path: Path, times: int) -> None:
    reached, go_on = waiting(run_agent, tmp_path, before=3)

    async def cancelled() -> None:
        asking = asyncio.create_task(agent.aask(fakes.fake_slide(), QUESTION, **given(tmp_path / "a")))
        await asyncio.to_thread(reached.wait, 10)
        for _ in range(times):
            asking.cancel()
            await asyncio.sleep(0)
        assert not asking.done()  # the step in hand is not thrown away
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await asking

    asyncio.run(cancelled())
    assert [step.index for step in read_trace(tmp_path / "a")] == [1, 2, 3]
    answer = agent.ask(fakes.fake_slide(), QUESTION, **given(tmp_path / "a"), resume=True)
    assert answer.choice == "pink tissue"
    actions = [step.action for step in read_trace(tmp_path / "whole")]
    assert [step.action for step in read_trace(tmp_path / "a")] == actions


def test_leaving_the_loop_early_frees_the_folder(run_agent: Run, tmp_path: Path) -> None:
    run_agent(options=fakes.OPTIONS)

    async def first() -> None:
        items = agent.astream(fakes.fake_slide(), QUESTION, **given(tmp_path / "a"))
        assert (await anext(items)).index == 1
        await items.aclose()

    asyncio.run(first())
    assert agent.ask(fakes.fake_slide(), QUESTION, **given(tmp_path / "a"), resume=True).choice


def test_errors_and_pauses_are_those_of_ask(run_agent: Run, tmp_path: Path) -> None:
    run_agent(options=fakes.OPTIONS)
    with pytest.raises(UsageError):
        asyncio.run(agent.aask(fakes.fake_slide(), " "))
    control = agent.Control()
    control.pause()
    with pytest.raises(RunError, match="paused"):
        asyncio.run(agent.aask(fakes.fake_slide(), QUESTION, **given(tmp_path / "a"), control=control))
