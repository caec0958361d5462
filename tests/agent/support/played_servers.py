"""Servers as they are found in the wild, each played for whole runs by rules over the requests it gets.

    played = Played(no_tools(400, "llava does not support tools"))
    with ChatServer(played) as server: ...

A `Rule` looks at a request and gives the answer of a server that does not take it, or None. What passes all
the rules is answered by a model that does as it is told: it zooms once, answers, and confirms. `write` says
how it writes a call; by default as a tool call, and in JSON where the request offers no tools.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

import chat_fakes as chat
import chat_server as server

Request = dict[str, Any]
Rule = Callable[[Request], server.Served | None]
Write = Callable[[str, dict[str, Any]], server.Served]


class Played:
    """A script for `ChatServer`: rules, and behind them a model that does as it is told."""

    def __init__(self, *rules: Rule, write: Write | None = None) -> None:
        self.rules, self.write = rules, write
        self.refused, self.answered = list[Request](), list[Request]()

    def __call__(self, request: Request, number: int) -> server.Served:
        for rule in self.rules:
            refusal = rule(request)
            if refusal is not None:
                self.refused.append(request)
                return refusal
        self.answered.append(request)
        name, args = self.wanted(request)
        if self.write is not None:
            return self.write(name, args)
        return server.calls((name, args)) if request.get("tools") else in_json(name, args)

    def wanted(self, request: Request) -> tuple[str, dict[str, Any]]:
        """The call that the model makes: a zoom at first, then the answer, and the verdict where asked."""
        tools = offered(request)
        if tools == ["verdict"]:
            said = {"evidence_for": "", "evidence_against": "", "conflict": False}
            return "verdict", {**said, "choice": "pink tissue", "confidence": 0.7, "reason": "It is pink."}
        if tools == ["answer"] or len(self.answered) > 1:
            seen = [{"step": 1, "finding": "Pink tissue on the left."}]
            return "answer", {"seen": seen, **chat.answer()[1]}
        thoughts = {
            "seen": [{"step": 1, "finding": "Pink tissue on the left."}],
            "leaning": [{"answer": "pink tissue", "probability": 0.8}],
        }
        return "zoom", {**thoughts, **chat.zoom(200, 200, 300, 200)[1]}


def offered(request: Request) -> list[str]:
    """The names of the tools that a request offers, as tools or in words."""
    if request.get("tools"):
        return [tool["function"]["name"] for tool in request["tools"]]
    words = server.text_of(request).partition("The tools and their arguments:\n")[2]
    listed = itertools.takewhile(lambda line: line.startswith(("- ", "    ")), words.splitlines())
    return [line[2:].partition(":")[0] for line in listed if line.startswith("- ")]


def in_json(name: str, args: dict[str, Any]) -> server.Served:
    """A call in words, in the form that was asked for."""
    return server.say(json.dumps({"tool": name, "arguments": args}))


def no_tools(status: int, message: str) -> Rule:
    """A server that calls no tools."""
    return lambda request: server.error(status, message) if request.get("tools") else None


def no_choice(status: int, message: str) -> Rule:
    """A server that cannot be told which tool to call."""
    return lambda request: server.error(status, message) if request.get("tool_choice") else None


def most_images(most: int, message: str, status: int = 400) -> Rule:
    """A server that takes so many images in a request."""
    return lambda request: server.error(status, message) if len(server.images_of(request)) > most else None


def most_bytes(most: int, answer: server.Served) -> Rule:
    """A server that takes so many bytes in a request."""
    return lambda request: answer if len(json.dumps(request)) > most else None


def tokens_of(request: Request) -> int:
    """Tokens of a request, as a server with patches of 28 px counts them."""
    import io

    from PIL import Image

    sizes = [Image.open(io.BytesIO(data)).size for data in server.images_of(request)]
    pixels = sum(width * height for width, height in sizes)
    return (len(server.text_of(request)) + len(json.dumps(request.get("tools") or []))) // 4 + pixels // 784


def most_tokens(most: int, message: str, status: int = 400) -> Rule:
    """A server with so long a context; `message` may name {asked}."""

    def rule(request: Request) -> server.Served | None:
        asked = tokens_of(request)
        return server.error(status, message.format(asked=asked)) if asked > most else None

    return rule


def no_order(wrong: Callable[[str, str], bool], message: str, status: int = 400) -> Rule:
    """A server that refuses one speaker right behind another."""

    def rule(request: Request) -> server.Served | None:
        roles = [message["role"] for message in request["messages"]]
        pairs = zip(["", *roles], roles, strict=False)
        return server.error(status, message) if any(wrong(*pair) for pair in pairs) else None

    return rule
