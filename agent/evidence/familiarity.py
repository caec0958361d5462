"""How familiar the model is with a slide and a question, and the reasons that follow for not answering."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NotRequired, TypedDict

from agent.evidence.language import foreign_language


class FamiliarityRecord(TypedDict):
    """How well the model knows this slide and this question; measured once, before the first decision."""

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
    language: NotRequired[str | None]
    """The language of the question, in English, where the model does not read it; None where it does."""


LEAST_TILES = 4
"""With fewer readable tiles there is too little tissue to speak about."""
MOST_FAILED = 0.5
"""Where a larger share of the tiles does not decode, what is left may not stand for the slide."""
BOXES_NAMED = 20
"""Unreadable tiles listed in an answer; run.json has them all."""


def doubts(familiarity: FamiliarityRecord, model: str) -> list[str]:
    """Why no answer of this model should be believed here, one clause each; empty where it may be.

    An option with a word that the model never saw cannot be weighed against the others; in the question, a
    few such words are allowed for by the model's own measure.
    """
    reasons = []
    total = familiarity["tiles"] + len(familiarity["failed"])
    if familiarity["tiles"] < LEAST_TILES or len(familiarity["failed"]) > MOST_FAILED * total:
        reasons.append(f"only {familiarity['tiles']} of {total} tiles of this slide could be read")
    value = familiarity["slide_unfamiliarity"]
    if value is not None and value > 1:
        reasons.append(
            f"the model '{model}' does not know this kind of slide (unfamiliarity {value:.2f};"
            " above 1 is unlike anything it was trained on)"
        )
    return reasons + question_doubts(familiarity, model)


def unread_language(question: str, unfamiliarity: float, unknown_words: Sequence[str]) -> str | None:
    """The language of a question that the model does not know, in English; None where that is English."""
    return foreign_language(question) if unknown_words or unfamiliarity > 1 else None


def question_doubts(familiarity: FamiliarityRecord, model: str) -> list[str]:
    """Why no answer to this question should be believed, whatever slide it is about."""
    reasons = []
    if language := familiarity.get("language"):
        return [f"the model '{model}' reads English, and the question is in {language}"]
    in_options = [word for word in familiarity["unknown_words"] if word in familiarity["option_words"]]
    if in_options:
        reasons.append(f"the model '{model}' never saw these words of the options: {_quoted(in_options)}")
    elif familiarity["question_unfamiliarity"] > 1:
        words = familiarity["unknown_words"]
        addition = f"; it never saw these words: {_quoted(words)}" if words else ""
        value = familiarity["question_unfamiliarity"]
        reasons.append(
            f"the model '{model}' does not know this kind of question (unfamiliarity {value:.2f};"
            f" above 1 is unlike anything it was trained on{addition})"
        )
    return reasons


def limits(familiarity: FamiliarityRecord) -> str | None:
    """What narrows an answer that is given all the same; None where nothing does."""
    parts = [text for text in (unreadable(familiarity), _unknown(familiarity)) if text is not None]
    return " ".join(parts) or None


def _unknown(familiarity: FamiliarityRecord) -> str | None:
    words = familiarity["unknown_words"]
    return f"The model never saw these words of the question: {_quoted(words)}." if words else None


def _quoted(words: list[str]) -> str:
    return ", ".join(f"'{word}'" for word in words)


def unreadable(familiarity: FamiliarityRecord) -> str | None:
    """How many tiles could not be read, and where; None where all could."""
    failures = familiarity["failed"]
    if not failures:
        return None
    boxes = ["(" + ", ".join(map(str, box)) + ")" for box, _ in failures[:BOXES_NAMED]]
    more = (
        f" and {len(failures) - BOXES_NAMED} more, listed in run.json" if len(failures) > BOXES_NAMED else ""
    )
    total = familiarity["tiles"] + len(failures)
    return (
        f"{len(failures)} of {total} tiles could not be read and were left out: boxes"
        f" (x, y, width, height in level-0 px) {', '.join(boxes)}{more}."
    )
