"""The final answer of a chat model: held against its schema and the options, else what is wrong with it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import ValidationError

from agent.chat.prompts import labels
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


def checked(said: Mapping[str, Any] | None, options: Sequence[str] | None) -> tuple[Final | None, list[str]]:
    """The answer that the arguments of `answer` give, else None and what is wrong, a sentence each."""
    if said is None:
        return None, ["It gives no answer."]
    try:
        args = AnswerArgs.model_validate(said)
    except ValidationError as error:
        return None, [f"{faults(error)}."]
    sure, wrong = share(args.confidence), []
    if sure is None:
        wrong.append("confidence is no number from 0 to 1.")
    choice: str | None = args.choice.strip() or args.text.strip()
    if options:
        choice = option_of(args.choice.strip() or args.text, options)
        if choice is None and not args.abstain:
            wrong.append("choice is none of the options.")
    elif not choice and not args.abstain:
        wrong.append("text is empty.")
    if wrong or sure is None:
        return None, wrong
    claims = [
        Claim(text=one.text, steps=one.steps, section=one.section.strip() or None, against=one.against)
        for one in args.claims
    ]
    text = args.text.strip() or choice or ""
    return Final(text, choice or "", sure, args.abstain, args.reason.strip(), claims), []


def share(said: float | str) -> float | None:
    """A confidence as a share of 1, also where it was given in percent; None where it is no number."""
    percent = isinstance(said, str) and said.strip().endswith("%")
    try:
        value = float(said.strip().rstrip("% ").replace(",", ".")) if isinstance(said, str) else float(said)
    except ValueError:
        return None
    if not math.isfinite(value):
        return None
    if percent or 2 <= value <= 100:
        value /= 100
    return min(max(value, 0.0), 1.0)


def option_of(said: str, options: Sequence[str]) -> str | None:
    """The option that is meant: word for word, but for case and punctuation, by its letter or number.

    None where it is none of them, or more than one could be meant.
    """
    if said in options:
        return said
    alike = [option for option in options if same_words(option, said)]
    if alike:
        return alike[0] if len(alike) == 1 else None
    if found := _LABEL.fullmatch(said):
        return _labelled(found[1], options)
    if found := _LABELLED.fullmatch(said):
        named = [option for option in options if same_words(option, found[2])]
        return named[0] if named == [_labelled(found[1], options)] else None
    return None


def _labelled(label: str, options: Sequence[str]) -> str | None:
    """The option of a letter or of a number that counts from 1; a number means none among numbers."""
    if label.isdigit() and any(option.strip().isdigit() for option in options):
        return None
    names = [str(i + 1) for i in range(len(options))] if label.isdigit() else labels(len(options))
    return options[names.index(label.upper())] if label.upper() in names else None
