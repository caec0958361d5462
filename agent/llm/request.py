"""A request as the journal keeps it: everything that was said, with a hash in place of each image."""

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
"""What a message says. Ids and the provider's remarks are none of it."""


@dataclass(frozen=True)
class Request:
    """One call that is to be made."""

    model: str
    profile: ModelProfile
    messages: Sequence[BaseMessage]
    tools: Sequence[dict[str, Any]]
    force: str | None

    @cached_property
    def _read(self) -> tuple[dict[str, Any], str, int]:
        pixels: list[int] = []
        described = {
            "model": self.model,
            "max_tokens": self.profile.max_tokens,
            "messages": [_message(message, pixels) for message in self.messages],
            "tools": list(self.tools),
            "force": self.force,
        }
        text = json.dumps(described, sort_keys=True)
        tokens = text_tokens(text) + sum(image_tokens(area, self.profile) for area in pixels)
        return described, hashlib.sha256(text.encode()).hexdigest(), tokens

    @property
    def described(self) -> dict[str, Any]:
        """The request as JSON, without pixels."""
        return self._read[0]

    @property
    def digest(self) -> str:
        """SHA-256 of what is asked: the same request has the same in every process."""
        return self._read[1]

    @property
    def tokens_in(self) -> int:
        """Upper estimate of its tokens."""
        return self._read[2]


def _message(message: BaseMessage, pixels: list[int]) -> dict[str, Any]:
    said = {name: value for name in _FIELDS if (value := getattr(message, name, None))}
    return {"type": message.type} | _without_images(said, pixels)


def _without_images(value: Any, pixels: list[int]) -> Any:
    """The value with {"image_sha256", "bytes"} for each image; their areas are added to `pixels`."""
    if isinstance(value, list | tuple):
        return [_without_images(one, pixels) for one in value]
    if not isinstance(value, dict):
        return value
    encoded = _image(value)
    if encoded is None:
        return {str(key): _without_images(one, pixels) for key, one in value.items()}
    digest, size, area = _facts(encoded)
    pixels.append(area)
    return {"image_sha256": digest, "bytes": size}


@lru_cache(maxsize=32)  # a conversation sends the same few images again with every turn
def _facts(encoded: str) -> tuple[str, int, int]:
    """SHA-256, bytes and pixels of an image in base64; 0 pixels where it is none."""
    image = base64.b64decode(encoded)
    try:
        with Image.open(io.BytesIO(image)) as opened:
            area = opened.width * opened.height
    except (OSError, ValueError):
        area = 0
    return hashlib.sha256(image).hexdigest(), len(image), area


def _image(block: dict[str, Any]) -> str | None:
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
