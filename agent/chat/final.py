"""The final answer of a chat model: held against its schema and the options, else what is wrong with it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import ValidationError

from agent.chat.prompts import option_labels
from agent.chat.schemas import AnswerArgs, faults
from agent.run.records import Claim
from agent.text import same_words

_LABEL = re.compile(r"\W*(?:option|answer|choice)?\W*([A-Za-z]|\d{1,3})\W*", re.IGNORECASE)
_LABELLED = re.compile(r"\W*(?:option\s+)?([A-Za-z]|\d{1,3})\s*[.):-]\s+(.+)", re.IGNORECASE | re.DOTALL)


class Final(NamedTuple):
    """A usable answer."""

    text: str
    choice: str
    """The option, word for word; for an open question the answer in a few words."""
    confidence: float
    abstain: bool
    reason: str
    claims: list[Claim]


def read_final(
    arguments: Mapping[str, Any] | None, options: Sequence[str] | None
) -> tuple[Final | None, list[str]]:
    """The answer that the arguments of `answer` give, else None and what is wrong, a sentence each."""
    if arguments is None:
        return None, ["It gives no answer."]
    try:
        args = AnswerArgs.model_validate(arguments)
    except ValidationError as error:
        return None, [f"{faults(error)}."]
    confidence, problems = confidence_of(args.confidence), []
    if confidence is None:
        problems.append("confidence is no number from 0 to 1.")
    choice: str | None = args.choice.strip() or args.text.strip()
    if options:
        choice = option_of(args.choice.strip() or args.text, options)
        if choice is None and not args.abstain:
            problems.append("choice is none of the options.")
    elif not choice and not args.abstain:
        problems.append("text is empty.")
    if problems or confidence is None:
        return None, problems
    claims = [
        Claim(
            text=claim.text,
            steps=claim.steps,
            section=claim.section.strip() or None,
            against=claim.against,
        )
        for claim in args.claims
    ]
    text = args.text.strip() or choice or ""
    return Final(text, choice or "", confidence, args.abstain, args.reason.strip(), claims), []


def confidence_of(value: float | str) -> float | None:
    """A confidence as a share of 1, also where it was given in percent; None where it is no number."""
    percent = isinstance(value, str) and value.strip().endswith("%")
    try:
        text = value.strip().rstrip("% ").replace(",", ".") if isinstance(value, str) else value
        share = float(text)
    except ValueError:
        return None
    if not math.isfinite(share):
        return None
    if percent or 2 <= share <= 100:
        share /= 100
    return min(max(share, 0.0), 1.0)


def option_of(words: str, options: Sequence[str]) -> str | None:
    """The option that is meant: word for word, but for case and punctuation, by its letter or number.

    None where it is none of them, or more than one could be meant.
    """
    if words in options:
        return words
    matches = [option for option in options if same_words(option, words)]
    if matches:
        return matches[0] if len(matches) == 1 else None
    if match := _LABEL.fullmatch(words):
        return _option_labelled(match[1], options)
    if match := _LABELLED.fullmatch(words):
        matches = [option for option in options if same_words(option, match[2])]
        return matches[0] if matches == [_option_labelled(match[1], options)] else None
    return None


def _option_labelled(label: str, options: Sequence[str]) -> str | None:
    """The option of a letter or of a number that counts from 1; a number means none among numbers."""
    if label.isdigit() and any(option.strip().isdigit() for option in options):
        return None
    names = [str(i + 1) for i in range(len(options))] if label.isdigit() else option_labels(len(options))
    return options[names.index(label.upper())] if label.upper() in names else None
