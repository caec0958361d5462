"""Puts a reply together that a server streamed although nobody asked it to (server-sent events)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

END = "[DONE]"


def whole(body: bytes) -> dict[str, Any] | None:
    """The reply that a body of events amounts to, in the form of one that was not streamed.

    An event that is an error counts for the whole. None where the body is no stream, or ends before its end:
    half an answer is none.
    """
    events = list(_events(body))
    for event in events:
        if isinstance(event, dict) and event.get("error"):
            return event
        if isinstance(event, dict) and event.get("type") in ("response.completed", "response.incomplete"):
            reply = event.get("response")  # of OpenAI's Responses, which says all of it once more
            return reply if isinstance(reply, dict) else None
    chunks = [event for event in events if isinstance(event, dict) and isinstance(event.get("choices"), list)]
    finished = any(choice.get("finish_reason") for chunk in chunks for choice in _dicts(chunk["choices"]))
    if not chunks or not (finished or END in events):
        return None
    return _put_together(chunks)


def _events(body: bytes) -> Iterator[Any]:
    """The JSON value of each event, and `END` for the last."""
    for block in body.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n").split("\n\n"):
        lines = [line[5:].removeprefix(" ") for line in block.split("\n") if line.startswith("data:")]
        data = "\n".join(lines).strip()
        if data == END:
            yield END
        elif data:
            try:
                yield json.loads(data)
            except (ValueError, RecursionError):
                yield None


def _put_together(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": None}
    calls: dict[Any, dict[str, Any]] = {}
    finish, usage = None, None
    for chunk in chunks:
        usage = chunk.get("usage") or usage
        for choice in _dicts(chunk["choices"])[:1]:  # one was asked for
            delta = next((d for d in (choice.get("delta"), choice.get("message")) if isinstance(d, dict)), {})
            for name in ("content", "refusal", "reasoning_content"):
                if isinstance(delta.get(name), str):
                    message[name] = (message.get(name) or "") + delta[name]
            for part in _dicts(delta.get("tool_calls")):
                _add_call(calls, part)
            finish = choice.get("finish_reason") or finish
    if calls:
        message["tool_calls"] = list(calls.values())
    head = {name: chunks[0].get(name) for name in ("id", "created", "model")}
    choice = {"index": 0, "message": message, "finish_reason": finish or "stop"}
    return {**head, "object": "chat.completion", "choices": [choice], "usage": usage}


def _add_call(calls: dict[Any, dict[str, Any]], part: dict[str, Any]) -> None:
    """Add a part of a call to what there is of it; a server without numbers sends each call whole."""
    index = part.get("index")
    place = index if isinstance(index, int) else str(part.get("id") or f"number {len(calls)}")
    call = calls.setdefault(
        place, {"id": None, "type": "function", "function": {"name": None, "arguments": ""}}
    )
    given = part.get("function")
    function = given if isinstance(given, dict) else {}
    call["id"] = call["id"] or part.get("id")
    call["function"]["name"] = call["function"]["name"] or function.get("name")
    arguments = function.get("arguments")
    if isinstance(arguments, dict):
        call["function"]["arguments"] = json.dumps(arguments)
    elif isinstance(arguments, str):
        call["function"]["arguments"] += arguments


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
