"""Servers and proxies that answer in unusual ways, for whole runs: the answer is reached, or a clear end."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import chat_fakes as chat
import chat_server as server
import pytest
from played_servers import Played, Request

from agent.llm.client import open_chat
from agent.replay.follow import follow_again
from agent.run.records import Answer
from agent.session import ask as session
from core_model.errors import ProviderError

PAGE = b"<html><head><title>Sign in</title></head><body>Hospital network</body></html>"
PRICES = {"openai:gpt-4o": {"in": 5.0, "out": 20.0}}


def streamed(name: str, args: dict[str, Any]) -> server.Served:
    """A call as a stream, although nobody asked for one."""
    text = json.dumps(args)
    parts = [{"name": name, "arguments": ""}, {"arguments": text[:40]}, {"arguments": text[40:]}]
    chunks: list[Any] = [
        {"id": "1", "choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": part}]}}]}
        for part in parts
    ]
    chunks.append({"id": "1", "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})
    body = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
    return server.garbage(body.encode(), kind="text/event-stream")


def at_first(times: int, fault: server.Served) -> Callable[[Request], server.Served | None]:
    """A fault in the first so many requests."""
    numbers = itertools.count(1)
    return lambda request: fault if next(numbers) <= times else None


ANSWERED: dict[str, tuple[Callable[[], Played], int]] = {
    "streams": (lambda: Played(write=streamed), 0),
    "loads its model": (lambda: Played(at_first(40, server.error(503, "Loading model"))), 40),
    "a page of a proxy, twice": (lambda: Played(at_first(2, server.garbage(PAGE, kind="text/html"))), 2),
    "overloaded under 200": (
        lambda: Played(at_first(2, server.other({"error": {"message": "overloaded", "code": 529}}))),
        2,
    ),
}
ENDED: dict[str, tuple[server.Served, str, int]] = {
    "a page of a proxy": (server.garbage(PAGE, kind="text/html"), "Sign in Hospital network", 3),
    "an error under 200": (
        server.other({"error": {"message": "no such model", "code": 404}}),
        "no such model",
        1,
    ),
    "an error without a code": (server.other({"error": "the engine stopped"}), "the engine stopped", 3),
    "an error in a stream": (server.garbage(b'data: {"error": {"message": "gone"}}\n\n'), "gone", 3),
    "a key it does not know": (server.error(401, "no such key"), "no such key", 1),
    "a proxy that wants a password": (server.garbage(PAGE, status=407), "wants a user and a password", 1),
}

Ask = Callable[[Played], Answer]


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    chat.bind_tools(monkeypatch)
    slide = chat.draw_slide(tmp_path / f"{chat.NAME}.png")
    (tmp_path / "prices.json").write_text(json.dumps(PRICES))

    def run(script: Played) -> Answer:
        with server.ChatServer(script) as served:
            prices = tmp_path / "prices.json"
            model = open_chat("openai:gpt-4o", base_url=served.url, sleep=lambda _: None, prices=prices)
            items = list(
                session.stream(
                    slide, chat.QUESTION, mpp=chat.MPP, model=model, slide_model=chat.SlideModel(),
                    options=chat.OPTIONS, max_steps=6, max_cost=2.0, out=tmp_path / "run",
                )
            )  # fmt: skip
        assert isinstance(items[-1], Answer)
        return items[-1]

    return run


@pytest.mark.parametrize("name", ANSWERED)
def test_the_answer_is_reached(name: str, ask: Ask, tmp_path: Path) -> None:
    make, faults = ANSWERED[name]
    script = make()
    answer = ask(script)
    assert (answer.choice, answer.abstained) == ("pink tissue", False)
    assert answer.cost.calls == len(script.answered)
    assert len(script.refused) == faults
    again = follow_again(tmp_path / "run")
    assert (again.problems, [file.file for file in again.files if file.differs]) == ([], [])


@pytest.mark.parametrize("name", ENDED)
def test_the_end_is_clear_and_costs_nothing(name: str, ask: Ask, tmp_path: Path) -> None:
    fault, says, requests = ENDED[name]
    script = Played(lambda request: fault)
    with pytest.raises(ProviderError, match=says):
        ask(script)
    assert len(script.refused) == requests
    faults = [json.loads(path.read_text()) for path in (tmp_path / "run/journal").glob("chatfault-*.json")]
    assert [fault["value"]["lost_usd"] for fault in faults] == [0.0]
    assert not list((tmp_path / "run/journal").glob("overbudget-*.json"))
