"""A desk at a scripted chat server, and an environment that names no key, server or table."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from chat_desk import Desk
from chat_server import ChatServer, Served

SETTINGS = ("OPENAI_", "ANTHROPIC_", "GOOGLE_", "GEMINI_", "GIANT_", "LANGSMITH_", "LANGCHAIN_")


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(SETTINGS):
            monkeypatch.delenv(name)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Callable[..., Desk]]:
    """Opens a desk at a server that says `replies`, one after another and the last for ever."""
    servers: list[ChatServer] = []

    def opened(*replies: Served, **options: Any) -> Desk:
        servers.append(ChatServer(lambda request, number: replies[min(number, len(replies)) - 1]).__enter__())
        return Desk(tmp_path, servers[-1], **options)

    yield opened
    for server in servers:
        server.__exit__()
