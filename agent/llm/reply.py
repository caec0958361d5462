"""Takes a chat model's message apart: words, calls, refusals. Anything it may say is taken as data."""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any

from agent.llm.json_text import object_meant
from core_model.records import Record

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage

MOST_TEXT = 100_000
"""Characters of a reply; no answer needs more, and everything said is sent back with each later turn."""
MOST_GARBLED = 500
_DEEPEST = 20
_ENDLESS_NUMBER = re.compile(r"\d{400}")

_CUT = {"length", "max_tokens", "max_output_tokens", "model_context_window_exceeded"}
_FILTERED = {
    "content_filter",
    "refusal",
    "safety",
    "blocklist",
    "prohibited_content",
    "recitation",
    "spii",
    "image_safety",
}
_MALFORMED = "malformed_function_call"
_KEPT_METADATA = {"model_provider", "output_version", "finish_reason", "stop_reason"}
"""Remarks of the provider that LangChain needs to send a message back. Headers are not among them."""


class ToolCall(Record):
    """A call that the model asked for, as it asked for it."""

    id: str
    name: str
    args: dict[str, Any]


class MessageContent(Record):
    """The content of a message."""

    text: str
    calls: list[ToolCall]
    garbled: list[str]
    refusal: str | None
    cut: bool
    message: dict[str, Any]


def content_of(message: AIMessage) -> MessageContent:
    """The message taken apart, and written down so that it can be sent back."""
    calls, bad_calls = _calls(message)
    text = str(message.text)
    remark = _remark(message)
    if remark == _MALFORMED:
        bad_calls.append("a call that its own provider could not read")
    return MessageContent(
        text=clean_text(text[:MOST_TEXT]),
        calls=calls,
        garbled=bad_calls,
        refusal=_refusal(message, remark),
        cut=remark in _CUT or len(text) > MOST_TEXT,
        message=clean_value(_message_to_keep(message, text, calls, bad_calls)),
    )


def object_of(text: str) -> dict[str, Any] | None:
    """The JSON object that a call's arguments are meant to be; None where they are none that could be kept.

    A number that is none (NaN) is not given.
    """
    if len(text) > MOST_TEXT or _ENDLESS_NUMBER.search(text):
        return None
    value = _without_nan(object_meant(text))
    return value if isinstance(value, dict) and _plain(value) else None


def clean_text(text: str) -> str:
    """The text without halves of characters, which no file could hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


def clean_value(value: Any) -> Any:
    """A JSON value with every text clean."""
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, dict):
        return {clean_text(str(key)): clean_value(item) for key, item in value.items()}
    return [clean_value(item) for item in value] if isinstance(value, list | tuple) else value


def _plain(value: Any, depth: int = 0) -> bool:
    """Whether a JSON value is finite in every number and not nested beyond sense."""
    if depth > _DEEPEST:
        return False
    if isinstance(value, dict | list):
        inner = value.values() if isinstance(value, dict) else value
        return all(_plain(item, depth + 1) for item in inner)
    return not isinstance(value, float) or math.isfinite(value)


def _without_nan(value: Any) -> Any:
    """A JSON object without those of its fields that are no number; anything else as it is."""
    if not isinstance(value, dict):
        return value
    return {name: item for name, item in value.items() if not (isinstance(item, float) and math.isnan(item))}


def _calls(message: AIMessage) -> tuple[list[ToolCall], list[str]]:
    calls: list[ToolCall] = []
    bad_calls = [f"{call.get('name')} {call.get('args')}" for call in message.invalid_tool_calls]
    for number, call in enumerate(message.tool_calls, 1):
        args = _without_nan(call["args"])
        if call["name"] and _plain(args):
            ident = call["id"] or f"call-{number}"
            calls.append(
                ToolCall(id=clean_text(ident), name=clean_text(call["name"]), args=clean_value(args)),
            )
        else:
            bad_calls.append(f"{call['name']} {call['args']!r}")
    return calls, [clean_text(call[:MOST_GARBLED]) for call in bad_calls]


def _remark(message: AIMessage) -> str:
    metadata = message.response_metadata
    incomplete = (metadata.get("incomplete_details") or {}).get("reason")
    return str(metadata.get("finish_reason") or metadata.get("stop_reason") or incomplete or "").casefold()


def _refusal(message: AIMessage, remark: str) -> str | None:
    words = message.additional_kwargs.get("refusal")
    if isinstance(words, str) and words.strip():
        return clean_text(words[:MOST_GARBLED])
    if remark in _FILTERED:
        return f"the provider ended the reply ({remark})"
    reason = (message.response_metadata.get("prompt_feedback") or {}).get("block_reason")
    return f"the provider blocked the request ({getattr(reason, 'value', reason)})" if reason else None


def _message_to_keep(
    message: AIMessage, text: str, calls: list[ToolCall], bad_calls: list[str]
) -> dict[str, Any]:
    """The message as it will be sent back: without garbled calls, which nobody can answer, and remarks."""
    from langchain_core.messages import AIMessage, message_to_dict

    metadata = {name: value for name, value in message.response_metadata.items() if name in _KEPT_METADATA}
    extras = {
        k: v for k, v in message.additional_kwargs.items() if v is not None and k not in ("refusal", "parsed")
    }
    content: Any = message.content
    if metadata.get("model_provider") == "openai" or len(text) > MOST_TEXT:
        content = text[:MOST_TEXT]
    if bad_calls and not calls and not text.strip():
        content = f"(a call that could not be read: {bad_calls[0]})"
    tool_calls = [
        {"type": "tool_call", "id": call.id, "name": call.name, "args": call.args} for call in calls
    ]
    to_keep = AIMessage(
        content=content, tool_calls=tool_calls, additional_kwargs=extras, response_metadata=metadata
    )
    record = message_to_dict(to_keep)
    record["data"] = {name: value for name, value in record["data"].items() if value not in (None, [], {})}
    json.dumps(record)  # what cannot be written down is found here, not when the run is over
    return record
