"""Text metrics against their libraries and cases worked out by hand."""

from __future__ import annotations

import math
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core_model.errors import GiantError
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

    references = ["A b c d e.", "f g h i j", "no tumour"]
    for said in (["a b c d x.", "f g", "No tumour, none"], ["x", "f g h i", ""], ["", "", ""]):
        ours = text_metrics(references, said)
        for n in (1, 2, 3, 4):
            theirs = BLEU(max_ngram_order=n, lowercase=True).corpus_score(said, [references]).score / 100
            assert ours[f"bleu_{n}"] == pytest.approx(theirs)


ASCII = st.lists(st.text("abcdefgs ing.,-_()1234", min_size=1), min_size=1, max_size=3)


@settings(max_examples=50, deadline=None)
@given(ASCII, ASCII)
def test_rouge_is_its_librarys_for_ascii(references: list[str], said: list[str]) -> None:
    from rouge_score.rouge_scorer import RougeScorer

    pairs = list(zip(references, said, strict=False))
    theirs = [RougeScorer(["rougeL"], use_stemmer=True).score(r, s)["rougeL"].fmeasure for r, s in pairs]
    ours = text_metrics([r for r, _ in pairs], [s for _, s in pairs])["rouge_l"]
    assert ours == pytest.approx(sum(theirs) / len(theirs))


def test_meteor_is_its_librarys_on_words_without_synonyms() -> None:
    """Two of three words match, in one run: F = P R / (.9 P + .1 R), less .5 (1 run / 2 matches)^3."""
    from nltk.translate.meteor_score import single_meteor_score

    reference, said = "grade two carcinoma", "grade two tumour"
    f = (2 / 3) ** 2 / (0.9 * 2 / 3 + 0.1 * 2 / 3)
    found = text_metrics([reference], [said])["meteor"]
    assert found == pytest.approx(f * (1 - 0.5 / 8))
    nothing = type("WordNet", (), {"synsets": staticmethod(lambda word: [])})()
    assert found == pytest.approx(single_meteor_score(reference.split(), said.split(), wordnet=nothing))
    assert text_metrics([reference], [f"{said}."])["meteor"] == pytest.approx(found)  # not "tumour."


@pytest.mark.parametrize(
    "text", ["опухоль без некроза здесь", "大細胞癌、壊死なし", "tumör größer als früher"]
)
def test_every_script_counts(text: str) -> None:
    found = text_metrics([text], [text])
    assert min(found.values()) > 0.95
    other = text_metrics([text], ["the tumor is benign here"])
    assert other["rouge_l"] == 0


@pytest.mark.parametrize("module", ["sacrebleu.metrics.bleu", "nltk.stem.porter", "rouge_score.rouge_scorer"])
def test_a_missing_library_is_named_with_what_to_install(
    module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(GiantError, match=r"need sacrebleu.*pip install 'giant-pathology\[eval\]'"):
        text_metrics(["a"], ["a"])


def test_meteor_knows_stems() -> None:
    assert text_metrics(["infiltrating glands"], ["infiltrated gland"])["meteor"] > 0.9


def test_pairs_must_be_pairs() -> None:
    with pytest.raises(ValueError, match="cannot be compared"):
        text_metrics([], [])
    with pytest.raises(ValueError, match="cannot be compared"):
        text_metrics(["a"], [])
