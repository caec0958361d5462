"""The HTTP client under OpenAI-compatible servers, which may be anything and answer with anything.

A reply is read within one deadline and one size, redirections are not followed (images of a slide go where
the user said, and nowhere else), and calls in a form that LangChain would trip over are put in one that it
takes for a malformed call, so that the model hears of it and nothing is paid twice.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import httpx

from agent.llm.reply import MOST_GARBLED, object_of

MOST_BYTES = 8 << 20
MALFORMED = "no JSON object: "
"""Before arguments that are none; with it they are no JSON either, which LangChain can tell."""


class Wire(httpx.Client):
    """A client that reads every reply whole, in time, and tidies it."""

    def __init__(
        self,
        timeout: float,
        *,
        transport: httpx.BaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        limits = httpx.Timeout(timeout, connect=min(timeout, 30.0))
        super().__init__(timeout=limits, follow_redirects=False, transport=transport)
        self._seconds, self._clock = timeout, clock

    def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        """Raises httpx's errors, a time-out among them where the reply as a whole takes too long."""
        end = self._clock() + self._seconds
        response = super().send(request, **(options | {"stream": True, "follow_redirects": False}))
        try:
            parts, size = [], 0
            for part in response.iter_bytes():
                parts.append(part)
                size += len(part)
                if size > MOST_BYTES:
                    raise httpx.DecodingError("the reply is too long", request=request)
                if self._clock() > end:
                    raise httpx.ReadTimeout("the reply took too long", request=request)
        finally:
            response.close()
        body = b"".join(parts)
        headers = [(n, v) for n, v in response.headers.multi_items() if n.lower() not in _OF_THE_BODY]
        return httpx.Response(
            response.status_code,
            headers=headers,
            content=tidied(body) if response.is_success else body,
            request=request,
        )


_OF_THE_BODY = {"content-encoding", "content-length", "transfer-encoding"}


def tidied(body: bytes) -> bytes:
    """The body of a completion with every call in OpenAI's form; any other body as it is."""
    try:
        reply = json.loads(body)
        calls = [call for choice in reply["choices"] for call in choice["message"].get("tool_calls") or ()]
        for number, call in enumerate(calls):
            _tidy(call, number, {earlier.get("id") for earlier in calls[:number]})
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return body  # no completion, which LangChain says better
    return json.dumps(reply).encode() if calls else body


def _tidy(call: dict[str, Any], number: int, other_ids: set[Any]) -> None:
    """Put one call in OpenAI's form: an id of its own, a name, arguments as the text of a JSON object."""
    if not isinstance(call.get("id"), str) or not call["id"] or call["id"] in other_ids:
        call["id"] = f"call-{number + 1}"
    function = call["function"] = dict(call.get("function") or {})
    if not isinstance(function.get("name"), str):
        function["name"] = ""
    arguments = function.get("arguments")
    if arguments is None or isinstance(arguments, dict):
        arguments = json.dumps(arguments or {})
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    function["arguments"] = text if object_of(text) is not None else MALFORMED + text[:MOST_GARBLED]
