"""The HTTP client under OpenAI-compatible servers, which may be anything and answer with anything.

A reply is read within one deadline and one size, redirections are not followed (images of a slide go where
the user said, and nowhere else), and calls in a form that LangChain would trip over are put in one that it
takes for a malformed call, so that the model hears of it and nothing is paid twice. A reply that was streamed
is put together; a page of a proxy, an error under a good status, or half a body is raised with its words.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import httpx

from agent.llm.network import certificates, proxy_to
from agent.llm.reply import MOST_GARBLED, object_of
from agent.llm.streamed import whole

MOST_BYTES = 8 << 20
MALFORMED = "no JSON object: "
"""Before arguments that are none; with it they are no JSON either, which LangChain can tell."""


class NoCompletion(httpx.DecodingError):
    """A body under a good status that is no reply of a model."""

    def __init__(
        self, text: str, *, request: httpx.Request, status: int | None = None, cut: bool = False
    ) -> None:
        super().__init__("the answer is not a completion", request=request)
        self.text, self.error_status = text, status
        """The words of the body, and the status that an error in it names."""
        self.cut = cut
        """Whether it begins like a reply, which the provider may have made and be paid for."""


class Wire(httpx.Client):
    """A client of one server that reads every reply whole, in time, and tidies it.

    `server` says whether a proxy leads to it; the environment is asked by `agent.llm.network` alone.
    """

    def __init__(
        self,
        timeout: float,
        *,
        server: str = "",
        transport: httpx.BaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        limits = httpx.Timeout(timeout, connect=min(timeout, 30.0))
        super().__init__(
            timeout=limits,
            follow_redirects=False,
            transport=transport,
            trust_env=False,
            proxy=proxy_to(server) if server else None,
            verify=certificates(),
        )
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
        if response.is_success:
            body, headers = reply_in(body, request), [*headers, ("content-type", "application/json")]
        else:
            headers += [("content-type", response.headers.get("content-type", "text/plain"))]
        return httpx.Response(response.status_code, headers=headers, content=body, request=request)


_OF_THE_BODY = {"content-encoding", "content-length", "transfer-encoding", "content-type"}


def reply_in(body: bytes, request: httpx.Request) -> bytes:
    """The reply that a body under a good status is, tidied. Raises `NoCompletion` where it is none."""
    text = body.decode("utf-8", "replace").strip()
    if text.startswith(("data:", "event:", ":", "id:", "retry:")):
        reply: Any = whole(body)
        if reply is None:
            raise NoCompletion(text, request=request, cut=True)
        body = json.dumps(reply).encode()
    else:
        try:
            reply = json.loads(body)
        except (ValueError, RecursionError):
            is_cut = text.startswith("{") and '"choices"' in text
            raise NoCompletion(text, request=request, cut=is_cut) from None
    if not isinstance(reply, dict) or not any(_has_message(reply, name) for name in ("choices", "output")):
        raise NoCompletion(body.decode("utf-8", "replace"), request=request, status=_status_in(reply))
    return tidied(body)


def _has_message(reply: dict[str, Any], name: str) -> bool:
    """Whether a model says something in it; OpenAI's Responses may hold an error of null beside it."""
    parts = reply.get(name)
    if name == "output":
        return isinstance(parts, list)
    return isinstance(parts, list) and any(
        isinstance(p, dict) and isinstance(p.get("message"), dict) for p in parts
    )


def _status_in(reply: Any) -> int | None:
    """The status that an error under a good one names."""
    error = reply.get("error") if isinstance(reply, dict) else None
    places = [place for place in (error, reply) if isinstance(place, dict)]
    codes = [str(place.get(name)) for place in places for name in ("code", "status", "status_code")]
    return next((int(code) for code in codes if code.isdecimal() and 400 <= int(code) < 600), None)


def tidied(body: bytes) -> bytes:
    """The body of a completion with every call in OpenAI's form; any other body as it is."""
    try:
        reply = json.loads(body)
        choices = [(choice, choice["message"].get("tool_calls") or ()) for choice in reply["choices"]]
        calls = [call for _, made in choices for call in made]
        cut_calls = [made[-1] for choice, made in choices if made and choice.get("finish_reason") == "length"]
        for number, call in enumerate(calls):
            is_cut = any(call is last for last in cut_calls)
            _tidy(call, number, {earlier.get("id") for earlier in calls[:number]}, is_cut)
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return body  # no completion, which LangChain says better
    return json.dumps(reply).encode() if calls else body


def _tidy(call: dict[str, Any], number: int, other_ids: set[Any], cut: bool) -> None:
    """Put one call in OpenAI's form: an id of its own, a name, arguments as the text of a JSON object.

    What a reply that was cut off lacks is not made up.
    """
    if not isinstance(call.get("id"), str) or not call["id"] or call["id"] in other_ids:
        call["id"] = f"call-{number + 1}"
    function = call["function"] = dict(call.get("function") or {})
    if not isinstance(function.get("name"), str):
        function["name"] = ""
    arguments = function.get("arguments")
    if arguments is None or isinstance(arguments, dict):
        arguments = json.dumps(arguments or {})
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    meant = _whole_object(text) if cut else object_of(text)
    function["arguments"] = json.dumps(meant) if meant is not None else MALFORMED + text[:MOST_GARBLED]


def _whole_object(text: str) -> dict[str, Any] | None:
    """The object of a text that is JSON as it stands."""
    try:
        json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return None
    return object_of(text)
