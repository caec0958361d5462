"""A client of the scripted chat server with a journal of its own, and conversations to send through it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from chat_server import ChatServer
from langchain_core.messages import HumanMessage, SystemMessage

from agent.llm.client import ChatClient, Reply, open_chat
from agent.run.journal import Journal

PIXEL = (
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAP//////////////////////////////////////////////////////////////////////"
    "////////////////wgALCAABAAEBAREA/8QAFBABAAAAAAAAAAAAAAAAAAAAAP/aAAgBAQABPxA="
)
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": f"Call {name}.",
            "parameters": {"type": "object", "properties": {"x": {"type": "integer"}}},
        },
    }
    for name in ("zoom", "answer")
]
KEY = "sk-planted-0123456789-abcdefghij"


def conversation(number: int = 0) -> list[Any]:
    """A conversation with an image, a little different for every number."""
    image = {"type": "image", "base64": PIXEL, "mime_type": "image/jpeg"}
    question = {"type": "text", "text": f"{number}?"}
    return [SystemMessage("You look at slides."), HumanMessage([question, image])]


def price_file(folder: Path, usd: float) -> Path:
    """A user's table in which the scripted model costs `usd` for a million tokens, in or out."""
    path = folder / "prices.json"
    path.write_text(json.dumps({"openai:tiny": {"in": usd, "out": usd}}))
    return path


class Desk:
    """A client of a scripted server, its journal, and the waits it was made to take."""

    def __init__(self, folder: Path, server: ChatServer, **options: Any) -> None:
        self.waits: list[float] = []
        self.journal, self.server = Journal(folder), server
        self.client: ChatClient = open_chat(
            "openai:tiny", base_url=server.url, sleep=self.waits.append, **options
        )

    def ask(self, number: int = 1, **options: Any) -> Reply:
        """The reply to conversation number `number`."""
        turn = f"{number:03d}-decide"
        return self.client.ask(self.journal, "run-1", turn, conversation(number), TOOLS, **options)

    def files(self) -> str:
        """Everything that the journal holds."""
        return "".join(path.read_text() for path in sorted(self.journal.folder.glob("*.json")))
