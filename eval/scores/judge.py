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
from typing import NamedTuple, Protocol

from core_model.words import content_words

SCORES = (1.0, 0.7, 0.3, 0.0)
MEANINGS = {
    1.0: "states the same, in whatever words",
    0.7: "states the main point; a detail is missing or less exact",
    0.3: "states a small part of it, or only implies it",
    0.0: "does not state it, or contradicts it",
}


class JudgeFailed(Exception):
    """A judge that gave no usable judgement, also when asked again; the message says why."""


class JudgeStopped(Exception):
    """A judge that may not be asked any more, for lack of money; the message says why."""


class Judge(Protocol):
    """Splits texts into claims and judges claims."""

    name: str
    """Named beside every figure that it gave."""
    rules: str
    """Another text where the judge goes by other rules: judgements by other rules are not mixed."""

    def claims(self, text: str, question: str) -> list[str]:
        """The claims of a text, in its order. Raises `JudgeFailed` and `JudgeStopped`."""
        ...

    def scores(self, claims: Sequence[str], against: str, question: str) -> list[float]:
        """A score for each claim, in order. Raises `JudgeFailed` and `JudgeStopped`."""
        ...


class ScoredClaim(NamedTuple):
    """One statement of a text, and how far the other text states it."""

    text: str
    score: float


@dataclass(frozen=True)
class ClaimScores:
    """One answer, judged both ways; None where that way failed."""

    precision: float | None
    relevance: float | None
    failures: tuple[str, ...] = ()
    wanted: tuple[ScoredClaim, ...] = ()
    """The claims of the reference."""
    said: tuple[ScoredClaim, ...] = ()
    """The claims of the answer."""


def judge_answer(judge: Judge, question: str, reference: str, answer: str) -> ClaimScores:
    """Both metrics of one answer. An answer without words scores 0 and is not put to the judge.

    An answer without a claim scores 0; a reference in which the judge finds none ("B", "II") is one claim
    as it stands. Raises `JudgeStopped`.
    """
    if not answer.strip():
        return ClaimScores(0.0, 0.0)
    failures: list[str] = []
    reference_claims = _one_way(judge, question, reference, answer, failures, whole=True)
    answer_claims = _one_way(judge, question, answer, reference, failures)
    return ClaimScores(
        _mean(reference_claims),
        _mean(answer_claims),
        tuple(failures),
        reference_claims or (),
        answer_claims or (),
    )


def _one_way(
    judge: Judge, question: str, text: str, against: str, failures: list[str], whole: bool = False
) -> tuple[ScoredClaim, ...] | None:
    try:
        claims = judge.claims(text, question) or [text.strip()] * whole
        scores = judge.scores(claims, against, question) if claims else []
    except JudgeFailed as error:
        failures.append(str(error))
        return None
    return tuple(ScoredClaim(*pair) for pair in zip(claims, scores, strict=True))


def _mean(claims: tuple[ScoredClaim, ...] | None) -> float | None:
    if claims is None:
        return None
    return sum(claim.score for claim in claims) / len(claims) if claims else 0.0


class EntityOverlap:
    """A judge without a model: a claim is a sentence, and scores by how many of its words the other text has.

    Deterministic and offline. It knows no synonyms, and a denial only as one word more, so its figures stand
    only beside figures of its own and are labelled with its name.
    """

    name = "entity-overlap"
    rules = "words and numbers, 1"

    def claims(self, text: str, question: str) -> list[str]:
        """The sentences of a text that have words which count."""
        parts = re.split(r"(?<=[.!?;])\s+|(?<=[。！？；])|\n+", text)
        return [part.strip() for part in parts if _words(part)]

    def scores(self, claims: Sequence[str], against: str, question: str) -> list[float]:
        """By the share of a claim's words that occur in the other text, rounded down to a score."""
        other_words = _words(against)
        return [
            next(score for score in SCORES if _share(claim, other_words, against) >= score)
            for claim in claims
        ]


_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_DENIAL = re.compile(r"\b(?:no|not|without|non|absent|absence|negative)\b")
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
"""Scripts without spaces between words: each of their signs counts as one."""


def _words(text: str) -> set[str]:
    """The words of a text that count: its subjects in the singular, its numbers, and whether it denies."""
    text = text.lower()
    signs = set(_UNSPACED.findall(text))
    words = content_words(_UNSPACED.sub(" ", text))
    denial = {"no"} if _DENIAL.search(text) else set()
    stems = {_stem(word) for word in words if not _DENIAL.fullmatch(word)}
    return stems | signs | denial | set(_NUMBER.findall(text))


def _share(claim: str, other_words: set[str], against: str) -> float:
    words = _words(claim)
    if not words:  # a letter or a sign
        return float(claim.strip().casefold() == against.strip().casefold())
    return len(words & other_words) / len(words)


def _stem(word: str) -> str:
    return word[:-1] if word.endswith("s") and len(word) > 3 else word
