"""Does the model know this kind of slide and this kind of question? Asked once, before the first decision."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.state import Familiarity

if TYPE_CHECKING:
    from agent.state import AgentContext

LEAST_TILES = 4
"""With fewer readable tiles there is too little tissue to speak about."""
MOST_FAILED = 0.5
"""Where a larger share of the tiles does not decode, what is left may not stand for the slide."""
BOXES_NAMED = 20
"""Unreadable tiles listed in an answer; run.json has them all."""


def familiarity(context: AgentContext, question: str, options: list[str] | None) -> Familiarity:
    """Compute the slide's features where they are not cached, and compare with what training saw."""
    features = context.toolbox.features
    known = len(features) >= LEAST_TILES
    question_value, words = context.model.question_unfamiliarity(question, options)
    return Familiarity(
        tiles=len(features),
        failed=[[[int(v) for v in box], str(why)] for box, why in features.failed],
        slide_unfamiliarity=float(context.model.slide_unfamiliarity(features)) if known else None,
        question_unfamiliarity=float(question_value),
        unknown_words=[str(word) for word in words],
    )


def doubts(known: Familiarity, model: str) -> list[str]:
    """Why no answer of this model should be believed here, one clause each; empty where it may be."""
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
    if known["unknown_words"]:
        words = ", ".join(f"'{word}'" for word in known["unknown_words"])
        found.append(f"the model '{model}' does not know these words of the question or options: {words}")
    elif known["question_unfamiliarity"] > 1:
        found.append(
            f"the model '{model}' does not know this kind of question (unfamiliarity"
            f" {known['question_unfamiliarity']:.2f}; above 1 is unlike anything it was trained on)"
        )
    return found


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
