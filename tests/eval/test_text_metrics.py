"""Text metrics against their libraries and cases worked out by hand."""

from __future__ import annotations

import math

import pytest

from eval.metrics.text import text_metrics

REFERENCE = "the tumor is a poorly differentiated squamous cell carcinoma"


def test_the_same_words_are_worth_all() -> None:
    found = text_metrics([REFERENCE], [REFERENCE])
    assert set(found) == {"bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "meteor"}
    assert found["bleu_1"] == pytest.approx(1)
    assert found["bleu_4"] == pytest.approx(1)
    assert found["rouge_l"] == pytest.approx(1)
    assert found["meteor"] > 0.99  # its penalty counts one chunk


def test_no_words_are_worth_nothing() -> None:
    assert not any(text_metrics([REFERENCE], [""]).values())


def test_by_hand() -> None:
    """Of "a b c d" against "a b x d": 3 of 4 words, 1 of 3 pairs; the longest common part has 3 words."""
    found = text_metrics(["a b c d"], ["a b x d"])
    assert found["bleu_1"] == pytest.approx(3 / 4)
    assert found["bleu_2"] == pytest.approx(math.sqrt(3 / 4 * 1 / 3))
    assert found["rouge_l"] == pytest.approx(3 / 4)


def test_half_the_length_is_punished() -> None:
    """All words right, but half of them missing: brevity e^(1 - 4/2)."""
    assert text_metrics(["a b c d"], ["a b"])["bleu_1"] == pytest.approx(math.exp(1 - 2))


def test_bleu_is_of_the_whole_and_not_the_mean_of_parts() -> None:
    from sacrebleu.metrics.bleu import BLEU

    references, said = ["a b c d e", "f g h i j"], ["a b c d x", "f g"]
    theirs = BLEU(max_ngram_order=4).corpus_score(said, [references]).score / 100
    assert text_metrics(references, said)["bleu_4"] == pytest.approx(theirs)


def test_meteor_knows_stems() -> None:
    assert text_metrics(["infiltrating glands"], ["infiltrated gland"])["meteor"] > 0.9


def test_pairs_must_be_pairs() -> None:
    with pytest.raises(ValueError, match="cannot be compared"):
        text_metrics([], [])
    with pytest.raises(ValueError, match="cannot be compared"):
        text_metrics(["a"], [])
