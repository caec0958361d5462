"""The cohort's words: faithful, varied, and fair as a benchmark."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from training.phantom import askings
from training.phantom.language import (
    CATEGORIES,
    QA,
    benchmark_questions,
    caption,
    choice,
    pathology_report,
    questions,
)
from training.phantom.phrases import AMERICAN, expand, extent, spell
from training.phantom.truth import BENIGN, DIAGNOSES, BoxTruth

TOLD = {
    "necrosis": {
        "absent": r"no necrosis|necrosis is (absent|not (seen|ident))|absent necrosis",
        "focal": r"focal|patchy|foci of necrosis",
        "extensive": r"extensive|widespread|confluent|large areas",
    },
    "lymphocytes": {
        "sparse": r"(sparse|few|scanty) lympho"
        r"|(lymphocytes are|(infiltrate|inflammation) is) (sparse|few|scanty|mild|minimal)",
        "moderate": r"moderate (lympho)|lymphocytes are moderate|(infiltrate|inflammation) is moderate",
        "dense": r"(?<!how )dense|heavy|marked|abundant|plentiful",
    },
    "mitoses": {
        "low": r"(rare|few) mito|(mitoses|figures) are (rare|few|infrequent|hard)|(is|a) (low|inconspicuous)"
        r"|low mito",
        "moderate": r"moderate (mito|number of mito)|mitoses are moderate"
        r"|mitotic (activity|rate) is (moderate|intermediate)",
        "high": r"(frequent|numerous) mito|(mitoses|figures) are (frequent|numerous|many|easily)"
        r"|is (high(?!-)|brisk)|high mito",
    },
    "grade": {
        "grade 1": r"grade 1|well[ -]differentiated",
        "grade 2": r"grade 2|moderately differentiated",
        "grade 3": r"grade 3|poorly differentiated",
        "no tumour": r"benign",
    },
}
"""How a reader would recognise each value; written apart from the grammar on purpose."""


def random_truth(rng: np.random.Generator) -> BoxTruth:
    """A truth as the cohort samples them: outcomes balanced, findings near uniform."""
    grade = (None, 1, 2, 3)[int(rng.integers(4))]
    if grade is None:
        return BoxTruth(1.0, 0.8, 0.0, 0.0, float(rng.choice([100, 700, 2000])), 0.0, BENIGN, None)
    small = grade == 3 and rng.random() < 0.5
    return BoxTruth(
        area_mm2=1.0,
        tissue_share=0.8,
        tumour_share=float(rng.uniform(0.06, 1.0)),
        necrosis_share=float(rng.choice([0.0, 0.1, 0.4])),
        lymphocytes_per_mm2=float(rng.choice([100, 700, 2000])),
        mitoses_per_mm2=float(rng.choice([3, 30, 80])),
        diagnosis="small cell carcinoma" if small else DIAGNOSES[int(rng.integers(3))],
        grade=grade,
    )


def truths(count: int, seed: int = 0) -> list[BoxTruth]:
    rng = np.random.default_rng(seed)
    return [random_truth(rng) for _ in range(count)]


def truths_with_questions(count: int, seed: int) -> Iterator[tuple[BoxTruth, QA]]:
    """Every question on each truth, worded by `seed`."""
    rng = np.random.default_rng(seed)
    for t in truths(count):
        for qa in questions(t, rng):
            yield t, qa


@pytest.mark.parametrize("family", TOLD)
def test_a_report_tells_each_finding_and_never_another_value(family: str) -> None:
    rng = np.random.default_rng(1)
    for t in truths(150):
        text = pathology_report(t, rng).lower()
        truth = choice(t, family)
        assert re.search(TOLD[family][truth], text), (family, truth, text)
        for other in set(TOLD[family]) - {truth}:
            if family != "grade" or other != "no tumour":
                found = re.search(TOLD[family][other], text)
                assert not found, (family, truth, other, text)


def test_a_report_names_its_diagnosis_and_no_other() -> None:
    rng = np.random.default_rng(2)
    for t in truths(100):
        text = pathology_report(t, rng).lower()
        assert [name for name in DIAGNOSES if name in text.replace("adenocarcinoma", "ADENO")] == (
            [] if t.diagnosis == "adenocarcinoma" else [t.diagnosis]
        )
        assert ("adenocarcinoma" in text) == (t.diagnosis == "adenocarcinoma")


def test_reports_have_two_to_six_sentences_and_captions_one_or_two() -> None:
    rng = np.random.default_rng(3)
    for t in truths(150):
        assert 2 <= pathology_report(t, rng).count(".") <= 6
        assert 1 <= caption(t, rng).count(".") <= 2


def test_no_text_holds_grammar_marks_or_mixed_spelling() -> None:
    rng = np.random.default_rng(4)
    seen = []
    for t in truths(100):
        seen += [pathology_report(t, rng), caption(t, rng)]
        asked = [qa for qa in questions(t, rng) if qa.family != "describe"]
        seen += [" ".join([qa.question, *(qa.options or ()), qa.answer]) for qa in asked]
    for text in seen:
        assert not re.search(r"[\[\]{}|]|  |None", text), text
        assert not ("tumour" in text.lower() and re.search(r"tumor\b", text.lower())), text


def test_reports_vary_and_both_spellings_appear() -> None:
    t = truths(4)[1]
    t = replace(t, diagnosis="adenocarcinoma", grade=2, tumour_share=0.5)
    rng = np.random.default_rng(5)
    texts = [pathology_report(t, rng) for _ in range(200)]
    assert len(set(texts)) > 195
    assert any("tumour" in text.lower() for text in texts)
    assert any("tumor" in text.lower().replace("tumour", "") for text in texts)


def test_the_same_seed_gives_the_same_words() -> None:
    t = truths(1)[0]
    first, second = (np.random.default_rng(6) for _ in range(2))
    assert pathology_report(t, first) == pathology_report(t, second)
    assert questions(t, first) == questions(t, second)


@pytest.mark.parametrize("family", CATEGORIES)
def test_each_family_has_many_wordings_and_the_terse_ones(family: str) -> None:
    rng = np.random.default_rng(7)
    asked = {qa.question for t in truths(400) for qa in questions(t, rng) if qa.family == family}
    assert len({question.lower().rstrip("?. ") for question in asked}) >= 12
    terse = {
        "diagnosis": "diagnosis?",
        "grade": "Grade?",
        "necrosis": "necrosis?",
        "mitoses": "Mitotic activity?",
    }
    if family in terse:
        assert terse[family] in asked


def test_what_users_type_is_among_the_questions() -> None:
    rng = np.random.default_rng(8)
    asked = {qa.question.lower().rstrip("?") for t in truths(500) for qa in questions(t, rng)}
    for question in ("grade", "what is the diagnosis", "is there tumour", "any tumor", "how many mitoses"):
        assert question in asked, question


def test_closed_questions_offer_the_truth_once_among_the_familys_options() -> None:
    fewer = 0
    for t, qa in truths_with_questions(200, seed=9):
        if qa.options is None:
            continue
        assert qa.options.count(qa.answer) == 1
        assert len(set(qa.options)) == len(qa.options) >= 2
        if qa.family != "presence":
            offered = {
                option.replace("tumor", "tumour").replace("tumouur", "tumour") for option in qa.options
            }
            assert offered <= {spell(option, False) for option in CATEGORIES[qa.family]}
            assert qa.answer.replace("no tumor", "no tumour").replace("uur", "ur") == choice(t, qa.family)
            fewer += len(qa.options) < len(CATEGORIES[qa.family])
    assert fewer > 20


def test_open_answers_begin_with_the_decisive_words() -> None:
    counted = 0
    for t, qa in truths_with_questions(200, seed=10):
        if qa.options is None and qa.family != "describe":
            answer = qa.answer.lower().replace("tumor", "tumour").replace("tumouur", "tumour")
            assert answer.startswith(choice(t, qa.family)), qa
            assert qa.answer[0].isupper()
            counted += 1
    assert counted > 300


def test_yes_no_questions_about_necrosis_and_types_are_answered_rightly() -> None:
    named = 0
    for t, qa in truths_with_questions(400, seed=11):
        if qa.options is None or set(qa.options) != {"yes", "no"}:
            continue
        text = qa.question.lower()
        types = [name for name in DIAGNOSES if re.search(rf"(?<![a-z]){name}", text)]
        if types:
            named += 1
            assert (qa.answer == "yes") == (types[0] == t.diagnosis), qa
        elif "necro" in text:
            assert (qa.answer == "yes") == (t.necrosis != "absent"), qa
    assert named > 50


def test_the_benchmark_cannot_be_guessed() -> None:
    rng = np.random.default_rng(12)
    asked = [qa for t in truths(1000) for qa in benchmark_questions(t, rng)]
    assert 0.25 < sum(qa.family == "presence" for qa in asked) / 1000 < 0.42
    answers: dict[str, Counter[str]] = {family: Counter() for family in CATEGORIES}
    for qa in asked:
        assert qa.options is not None
        assert set(qa.options) == set(CATEGORIES[qa.family])
        answers[qa.family][qa.answer] += 1
    guess = sum(1 / len(qa.options) for qa in asked if qa.options) / len(asked)
    assert guess <= 0.35
    yes = answers["presence"]["yes"] / answers["presence"].total()
    assert 0.42 < yes < 0.58
    # Necrosis and mitoses of the helper's benign truths are always the lowest; the cohort balances them.
    for family in ("diagnosis", "grade", "lymphocytes"):
        assert max(answers[family].values()) / answers[family].total() <= 0.38


def test_benchmark_options_are_shuffled() -> None:
    rng = np.random.default_rng(13)
    t = truths(1)[0]
    places = Counter(
        qa.options.index(qa.answer)
        for _ in range(300)
        for qa in benchmark_questions(t, rng)
        if qa.family == "grade" and qa.options
    )
    assert set(places) == {0, 1, 2, 3}


def test_grammars_expand_nested_choices() -> None:
    rng = np.random.default_rng(14)
    drawn = {expand("a [b|[c|d] e|]?", rng) for _ in range(100)}
    assert drawn == {"a b?", "a c e?", "a d e?", "a?"}
    assert all(expand(grammar, rng) for grammars in askings.QUESTIONS.values() for grammar in grammars)


def test_extent_words_grow_with_the_share() -> None:
    rng = np.random.default_rng(15)
    assert "half" in expand(extent(0.5), rng)
    assert len({extent(share) for share in np.linspace(0, 1, 101)}) == 8
    assert set(AMERICAN) >= {"tumour", "haematoxylin"}
