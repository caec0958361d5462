"""A request as the journal keeps it: everything that was said, with a hash in place of each image."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from agent.chat.profiles import ModelProfile
from agent.chat.spending import image_tokens, text_tokens

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
    def _read(self) -> tuple[dict[str, Any], int]:
        tokens: list[int] = []
        described = {
            "model": self.model,
            "max_tokens": self.profile.max_tokens,
            "messages": [_message(message, self.profile, tokens) for message in self.messages],
            "tools": list(self.tools),
            "force": self.force,
        }
        return described, text_tokens(json.dumps(described, ensure_ascii=False)) + sum(tokens)

    @property
    def described(self) -> dict[str, Any]:
        """The request as JSON, without pixels."""
        return self._read[0]

    @property
    def tokens_in(self) -> int:
        """Upper estimate of its tokens."""
        return self._read[1]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of what is asked: the same request has the same in every process."""
        text = json.dumps(self.described, sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()


def _message(message: BaseMessage, profile: ModelProfile, tokens: list[int]) -> dict[str, Any]:
    said = {name: value for name in _FIELDS if (value := getattr(message, name, None))}
    return {"type": message.type} | _without_images(said, profile, tokens)


def _without_images(value: Any, profile: ModelProfile, tokens: list[int]) -> Any:
    """The value with {"image_sha256", "bytes"} for each image; their tokens are added to `tokens`."""
    if isinstance(value, list | tuple):
        return [_without_images(one, profile, tokens) for one in value]
    if not isinstance(value, dict):
        return value
    encoded = _image(value)
    if encoded is None:
        return {str(key): _without_images(one, profile, tokens) for key, one in value.items()}
    image = base64.b64decode(encoded)
    tokens.append(image_tokens(image, profile))
    return {"image_sha256": hashlib.sha256(image).hexdigest(), "bytes": len(image)}


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
