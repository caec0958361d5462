"""Claims judged: the arithmetic, the judge without a model, and what becomes of failures."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.scores.judge import SCORES, ClaimScores, EntityOverlap, JudgeFailed, ScoredClaim, judge_answer

REFERENCE = "The tumor is a squamous cell carcinoma. There is focal necrosis."


class Fixed:
    """Splits at bars; says the scores that it is given, or fails."""

    name, rules = "fixed", "1"

    def __init__(self, *scores: list[float] | str) -> None:
        self.left = list(scores)

    def claims(self, text: str, question: str) -> list[str]:
        return [part for part in text.split("|") if part != "nothing"]

    def scores(self, claims: Sequence[str], against: str, question: str) -> list[float]:
        given = self.left.pop(0)
        if isinstance(given, str):
            raise JudgeFailed(given)
        return given


def test_precision_is_of_the_reference_and_relevance_of_the_answer() -> None:
    found = judge_answer(Fixed([1.0, 0.7], [0.3]), "?", "a|b", "c")
    assert (found.precision, found.relevance, found.failures) == (pytest.approx(0.85), 0.3, ())
    assert found.wanted == (ScoredClaim("a", 1.0), ScoredClaim("b", 0.7))
    assert found.said == (ScoredClaim("c", 0.3),)


def test_texts_without_a_claim() -> None:
    """An answer that claims nothing is worth nothing; a reference like "B" stands as it is."""
    assert judge_answer(Fixed([1.0]), "?", "a", "nothing").relevance == 0.0
    assert judge_answer(Fixed([0.7], [1.0]), "?", "nothing", "b").wanted == (ScoredClaim("nothing", 0.7),)


def test_a_failure_is_missing_and_not_nought() -> None:
    found = judge_answer(Fixed("no JSON", [1.0]), "?", "a", "b")
    assert (found.precision, found.relevance, found.failures) == (None, 1.0, ("no JSON",))


def test_no_answer_is_worth_nothing_without_asking() -> None:
    assert judge_answer(Fixed(), "?", "a", "  ") == ClaimScores(0.0, 0.0)


def test_overlap_by_hand() -> None:
    judge = EntityOverlap()
    assert judge.claims(REFERENCE, "?") == [
        "The tumor is a squamous cell carcinoma.",
        "There is focal necrosis.",
    ]
    assert judge.scores(["squamous cell carcinoma", "adenocarcinoma"], REFERENCE, "?") == [1.0, 0.0]
    assert judge.scores(["squamous cell tumor with keratin"], REFERENCE, "?") == [0.7]
    assert judge.scores(["extensive necrosis of glands"], REFERENCE, "?") == [0.3]
    found = judge_answer(judge, "?", REFERENCE, "Squamous cell carcinoma.")
    assert found.relevance == 1.0
    assert found.precision == pytest.approx((0.7 + 0.0) / 2)


def test_overlap_counts_numbers_denials_and_other_scripts() -> None:
    judge = EntityOverlap()
    assert judge.scores(["Gleason 3+4", "grade 2"], "Gleason 3+4, grade 3", "?") == [1.0, 0.3]
    assert judge.scores(["No necrosis."], "There is necrosis.", "?") == [0.3]
    assert judge.scores(["Без некроза, опухоль"], "опухоль без некроза", "?") == [1.0]
    assert judge.claims("胃腺癌。無壊死", "?") == ["胃腺癌。", "無壊死"]
    assert judge.scores(["胃腺癌"], "肺腺癌", "?") == [0.3]
    assert judge.scores(["B"], "b", "?") == [1.0]
    assert judge.scores(["B"], "c", "?") == [0.0]


@given(st.text(min_size=1), st.text())
def test_overlap_always_judges(reference: str, answer: str) -> None:
    """Whatever is written, both ways have a score, a claim one of the four, and the same once more."""
    scores = judge_answer(EntityOverlap(), "?", reference, answer)
    assert not scores.failures
    assert scores.precision is not None
    assert 0 <= scores.precision <= 1
    assert {claim.score for claim in (*scores.wanted, *scores.said)} <= {*SCORES}
    assert scores == judge_answer(EntityOverlap(), "?", reference, answer)


@given(st.lists(st.sampled_from(["Tumour cells.", "No necrosis.", "Grade 3.", "胃腺癌。", "B"]), min_size=1))
def test_a_text_word_for_word_is_right_and_one_without_its_words_is_wrong(sentences: list[str]) -> None:
    judge, text = EntityOverlap(), "\n".join(sentences)
    claims = judge.claims(text, "?")
    assert judge.scores(claims, text, "?") == [1.0] * len(claims)
    assert judge.scores(claims, "stroma", "?") == [0.0] * len(claims)
    assert len(claims) == sum(sentence != "B" for sentence in sentences), "a letter alone claims nothing"


def test_shares_round_down_to_a_score() -> None:
    """Of ten words 10, 9, 7, 6, 3, 2 and 0 stand in the other text."""
    words = [
        "cells",
        "glands",
        "nuclei",
        "stroma",
        "mitoses",
        "ducts",
        "lumen",
        "fibrosis",
        "mucin",
        "oedema",
    ]
    claim = " ".join(words)
    scores = [EntityOverlap().scores([claim], " ".join(words[:n]), "?")[0] for n in (10, 9, 7, 6, 3, 2, 0)]
    assert scores == [1.0, 0.7, 0.7, 0.3, 0.3, 0.0, 0.0]
