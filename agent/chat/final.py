"""The final answer of a chat model: held against its schema and the options, else what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import ValidationError

from agent.answers.choices import read_option
from agent.answers.confidence import confidence_of
from agent.answers.values import is_placeholder
from agent.chat.schemas import AnswerArgs, faults
from agent.run.records import Claim


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
    arguments: Mapping[str, Any] | None, options: Sequence[str] | None, question: str
) -> tuple[Final | None, list[str]]:
    """The answer to a question that the arguments of `answer` give, else None and what is wrong."""
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
    if is_placeholder(choice):  # the form that was asked for, not filled in
        choice = ""
    if options:
        choice = option_of(args.choice.strip() or args.text, options, question)
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


def option_of(words: str, options: Sequence[str], question: str) -> str | None:
    """The option that is meant; None where it is none of them, or more than one could be meant."""
    return words if words in options else read_option(words, options, question)
