"""From a question to the token sequence that the language model sees, and back to readable text.

    [system ]USER: <image>…<image>
    question
    Options: first; second ASSISTANT: answer</s>USER: next question ASSISTANT: next answer</s>

The form is the vicuna_v1 template of LLaVA; `plain` (image, then text) is the template of its projector
stage. One `<image>` stands for each slide token. Labels are -100 except on the assistant's words and their
closing `</s>`, so that the loss falls on the answer alone. A `context`, where given, is text that stands
where the image tokens stand: what the small language model reads before it ever sees a slide.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from core_model.errors import UsageError

IMAGE, BOS, EOS, PAD, UNKNOWN = "<image>", "<s>", "</s>", "<pad>", "<unk>"
SPECIAL_TOKENS = (PAD, UNKNOWN, BOS, EOS, IMAGE)
"""In the order of their ids in a tokenizer trained here."""
IGNORE = -100
"""The label that torch's cross entropy skips."""

_SPECIAL = re.compile("|".join(map(re.escape, SPECIAL_TOKENS)))
_ANSWER = re.compile(r"ASSISTANT:(.*?(?:</s>|$))", re.DOTALL)
_SENTENCE_START = re.compile(r"(^|[.!?]\s+)([a-z])")


@dataclass(frozen=True)
class Turn:
    """One question with its answer."""

    question: str
    answer: str
    options: tuple[str, ...] | None = None


def clean(text: str) -> str:
    """`text` without the strings that are special tokens, so that no user can write one."""
    while _SPECIAL.search(text):
        text = _SPECIAL.sub("", text)
    return text.strip()


def asked(question: str, options: Sequence[str] | None = None) -> str:
    """The user's words of one turn: the question and, below it, the options as a list."""
    if not options:
        return clean(question)
    return f"{clean(question)}\nOptions: {'; '.join(clean(option) for option in options)}"


def prompt(
    question: str,
    options: Sequence[str] | None = None,
    *,
    n_image_tokens: int = 1,
    context: str | None = None,
    system: str = "",
) -> str:
    """The text up to where the assistant begins to speak.

    `n_image_tokens` placeholders stand for the slide tokens, or `context` in their place. `system` is one
    sentence before the first turn; the embedded model uses none.
    """
    head = IMAGE * n_image_tokens if context is None else clean(context)
    return f"{_lead(system)}USER: {head}\n{asked(question, options)} ASSISTANT:"


def conversation(
    turns: Sequence[Turn],
    *,
    n_image_tokens: int = 1,
    context: str | None = None,
    system: str = "",
) -> tuple[str, list[tuple[int, int]]]:
    """The text of all turns, and the character span of each answer with its `</s>`."""
    text, spans = "", []
    for i, turn in enumerate(turns):
        if i == 0:
            text = prompt(
                turn.question, turn.options, n_image_tokens=n_image_tokens, context=context, system=system
            )
        else:
            text += f"USER: {asked(turn.question, turn.options)} ASSISTANT:"
        start = len(text)
        text += f" {clean(turn.answer)}{EOS}"
        spans.append((start, len(text)))
    return text, spans


def answer_spans(text: str) -> list[tuple[int, int]]:
    """Character spans of the assistant's words, `</s>` included, in the text of a conversation."""
    return [match.span(1) for match in _ANSWER.finditer(text)]


def encode_turns(
    tokenizer: Any,
    turns: Sequence[Turn],
    n_image_tokens: int,
    max_length: int,
    *,
    context: str | None = None,
    system: str = "",
) -> tuple[list[int], list[int]]:
    """Token ids and labels of a conversation, both of the same length ≤ `max_length`.

    `tokenizer` is a fast transformers tokenizer that knows `<image>` and adds its own `<s>`. What does not
    fit is cut from the end, so the image tokens, which come first, always stay whole. Raises UsageError
    if nothing of the first answer fits.
    """
    text, spans = conversation(turns, n_image_tokens=n_image_tokens, context=context, system=system)
    return _encoded(tokenizer, text, spans, max_length)


def encode_plain(
    tokenizer: Any, text: str, n_image_tokens: int, max_length: int
) -> tuple[list[int], list[int]]:
    """Ids and labels of the `plain` template: the image tokens, then the text to be learned."""
    head = IMAGE * n_image_tokens
    whole = f"{head}{clean(text)}{EOS}"
    return _encoded(tokenizer, whole, [(len(head), len(whole))], max_length)


def encode_prompt(
    tokenizer: Any,
    question: str,
    options: Sequence[str] | None,
    n_image_tokens: int,
    max_length: int,
    *,
    system: str = "",
) -> list[int]:
    """Token ids of `prompt`, for generation. Raises UsageError where they are more than `max_length`."""
    text = prompt(question, options, n_image_tokens=n_image_tokens, system=system)
    ids: list[int] = tokenizer(text)["input_ids"]
    if len(ids) > max_length:
        raise _too_long(len(ids), max_length)
    return ids


def readable(text: str) -> str:
    """Generated text as a person would write it: sentences begin with a capital letter.

    The embedded model's tokenizer knows no capitals; text of other models passes unchanged where it
    already has them.
    """
    text = re.sub(r"\s+", " ", _SPECIAL.sub("", text)).strip()
    text = re.sub(r"\bh&e\b", "H&E", text)
    return _SENTENCE_START.sub(lambda match: match.group(1) + match.group(2).upper(), text)


def _lead(system: str) -> str:
    return f"{clean(system)} " if system.strip() else ""


def _encoded(
    tokenizer: Any, text: str, spans: Sequence[tuple[int, int]], max_length: int
) -> tuple[list[int], list[int]]:
    """Ids of `text`, and labels that are the ids inside `spans`.

    The text is tokenized once, as it will be at inference, and labelled by character offsets: tokenizing
    the pieces apart could part words differently.
    """
    encoded = tokenizer(text, return_offsets_mapping=True)
    ids, offsets = encoded["input_ids"], encoded["offset_mapping"]
    labels = [
        token if stop > start and any(first <= start and stop <= last for first, last in spans) else IGNORE
        for token, (start, stop) in zip(ids, offsets, strict=True)
    ]
    if all(label == IGNORE for label in labels[:max_length]):
        raise _too_long(len(ids), max_length)
    return ids[:max_length], labels[:max_length]


def _too_long(length: int, limit: int) -> UsageError:
    return UsageError(
        f"the question makes {length} tokens, the model reads at most {limit}",
        fix="ask a shorter question or offer fewer options",
    )
