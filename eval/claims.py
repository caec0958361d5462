"""WSI-Precision and WSI-Relevance: texts split into claims, each claim held against the other text.

    precision   the claims of the reference, each judged against the answer: is what should be said, said?
    relevance   the claims of the answer, each judged against the reference: is what is said, right?

A claim scores 1, .7, .3 or 0; a text scores the mean of its claims (Liang et al. 2024, arXiv 2412.02141). Who
splits and judges is a `Judge`. A judgement that fails is missing: it is counted and reported, never left out
in silence, and never a score.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from core_model.words import content_words

SCORES = (1.0, 0.7, 0.3, 0.0)
MEANINGS = {
    1.0: "fully stated",
    0.7: "mostly stated",
    0.3: "partly stated",
    0.0: "not stated, or contradicted",
}


class JudgeFailed(Exception):
    """A judge that gave no usable judgement, also when asked again; the message says why."""


class Judge(Protocol):
    """Splits texts into claims and judges claims."""

    name: str
    """Named beside every figure that it gave."""

    def claims(self, text: str, question: str) -> list[str]:
        """The claims of a text, in its order. Raises `JudgeFailed`."""
        ...

    def scores(self, claims: Sequence[str], against: str, question: str) -> list[float]:
        """A score for each claim, in order. Raises `JudgeFailed`."""
        ...


@dataclass(frozen=True)
class Judged:
    """One answer, judged both ways; None where that way failed."""

    precision: float | None
    relevance: float | None
    failures: tuple[str, ...] = ()


def judged(judge: Judge, question: str, reference: str, said: str) -> Judged:
    """Both metrics of one answer. An answer without words scores 0 and is not put to the judge."""
    if not said.strip():
        return Judged(0.0, 0.0)
    values: list[float | None] = []
    failures = []
    for text, against in ((reference, said), (said, reference)):
        try:
            claims = judge.claims(text, question)
            found = judge.scores(claims, against, question) if claims else [0.0]
            values.append(sum(found) / len(found))
        except JudgeFailed as error:
            values.append(None)
            failures.append(str(error))
    return Judged(values[0], values[1], tuple(failures))


class EntityOverlap:
    """A judge without a model: a claim is a sentence, and scores by how many of its words the other text has.

    Deterministic and offline. It knows neither synonyms nor negation, so its figures stand only beside
    figures of its own and are labelled with its name.
    """

    name = "entity-overlap"

    def claims(self, text: str, question: str) -> list[str]:
        """The sentences of a text that have content words."""
        parts = re.split(r"(?<=[.!?;])\s+|\n+", text)
        return [part.strip() for part in parts if content_words(part)]

    def scores(self, claims: Sequence[str], against: str, question: str) -> list[float]:
        """By the share of a claim's content words that occur in the other text, rounded down to a score."""
        there = {_stem(word) for word in content_words(against)}
        shares = [_share({_stem(word) for word in content_words(claim)}, there) for claim in claims]
        return [next(score for score in SCORES if share >= score) for share in shares]


def _share(words: set[str], there: set[str]) -> float:
    return len(words & there) / len(words) if words else 0.0


def _stem(word: str) -> str:
    return word[:-1] if word.endswith("s") and len(word) > 3 else word
