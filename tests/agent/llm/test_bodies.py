"""Bodies that are no plain completion: streams, errors under a good status, pages of proxies."""

from __future__ import annotations

import json
import logging
from typing import Any

import chat_server as served
import pytest
from chat_desk import KEY, price_file
from hypothesis import given
from hypothesis import strategies as st

from agent.llm.redact import Redactor
from agent.llm.streamed import whole
from core_model.errors import ProviderError

PAGE = (
    b"<html><head><title>Sign in</title><style>p {}</style></head><body><h1>Hospital proxy</h1></body></html>"
)


def events(*chunks: Any, end: str = "data: [DONE]\n\n", line: str = "\n") -> bytes:
    """A body of server-sent events."""
    text = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + end
    return text.replace("\n", line).encode()


def chunk(finish: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"id": "1", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def call(index: int | None, **function: Any) -> dict[str, Any]:
    part = {"type": "function", "function": function}
    return part | ({"index": index} if index is not None else {})


USAGE = {"prompt_tokens": 700, "completion_tokens": 5, "total_tokens": 705}
STREAMS = {
    "words": (
        events(chunk(role="assistant"), chunk(content="Fi"), chunk(content="ne."), chunk("stop")),
        "Fine.",
        [],
    ),
    "a call in parts": (
        events(
            chunk(tool_calls=[call(0, name="zoom", arguments="")]),
            chunk(tool_calls=[call(0, arguments='{"x"')]),
            chunk(tool_calls=[call(0, arguments=": 1}"), call(1, name="answer", arguments="{}")]),
            chunk("tool_calls"),
        ),
        "",
        [("zoom", {"x": 1}), ("answer", {})],
    ),
    "calls without numbers": (
        events(chunk(tool_calls=[call(None, name="zoom", arguments={"x": 2})]), chunk("stop")),
        "",
        [("zoom", {"x": 2})],
    ),
    "comments, and lines of another kind": (
        b": ping\r\n\r\n" + events(chunk(content="Fine."), chunk("stop"), end="", line="\r\n"),
        "Fine.",
        [],
    ),
    "usage at the end": (
        events(chunk(content="Fine."), chunk("stop"), {"choices": [], "usage": USAGE}),
        "Fine.",
        [],
    ),
}


@pytest.mark.parametrize(("body", "text", "calls"), STREAMS.values(), ids=STREAMS.keys())
def test_a_stream_that_nobody_asked_for_is_understood(desk: Any, body: bytes, text: str, calls: Any) -> None:
    at = desk(served.garbage(body, kind="text/event-stream"))
    reply = at.ask()
    assert (reply.text, [(c.name, c.args) for c in reply.calls], reply.attempts) == (text, calls, 1)
    if b"usage" in body:
        assert (reply.tokens_in, reply.tokens_out) == (700, 5)


def test_half_a_stream_is_no_answer(desk: Any) -> None:
    half = served.garbage(events(chunk(content="Fi"), end=""), kind="text/event-stream")
    at = desk(half, served.say("Fine."))
    assert (at.ask().text, len(at.server.requests)) == ("Fine.", 2)


@given(st.lists(st.text(max_size=5), min_size=1, max_size=6), st.sampled_from(["\n", "\r\n"]))
def test_a_stream_says_what_its_parts_say(parts: list[str], line: str) -> None:
    body = events(*(chunk(content=part) for part in parts), chunk("stop"), line=line)
    reply = whole(body)
    assert reply is not None
    assert reply["choices"][0]["message"]["content"] == "".join(parts)
    assert whole(body[: body.index(b"stop") - 20]) is None


LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=3)
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner)
)


@given(delta=JSON, calls=JSON, index=JSON, function=JSON, finish=JSON)
def test_a_stream_may_hold_anything(delta: Any, calls: Any, index: Any, function: Any, finish: Any) -> None:
    parts = [{"index": index, "id": calls, "function": function}, calls]
    bodies = (
        chunk(finish, tool_calls=parts),
        {"choices": [{"delta": delta, "finish_reason": finish}, delta]},
    )
    for body in (events(*bodies), events(bodies[1]), events(delta, end="")):
        reply = whole(body)
        assert reply is None or isinstance(reply, dict)


def test_an_error_under_a_good_status_is_an_error_and_free(desk: Any, tmp_path: Any) -> None:
    for body, says in (
        (
            {"error": {"message": "The model is overloaded.", "code": 503}},
            "status 503: The model is overloaded.",
        ),
        ({"error": {"message": "No such model.", "code": "404"}}, r"\(404\): No such model."),
        ({"error": "CUDA out of memory"}, "CUDA out of memory"),
        ({"detail": "not today"}, "not today"),
        ({"object": "error", "message": "max tokens", "code": 40303}, "max tokens"),
    ):
        at = desk(served.other(body), max_cost=0.01, prices=price_file(tmp_path, 1.0))
        with pytest.raises(ProviderError, match=says):
            at.ask()
        assert at.client.spent(at.journal).lost_usd == 0
        at.journal.folder.rename(tmp_path / f"done-{len(list(tmp_path.iterdir()))}")


def test_an_error_in_a_stream_is_an_error(desk: Any) -> None:
    body = events({"error": {"message": "The engine died.", "code": 400}}, end="")
    with pytest.raises(ProviderError, match=r"refused the request \(400\): The engine died."):
        desk(served.garbage(body, kind="text/event-stream")).ask()


@pytest.mark.parametrize("kind", ["text/html", "application/json"])
def test_a_page_of_a_proxy_is_shown_and_not_asked_for_six_times(desk: Any, tmp_path: Any, kind: str) -> None:
    at = desk(served.garbage(PAGE, kind=kind), max_cost=0.01, prices=price_file(tmp_path, 1.0))
    with pytest.raises(ProviderError) as caught:
        at.ask()
    assert "not a completion: Sign in Hospital proxy." in str(caught.value)
    assert "Check --model and --base-url" in str(caught.value)
    assert len(at.server.requests) == 3
    assert at.client.spent(at.journal).lost_usd == 0


def test_pages_under_a_bad_status_are_shown_in_words(desk: Any) -> None:
    with pytest.raises(ProviderError, match=r"\(403\): Sign in Hospital proxy"):
        desk(served.garbage(PAGE, kind="text/html", status=403)).ask()


def test_a_server_that_loads_its_model_is_waited_for(desk: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    at = desk(*[served.error(503, "Loading model")] * 20, served.say("Fine."))
    reply = at.ask()
    assert (reply.text, len(at.server.requests)) == ("Fine.", 21)
    assert sum(at.waits) == 100
    assert [line for line in caplog.messages if "loading the model" in line] == [
        "openai:tiny: its server is loading the model; waiting until it is there."
    ]


def test_a_server_that_loads_for_ever_ends_the_run(desk: Any) -> None:
    at = desk(served.error(503, "Loading model"))
    with pytest.raises(ProviderError, match="still loading the model after 30 minutes"):
        at.ask()
    assert sum(at.waits) == 1800


HINTS = (
    '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set',
    "At most 1 image(s) may be provided. Set --limit-mm-per-prompt to increase this limit",
    "The model `mistralai/Mistral-Small-3.2-24B-Instruct-2506` does not exist; Qwen2.5-VL-72B-AWQ does",
)


@pytest.mark.parametrize("hint", HINTS)
def test_hints_of_a_server_are_shown_whole(desk: Any, monkeypatch: pytest.MonkeyPatch, hint: str) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("GIT_AUTHOR_NAME", "Mistral-Small-3.2-24B-Instruct-2506")
    with pytest.raises(ProviderError) as caught:
        desk(served.error(400, f"{hint} (key {KEY}, {KEY[:6]}***hij, {KEY[:20]}...)")).ask()
    said = str(caught.value)
    assert all(word in said for word in hint.split())
    assert KEY[:12] not in said
    assert "***" not in said


@given(st.text())
def test_nothing_but_keys_is_hidden(text: str) -> None:
    assert Redactor({"HOME": "/home/x", "MODEL": "qwen2.5-vl"}).text(text) == text
