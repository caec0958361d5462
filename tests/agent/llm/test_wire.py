"""The HTTP client under OpenAI-compatible servers, and what takes keys out of texts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.llm.http import Wire, tidied
from agent.llm.redact import INSTEAD, Redactor


class Endless(httpx.SyncByteStream):
    """A body that never ends."""

    def __iter__(self) -> Iterator[bytes]:
        while True:
            yield b"x" * 65_536


def endless(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, stream=Endless())


def test_a_reply_without_end_is_given_up() -> None:
    client = Wire(5.0, transport=httpx.MockTransport(endless))
    with pytest.raises(httpx.DecodingError, match="too long"):
        client.get("http://server/")


def test_a_reply_that_drips_is_given_up() -> None:
    ticks = count(step=2.0)
    client = Wire(5.0, transport=httpx.MockTransport(endless), clock=lambda: next(ticks))
    with pytest.raises(httpx.ReadTimeout):
        client.get("http://server/")


def test_a_compressed_reply_is_read() -> None:
    import gzip

    reply_body = {"choices": [{"message": {"role": "assistant", "content": "Fine."}}]}
    body = gzip.compress(json.dumps(reply_body).encode())
    headers = {"content-encoding": "gzip", "x-kept": "yes"}
    transport = httpx.MockTransport(lambda request: httpx.Response(200, headers=headers, content=body))
    reply = Wire(5.0, transport=transport).get("http://server/")
    assert reply.json() == reply_body
    assert reply.headers["x-kept"] == "yes"


def test_what_is_no_completion_stays_as_it_is() -> None:
    for body in (b"", b"<html>", b"[]", b'{"choices": null}', b'{"choices": [1]}', b"\xff", b"[" * 100_000):
        assert tidied(body) == body


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
JSON = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3))


@given(arguments=JSON | st.dictionaries(st.text(), JSON), ident=JSON, name=JSON)
def test_every_call_comes_out_in_the_form_of_openai(arguments: object, ident: object, name: object) -> None:
    call = {"id": ident, "function": {"name": name, "arguments": arguments}}
    body = json.dumps({"choices": [{"message": {"tool_calls": [call, dict(call)]}}]}).encode()
    calls = json.loads(tidied(body))["choices"][0]["message"]["tool_calls"]
    assert len({one["id"] for one in calls}) == 2
    assert all(isinstance(one["function"]["name"], str) for one in calls)
    assert all(isinstance(one["function"]["arguments"], str) for one in calls)


def test_secrets_are_taken_out_of_texts() -> None:
    redactor = Redactor(
        {
            "OPENAI_API_KEY": "abcd-1234-efgh",
            "DB_PASSWORD": "abcd-1234-efgh-longer",
            "TOKENIZERS_PARALLELISM": "false",
            "HOME": "/home/somebody",
        }
    )
    likely = "sk-ant-" + "a1" * 12
    text = redactor.text(f"abcd-1234-efgh-longer, abcd-1234-efgh, {likely}, false, /home/somebody")
    assert text == f"{INSTEAD}, {INSTEAD}, {INSTEAD}, false, /home/somebody"
    assert redactor.value({"abcd-1234-efgh": ["abcd-1234-efgh", 1, None]}) == {INSTEAD: [INSTEAD, 1, None]}
    said = redactor.words("key abcd-1234-efg*** and\nabcd-1234-efgh are bad, my-model-of-16-billion is not")
    assert said == f"key {INSTEAD} and {INSTEAD} are bad, my-model-of-16-billion is not"
    assert len(redactor.words("why " * 1000)) < 210


@given(before=st.text(), after=st.text())
def test_a_secret_never_stays(before: str, after: str) -> None:
    redactor = Redactor({"X_SECRET": "hunter2-hunter2"})
    assert "hunter2-hunter2" not in redactor.text(f"{before}hunter2-hunter2{after}")
