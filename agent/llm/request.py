"""One request to a chat model as the journal keeps it: all its words, with a hash for each image."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from PIL import Image

from agent.llm.profiles import ModelProfile
from agent.llm.spending import image_tokens, text_tokens

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

_FIELDS = ("content", "tool_calls", "tool_call_id", "name", "status", "additional_kwargs")
"""The fields that make up a message, without ids and the provider's remarks."""


@dataclass(frozen=True)
class ChatRequest:
    """One call that is to be made."""

    model: str
    profile: ModelProfile
    messages: Sequence[BaseMessage]
    tools: Sequence[dict[str, Any]]
    force: str | None

    @cached_property
    def _record(self) -> tuple[dict[str, Any], str, int]:
        pixels: list[int] = []
        request = {
            "model": self.model,
            "max_tokens": self.profile.max_tokens,
            "messages": [_message(message, pixels) for message in self.messages],
            "tools": list(self.tools),
            "force": self.force,
        }
        text = json.dumps(request, sort_keys=True)
        tokens = text_tokens(text) + sum(image_tokens(area, self.profile) for area in pixels)
        return request, hashlib.sha256(text.encode()).hexdigest(), tokens

    @property
    def described(self) -> dict[str, Any]:
        """The request as JSON, without pixels."""
        return self._record[0]

    @property
    def digest(self) -> str:
        """SHA-256 of what is asked: the same request has the same in every process."""
        return self._record[1]

    def key(self, turn: str) -> str:
        """Its name in the journal, where it is asked in this turn."""
        return f"{turn}-{self.digest[:12]}"

    @property
    def tokens_in(self) -> int:
        """Upper estimate of its tokens."""
        return self._record[2]


def _message(message: BaseMessage, pixels: list[int]) -> dict[str, Any]:
    fields = {name: value for name in _FIELDS if (value := getattr(message, name, None))}
    return {"type": message.type} | _without_images(fields, pixels)


def _without_images(value: Any, pixels: list[int]) -> Any:
    """The value with {"image_sha256", "bytes"} for each image; their areas are added to `pixels`."""
    if isinstance(value, list | tuple):
        return [_without_images(item, pixels) for item in value]
    if not isinstance(value, dict):
        return value
    data = _image_data(value)
    if data is None:
        return {str(key): _without_images(item, pixels) for key, item in value.items()}
    digest, size, area = _facts(data)
    pixels.append(area)
    return {"image_sha256": digest, "bytes": size}


@lru_cache(maxsize=32)  # a conversation sends the same few images again with every turn
def _facts(data: str) -> tuple[str, int, int]:
    """SHA-256, bytes and pixels of an image in base64; 0 pixels where it is none."""
    content = base64.b64decode(data)
    try:
        with Image.open(io.BytesIO(content)) as image:
            area = image.width * image.height
    except (OSError, ValueError):
        area = 0
    return hashlib.sha256(content).hexdigest(), len(content), area


def _image_data(block: dict[str, Any]) -> str | None:
    """The base64 of a content block that is an image, in any of the forms LangChain knows."""
    if block.get("type") == "image_url":
        inner = block.get("image_url")
        url = inner.get("url") if isinstance(inner, dict) else inner
        return url.partition(",")[2] if isinstance(url, str) and url.startswith("data:") else None
    if block.get("type") == "image":
        source = block.get("source")
        data = block.get("base64") or block.get("data") or (source or {}).get("data")
        return data if isinstance(data, str) else None
    return None
