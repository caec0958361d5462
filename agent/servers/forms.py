"""Puts messages into the form that a manner asks for: in words, in another order, with fewer images."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from agent.llm.profiles import ModelProfile
from agent.servers import wordings
from agent.servers.blocks import (
    Block,
    blocks_of,
    content,
    images_in,
    is_image,
    jpeg_block,
    text_block,
    with_each_image,
)
from agent.servers.manner import Manner
from agent.servers.sheet import contact_sheet, smaller

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

Labels = Callable[[], Mapping[str, str]]
"""The label of each image, by its base64."""
Tools = Sequence[dict[str, Any]]


def formed(
    messages: Sequence[BaseMessage],
    tools: Tools,
    force: str | None,
    manner: Manner,
    profile: ModelProfile,
    labels: Labels,
) -> tuple[list[BaseMessage], list[dict[str, Any]], str | None]:
    """Messages, tools and the tool that must be called, in that manner; the usual one changes nothing."""
    messages = _with_fewer_pixels(messages, manner, profile, labels)
    if force is not None and not (manner.choice and manner.calls == "tools"):
        tools, force = [tool for tool in tools if tool["function"]["name"] == force] or tools, None
    if manner.calls == "words" or manner.order in ("alternating", "merged"):
        messages = _alternating(messages)
    elif manner.order == "bridged":
        messages = _bridged(messages)
    if manner.calls == "words" and tools:
        messages, tools = _with_instructions(messages, wordings.calls_in_words(tools)), []
    if manner.order == "merged":
        messages = _merged(messages)
    return list(messages), list(tools), force


def _with_fewer_pixels(
    messages: Sequence[BaseMessage], manner: Manner, profile: ModelProfile, labels: Labels
) -> list[BaseMessage]:
    """Images smaller, and where there are too many all but the newest on one sheet at the end."""
    scale = manner.size.scale
    if scale < 1 and images_in(messages):
        shrunk = with_each_image(messages, lambda _, image: jpeg_block(smaller(image["base64"], scale)))
        names = {base64_of(smaller(data, scale)): label for data, label in labels().items()}
        messages = _ended_with(list(shrunk), [text_block(wordings.SMALLER)])
        labels = lambda: names  # noqa: E731
    images = images_in(messages)
    if manner.images is None or len(images) <= manner.images:
        return list(messages)
    names = dict(labels())
    labelled = [
        (names.get(image["base64"], f"Image {n}"), image["base64"]) for n, image in enumerate(images, 1)
    ]
    on_sheet = labelled[: len(images) - manner.images + 1]
    sheet = contact_sheet(on_sheet, profile.max_image_px, profile.image_multiple)

    def replaced(number: int, image: Block) -> Block:
        if number >= len(on_sheet):
            return image
        return text_block(wordings.ON_SHEET.format(label=on_sheet[number][0]))

    words = text_block(wordings.SHEET)
    return _ended_with(list(with_each_image(messages, replaced)), [words, jpeg_block(sheet)])


def base64_of(data: bytes) -> str:
    """A JPEG as a block holds it."""
    return str(jpeg_block(data)["base64"])


def _ended_with(messages: list[BaseMessage], blocks: list[Block]) -> list[BaseMessage]:
    last = messages[-1]
    return [*messages[:-1], last.model_copy(update={"content": content([*blocks_of(last), *blocks])})]


def _bridged(messages: Sequence[BaseMessage]) -> list[BaseMessage]:
    """A word of the assistant wherever a user would speak right behind a tool."""
    from langchain_core.messages import AIMessage

    bridged = list(messages[:1])
    for before, message in pairwise(messages):
        if before.type == "tool" and message.type == "human":
            bridged.append(AIMessage(wordings.BRIDGE))
        bridged.append(message)
    return bridged


def _alternating(messages: Sequence[BaseMessage]) -> list[BaseMessage]:
    """System, user, assistant, user …: calls and their results in words."""
    from langchain_core.messages import AIMessage, HumanMessage, SystemMessage

    kinds = {"system": SystemMessage, "ai": AIMessage, "human": HumanMessage}
    spoken: list[tuple[str, list[Block]]] = []
    for message in messages:
        speaker, blocks = message.type, blocks_of(message)
        if speaker == "tool":
            speaker = "human"
            blocks = [text_block(wordings.RESULT.format(name=getattr(message, "name", None))), *blocks]
        elif speaker == "ai":
            blocks = [text_block(_said(message))]
        if spoken and spoken[-1][0] == speaker:
            spoken[-1][1].extend(blocks)
        else:
            spoken.append((speaker, list(blocks)))
    return [kinds[speaker](content(blocks)) for speaker, blocks in spoken]


def _said(message: BaseMessage) -> str:
    """What an assistant said, its calls written out."""
    calls = [
        json.dumps({"tool": call["name"], "arguments": call["args"]}, ensure_ascii=False)
        for call in getattr(message, "tool_calls", [])
    ]
    words = "\n".join(block["text"] for block in blocks_of(message) if block.get("type") == "text")
    return "\n".join(part for part in (words.strip(), *calls) if part) or "(nothing)"


def _with_instructions(messages: Sequence[BaseMessage], words: str) -> list[BaseMessage]:
    """The messages with words at the end of what the system says."""
    first = messages[0]
    blocks = [*blocks_of(first), text_block(f"\n{words}")]
    return [first.model_copy(update={"content": content(blocks)}), *messages[1:]]


def _merged(messages: Sequence[BaseMessage]) -> list[BaseMessage]:
    """What the system says at the head of the user's first message."""
    if len(messages) < 2 or messages[0].type != "system":
        return list(messages)
    blocks = [*blocks_of(messages[0]), *blocks_of(messages[1])]
    return [messages[1].model_copy(update={"content": content(blocks)}), *messages[2:]]


def image_bytes(messages: Sequence[BaseMessage]) -> int:
    """Bytes of the images and texts of messages as they are sent."""
    return sum(
        len(block["base64"] if is_image(block) else str(block)) for m in messages for block in blocks_of(m)
    )
