"""Messages as lists of blocks: texts, and images with their bytes."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

Block = dict[str, Any]


def text_block(text: str) -> Block:
    """A text."""
    return {"type": "text", "text": text}


def jpeg_block(data: bytes) -> Block:
    """A JPEG as LangChain passes images to any provider."""
    return {"type": "image", "base64": base64.b64encode(data).decode("ascii"), "mime_type": "image/jpeg"}


def blocks_of(message: BaseMessage) -> list[Block]:
    """The content of a message as blocks."""
    if isinstance(message.content, str):
        return [text_block(message.content)] if message.content else []
    return [text_block(block) if isinstance(block, str) else block for block in message.content]


def is_image(block: Block) -> bool:
    """Whether a block is an image of ours."""
    return block.get("type") == "image" and isinstance(block.get("base64"), str)


def content(blocks: Sequence[Block]) -> Any:
    """Blocks with texts that follow each other joined, and words alone as words: small servers want it so."""
    parts: list[Block] = []
    for block in blocks:
        last = parts[-1] if parts else None
        if last is not None and last["type"] == block["type"] == "text":
            parts[-1] = text_block(f"{last['text']}\n{block['text']}")
        else:
            parts.append(block)
    only = parts[0] if len(parts) == 1 else None
    return only["text"] if only is not None and only["type"] == "text" else parts


def images_in(messages: Sequence[BaseMessage]) -> list[Block]:
    """The images of messages, in order."""
    return [block for message in messages for block in blocks_of(message) if is_image(block)]


def with_each_image(
    messages: Sequence[BaseMessage], change: Callable[[int, Block], Block]
) -> Iterator[BaseMessage]:
    """The messages with every image, counted from 0, in the place of what `change` makes of it."""
    number = 0
    for message in messages:
        blocks = blocks_of(message)
        if not any(map(is_image, blocks)):
            yield message
            continue
        changed = []
        for block in blocks:
            changed.append(change(number, block) if is_image(block) else block)
            number += is_image(block)
        yield message.model_copy(update={"content": content(changed)})
