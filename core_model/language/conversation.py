"""From a question to the token sequence that the language model sees, and back to readable text.

    vicuna_v1   [system ]USER: <image>…<image>
                question
                Options: first; second ASSISTANT: answer</s>USER: next question ASSISTANT: next answer</s>

    chatml      <|im_start|>system
                system<|im_end|>
                <|im_start|>user
                <image>…<image>
                question<|im_end|>
                <|im_start|>assistant
                answer<|im_end|>

vicuna_v1 is the template of LLaVA on Vicuna, chatml that of Qwen; `plain` (image, then text) is the template
of LLaVA's projector stage. One `<image>` stands for each slide token. Labels are -100 except on the
assistant's words and the token that closes them, so that the loss falls on the answer alone. A `context`,
where given, is text that stands where the image tokens stand: what the small language model reads before it
ever sees a slide.
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
TOKEN_ROLES: dict[str, Any] = {
    "pad_token": PAD,
    "unk_token": UNKNOWN,
    "bos_token": BOS,
    "eos_token": EOS,
    "extra_special_tokens": [IMAGE],
}
"""The same tokens by the role in which transformers' tokenizers take them."""
IGNORE = -100
"""The label that torch's cross entropy skips."""
VICUNA_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
QWEN_SYSTEM = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
"""The sentences that the published models were trained with before the first turn."""


@dataclass(frozen=True)
class Template:
    """How a conversation is written down; `{}` is where the words go."""

    lead: str
    """Around the system sentence."""
    turn: str
    """Around the user's words, up to where the assistant begins to speak."""
    answer: str
    """Around the assistant's words."""
    end: str
    """The token that closes an answer; the model learns to write it."""
    after: str = ""
    """What stands between an answer's end and the next turn."""


TEMPLATES = {
    "vicuna_v1": Template("{} ", "USER: {} ASSISTANT:", " {}", EOS),
    "chatml": Template(
        "<|im_start|>system\n{}<|im_end|>\n",
        "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n",
        "{}",
        "<|im_end|>",
        "\n",
    ),
}

_SPECIAL = re.compile("|".join([*map(re.escape, SPECIAL_TOKENS), r"<\|\w+\|>"]))  # the latter: all of Qwen's
_SENTENCE_START = re.compile(r"(^|[.!?]\s+)([a-z])")


@dataclass(frozen=True)
class Turn:
    """One question with its answer."""

    question: str
    answer: str
    options: tuple[str, ...] | None = None


def without_special_tokens(text: str) -> str:
    """`text` without the strings that are special tokens, so that no user can write one."""
    while _SPECIAL.search(text):
        text = _SPECIAL.sub("", text)
    return text.strip()


def user_words(question: str, options: Sequence[str] | None = None) -> str:
    """The user's words of one turn: the question and, below it, the options as a list."""
    if not options:
        return without_special_tokens(question)
    listing = "; ".join(without_special_tokens(option) for option in options)
    return f"{without_special_tokens(question)}\nOptions: {listing}"


def prompt(
    question: str,
    options: Sequence[str] | None = None,
    *,
    n_image_tokens: int = 1,
    context: str | None = None,
    system: str = "",
    template: str = "vicuna_v1",
) -> str:
    """The text up to where the assistant begins to speak.

    `n_image_tokens` placeholders stand for the slide tokens, or `context` in their place. `system` is one
    sentence before the first turn; the embedded model uses none. `template` is a key of `TEMPLATES`.
    """
    head = IMAGE * n_image_tokens if context is None else without_special_tokens(context)
    words = f"{head}\n{user_words(question, options)}"
    return _lead(system, template) + TEMPLATES[template].turn.format(words)


def question_alone(
    question: str, *, system: str = "", template: str = "vicuna_v1"
) -> tuple[str, tuple[int, int]]:
    """The prompt of a question without a slide, and the character span of the user's words in it."""
    text = prompt(question, n_image_tokens=0, system=system, template=template)
    start = len(_lead(system, template)) + TEMPLATES[template].turn.index("{}") + len("\n")
    return text, (start, start + len(user_words(question)))


def conversation(
    turns: Sequence[Turn],
    *,
    n_image_tokens: int = 1,
    context: str | None = None,
    system: str = "",
    template: str = "vicuna_v1",
) -> tuple[str, list[tuple[int, int]]]:
    """The text of all turns, and the character span of each answer with the token that closes it."""
    form, text, spans = TEMPLATES[template], "", []
    for i, turn in enumerate(turns):
        if i == 0:
            text = prompt(
                turn.question,
                turn.options,
                n_image_tokens=n_image_tokens,
                context=context,
                system=system,
                template=template,
            )
        else:
            text += form.turn.format(user_words(turn.question, turn.options))
        start = len(text)
        text += form.answer.format(without_special_tokens(turn.answer)) + form.end
        spans.append((start, len(text)))
        text += form.after
    return text, spans


def answer_spans(text: str, template: str = "vicuna_v1") -> list[tuple[int, int]]:
    """Character spans of the assistant's words, with what closes them, in the text of a conversation."""
    form = TEMPLATES[template]
    begins, ends = re.escape(form.turn.rpartition("{}")[2].strip(" ")), re.escape(form.end)
    return [match.span(1) for match in re.finditer(f"{begins}(.*?(?:{ends}|$))", text, re.DOTALL)]


def encode_turns(
    tokenizer: Any,
    turns: Sequence[Turn],
    n_image_tokens: int,
    max_length: int,
    *,
    context: str | None = None,
    system: str = "",
    template: str = "vicuna_v1",
) -> tuple[list[int], list[int]]:
    """Token ids and labels of a conversation, both of the same length ≤ `max_length`.

    `tokenizer` is a fast transformers tokenizer that knows `<image>` and adds its own `<s>`, if it has one.
    What does not fit is cut from the end, so the image tokens, which come first, always stay whole. Raises
    UsageError if nothing of the first answer fits.
    """
    text, spans = conversation(
        turns, n_image_tokens=n_image_tokens, context=context, system=system, template=template
    )
    return _encoded(tokenizer, text, spans, max_length)


def encode_plain(
    tokenizer: Any, text: str, n_image_tokens: int, max_length: int, *, template: str = "vicuna_v1"
) -> tuple[list[int], list[int]]:
    """Ids and labels of the `plain` template: the image tokens, then the text to be learned.

    It closes as an answer of `template` does.
    """
    head = IMAGE * n_image_tokens
    whole = f"{head}{without_special_tokens(text)}{TEMPLATES[template].end}"
    return _encoded(tokenizer, whole, [(len(head), len(whole))], max_length)


def encode_prompt(
    tokenizer: Any,
    question: str,
    options: Sequence[str] | None,
    n_image_tokens: int,
    max_length: int,
    *,
    system: str = "",
    template: str = "vicuna_v1",
) -> list[int]:
    """Token ids of `prompt`, for generation. Raises UsageError where they are more than `max_length`."""
    text = prompt(question, options, n_image_tokens=n_image_tokens, system=system, template=template)
    ids, _ = tokenized(tokenizer, text)
    if len(ids) > max_length:
        raise _too_long(len(ids), max_length)
    return ids


def tokenized(tokenizer: Any, text: str) -> tuple[list[int], list[tuple[int, int]]]:
    """Token ids of a text with its image tokens, and the character span of each.

    What stands before the image tokens and what stands after them is tokenized apart, as LLaVA does: a
    sentencepiece tokenizer such as Vicuna's then puts its space mark before the words after them.
    """
    start, stop = text.find(IMAGE), text.rfind(IMAGE) + len(IMAGE)
    if start < 0:
        encoding = tokenizer(text, return_offsets_mapping=True)
        return encoding["input_ids"], encoding["offset_mapping"]
    before = tokenizer(text[:start], return_offsets_mapping=True)
    after = tokenizer(text[stop:], return_offsets_mapping=True, add_special_tokens=False)
    places = range(start, stop, len(IMAGE))
    ids = [
        *before["input_ids"],
        *[int(tokenizer.convert_tokens_to_ids(IMAGE))] * len(places),
        *after["input_ids"],
    ]
    offsets = [
        *before["offset_mapping"],
        *((place, place + len(IMAGE)) for place in places),
        *((stop + first, stop + last) for first, last in after["offset_mapping"]),
    ]
    return ids, offsets


def readable(text: str) -> str:
    """Generated text as a person would write it: sentences begin with a capital letter.

    The embedded model's tokenizer knows no capitals; text of other models passes unchanged where it
    already has them.
    """
    text = re.sub(r"\s+", " ", _SPECIAL.sub("", text)).strip()
    text = re.sub(r"\bh&e\b", "H&E", text)
    return _SENTENCE_START.sub(lambda match: match.group(1) + match.group(2).upper(), text)


def _lead(system: str, template: str) -> str:
    return TEMPLATES[template].lead.format(without_special_tokens(system)) if system.strip() else ""


def _encoded(
    tokenizer: Any, text: str, spans: Sequence[tuple[int, int]], max_length: int
) -> tuple[list[int], list[int]]:
    """Ids of `text`, and labels that are the ids inside `spans`.

    The text is tokenized as it will be at inference, and labelled by character offsets: tokenizing
    question and answer apart could part words differently.
    """
    ids, offsets = tokenized(tokenizer, text)
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
