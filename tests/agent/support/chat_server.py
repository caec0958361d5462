"""An OpenAI-compatible chat server on loopback that answers by a script and remembers what it was sent.

    def script(request, number):                  # the request's JSON, and its number from 1
        return calls(("zoom", {"x": 0}))          # or say(…), refused(…), error(429, …), garbage(…), …

    with ChatServer(script) as server:
        open_chat("openai:any-name", base_url=server.url)

Replies that leave ids or usage open get them from the request: the same request has the same reply in every
process. Nothing here sleeps: a `silent` or `held` reply waits for an event.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

IMAGE_TOKENS = 500


@dataclass(frozen=True)
class Served:
    """What the server does with one request."""

    body: bytes | dict[str, Any] = b""
    """A dict is a completion; the server fills in what it leaves open."""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    share: float = 1.0
    """Share of the body that is sent before the connection is dropped; 1 is all of it."""
    wait: threading.Event | None = None
    """Answer once this is set, or when the server closes."""


@dataclass
class Asked:
    """One request as it came, and how far its answer went."""

    number: int
    path: str
    headers: dict[str, str]
    """Names in lower case."""
    body: dict[str, Any]
    status: int = 0
    done: bool = False
    """Whether a whole answer was handed to the connection."""

    @property
    def key(self) -> str:
        """The idempotency key it came with."""
        return self.headers.get("idempotency-key", "")


Script = Callable[[dict[str, Any], int], Served]


def say(text: str | None, *, finish: str = "stop", usage: dict[str, int] | None = None) -> Served:
    """A reply in words; with None or "" an empty one, with finish "length" one that was cut."""
    return _completion({"role": "assistant", "content": text}, finish, usage)


def calls(*wanted: tuple[str, Any], text: str | None = None, usage: dict[str, int] | None = None) -> Served:
    """Tool calls. Arguments that are a text go out as they are, well formed or not."""
    made = [
        {
            "id": None,
            "type": "function",
            "function": {"name": name, "arguments": args if isinstance(args, str) else json.dumps(args)},
        }
        for name, args in wanted
    ]
    return _completion({"role": "assistant", "content": text, "tool_calls": made}, "tool_calls", usage)


def refused(words: str) -> Served:
    """A refusal in the field that OpenAI has for it."""
    return _completion({"role": "assistant", "content": None, "refusal": words}, "stop", None)


def filtered() -> Served:
    """A reply that the provider's content filter took away."""
    return say("", finish="content_filter")


def error(
    status: int, message: str = "no", *, headers: dict[str, str] | None = None, code: str = ""
) -> Served:
    """An error in OpenAI's form."""
    body = {"error": {"message": message, "type": "error", "param": None, "code": code or None}}
    kind = {"content-type": "application/json"}
    return Served(json.dumps(body).encode(), status, kind | (headers or {}))


def garbage(body: bytes, *, kind: str = "application/json", status: int = 200) -> Served:
    """Any bytes under any content type."""
    return Served(body, status, {"content-type": kind})


def other(reply: dict[str, Any]) -> Served:
    """A reply in the form of another API, as it is."""
    return garbage(json.dumps(reply).encode())


def dropped(reply: Served, share: float = 0.5) -> Served:
    """The connection ends within the body."""
    return replace(reply, share=share)


def held(reply: Served, until: threading.Event) -> Served:
    """The reply once the event is set."""
    return replace(reply, wait=until)


def silent() -> Served:
    """No answer for as long as the server is up."""
    return Served(wait=threading.Event(), share=0.0)


def images_of(request: dict[str, Any]) -> list[bytes]:
    """The images of a request, in order, decoded."""
    found = []
    for part in _parts(request):
        if part.get("type") == "image_url":
            found.append(base64.b64decode(part["image_url"]["url"].split(",", 1)[1], validate=True))
    return found


def text_of(request: dict[str, Any]) -> str:
    """Everything in words that a request says, message by message."""
    return "\n".join(part["text"] for part in _parts(request) if part.get("type") == "text")


def _parts(request: dict[str, Any]) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = []
    for message in request.get("messages", []):
        content = message.get("content") or ""
        parts += [{"type": "text", "text": content}] if isinstance(content, str) else content
    return parts


def _completion(message: dict[str, Any], finish: str, usage: dict[str, int] | None) -> Served:
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return Served({"object": "chat.completion", "choices": [choice], "usage": usage})


def _filled(body: dict[str, Any], request: dict[str, Any]) -> bytes:
    """The completion with ids and usage, both from the request."""
    digest = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
    body = {"id": f"chatcmpl-{digest[:12]}", "created": 1, "model": request.get("model", "")} | body
    for choice in body["choices"]:
        for number, call in enumerate(choice["message"].get("tool_calls") or []):
            call["id"] = call["id"] or f"call_{digest[:12]}_{number}"
    if body["usage"] is None:
        prompt = len(text_of(request)) // 4 + IMAGE_TOKENS * len(images_of(request)) + 1
        reply = len(json.dumps(body["choices"])) // 4
        body["usage"] = {
            "prompt_tokens": prompt,
            "completion_tokens": reply,
            "total_tokens": prompt + reply,
        }
    return json.dumps(body).encode()


class ChatServer:
    """Serves until the `with` block ends. `requests` grows in the order in which requests came."""

    def __init__(self, script: Script) -> None:
        self.script, self.requests = script, list[Asked]()
        self._lock, self._closing = threading.Lock(), threading.Event()
        self._http = _Server(("127.0.0.1", 0), _Handler)
        self._http.chat = self
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> ChatServer:
        self._thread.start()
        return self

    def __exit__(self, *what: object) -> None:
        self._closing.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def completed(self) -> list[str]:
        """The idempotency keys of requests that got a whole good answer, in order."""
        return [asked.key for asked in self.requests if asked.done and asked.status == 200]

    def heard(self, path: str, headers: dict[str, str], body: dict[str, Any]) -> Asked:
        """Remember a request."""
        with self._lock:
            asked = Asked(len(self.requests) + 1, path, headers, body)
            self.requests.append(asked)
        return asked

    def answer(self, asked: Asked) -> tuple[Served, bytes]:
        """What the script says to it, once its time has come."""
        served = self.script(asked.body, asked.number)
        while served.wait is not None and not served.wait.wait(0.02) and not self._closing.is_set():
            pass
        body = served.body if isinstance(served.body, bytes) else _filled(served.body, asked.body)
        return served, body


def _object(raw: bytes) -> dict[str, Any]:
    """The JSON object of a request; an empty one for anything else that was sent here."""
    try:
        body = json.loads(raw)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    chat: ChatServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is part of what is tested."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_POST(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        raw = self.rfile.read(length)
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = self.server.chat.heard(self.path, headers, _object(raw))
        served, body = self.server.chat.answer(asked)
        asked.status = served.status
        lines = {"content-type": "application/json", "content-length": str(len(body))} | served.headers
        head = f"HTTP/1.1 {served.status} Scripted\r\n" + "".join(f"{k}: {v}\r\n" for k, v in lines.items())
        self.close_connection = served.share < 1
        if served.share > 0:
            self.wfile.write(head.encode() + b"\r\n" + body[: int(len(body) * served.share)])
        asked.done = served.share >= 1

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""
