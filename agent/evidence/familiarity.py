"""Does the model know this kind of slide and this kind of question? Asked once, before the first decision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    pass


class Familiarity(TypedDict):
    """What was known before the first decision: does the model know this slide and this question?"""

    tiles: int
    """Tiles whose features could be computed."""
    failed: list[list[Any]]
    """[[x, y, w, h], why] of each tile that could not be read."""
    slide_unfamiliarity: float | None
    """Above 1: unlike the slides the model was trained on. None where too few tiles could be read."""
    question_unfamiliarity: float
    """Above 1: unlike the questions the model was trained on."""
    unknown_words: list[str]
    """Content words of the question and options that the model never saw."""
    option_words: list[str]
    """Content words of the options."""


LEAST_TILES = 4
"""With fewer readable tiles there is too little tissue to speak about."""
MOST_FAILED = 0.5
"""Where a larger share of the tiles does not decode, what is left may not stand for the slide."""
BOXES_NAMED = 20
"""Unreadable tiles listed in an answer; run.json has them all."""


def doubts(known: Familiarity, model: str) -> list[str]:
    """Why no answer of this model should be believed here, one clause each; empty where it may be.

    An option with a word that the model never saw cannot be weighed against the others; in the question, a
    few such words are allowed for by the model's own measure.
    """
    found = []
    total = known["tiles"] + len(known["failed"])
    if known["tiles"] < LEAST_TILES or len(known["failed"]) > MOST_FAILED * total:
        found.append(f"only {known['tiles']} of {total} tiles of this slide could be read")
    value = known["slide_unfamiliarity"]
    if value is not None and value > 1:
        found.append(
            f"the model '{model}' does not know this kind of slide (unfamiliarity {value:.2f};"
            " above 1 is unlike anything it was trained on)"
        )
    return found + question_doubts(known, model)


def question_doubts(known: Familiarity, model: str) -> list[str]:
    """The same of the question alone, whatever is asked about."""
    found = []
    in_options = [word for word in known["unknown_words"] if word in known["option_words"]]
    if in_options:
        found.append(f"the model '{model}' never saw these words of the options: {_quoted(in_options)}")
    elif known["question_unfamiliarity"] > 1:
        words = known["unknown_words"]
        named = f"; it never saw these words: {_quoted(words)}" if words else ""
        found.append(
            f"the model '{model}' does not know this kind of question (unfamiliarity"
            f" {known['question_unfamiliarity']:.2f}; above 1 is unlike anything it was trained on{named})"
        )
    return found


def limits(known: Familiarity) -> str | None:
    """What narrows an answer that is given all the same; None where nothing does."""
    parts = [text for text in (unreadable(known), _unknown(known)) if text is not None]
    return " ".join(parts) or None


def _unknown(known: Familiarity) -> str | None:
    words = known["unknown_words"]
    return f"The model never saw these words of the question: {_quoted(words)}." if words else None


def _quoted(words: list[str]) -> str:
    return ", ".join(f"'{word}'" for word in words)


def unreadable(known: Familiarity) -> str | None:
    """How many tiles could not be read, and where; None where all could."""
    failed = known["failed"]
    if not failed:
        return None
    boxes = ["(" + ", ".join(map(str, box)) + ")" for box, _ in failed[:BOXES_NAMED]]
    more = f" and {len(failed) - BOXES_NAMED} more, listed in run.json" if len(failed) > BOXES_NAMED else ""
    total = known["tiles"] + len(failed)
    return (
        f"{len(failed)} of {total} tiles could not be read and were left out: boxes"
        f" (x, y, width, height in level-0 px) {', '.join(boxes)}{more}."
    )
