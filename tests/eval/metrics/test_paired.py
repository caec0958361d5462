"""Comparisons on the same questions, against scikit-learn, scipy and cases worked out by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import cohen_kappa_score

from eval.metrics.classification import accuracy, balanced_accuracy, quadratic_kappa
from eval.metrics.paired import compare_paired, holm, mcnemar
from eval.metrics.resampling import draws, scores

GRADES = [str(grade) for grade in range(6)]


def test_mcnemar_by_hand() -> None:
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(0, 5) == pytest.approx(2 * 0.5**5)
    assert mcnemar(1, 9) == pytest.approx(2 * (1 + 10) / 2**10)
    assert mcnemar(5, 5) == 1.0


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_binomial_test(a: int, b: int) -> None:
    expected = binomtest(a, a + b, 0.5).pvalue if a + b else 1.0
    assert mcnemar(a, b) == pytest.approx(expected)
    assert mcnemar(a, b) == mcnemar(b, a)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5]) == [0.5]
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_keeps_the_order_and_never_helps(ps: list[float]) -> None:
    corrected = holm(ps)
    assert all(c >= p for c, p in zip(corrected, ps, strict=True))
    order = sorted(range(len(ps)), key=lambda i: ps[i])
    assert all(corrected[i] <= corrected[j] for i, j in itertools.pairwise(order))


def test_a_clear_difference_is_found_and_none_is_not() -> None:
    rng = np.random.default_rng(0)
    weak, strong = rng.random(300) < 0.4, rng.random(300) < 0.7
    found = compare_paired("accuracy", np.zeros(300, int), weak, strong)
    assert found.difference == pytest.approx(strong.mean() - weak.mean())
    assert found.low < found.difference < found.high
    assert found.low > 0
    assert found.p_mcnemar < 0.001
    assert found.p_bootstrap == pytest.approx(2 / 1001)
    same = compare_paired("accuracy", np.zeros(300, int), weak, weak)
    assert (same.difference, same.p_mcnemar, same.p_bootstrap) == (0.0, 1.0, 1.0)


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=40), st.integers(0, 5))
def test_weights_are_as_good_as_rows(answers: list[tuple[int, bool]], seed: int) -> None:
    """A replicate by weights scores as the questions that it draws, each as often as it is drawn."""
    codes, hits = np.array([c for c, _ in answers]), np.array([h for _, h in answers], dtype=float)
    weights = draws(len(answers), seed)[:3]
    for metric, by_hand in (("accuracy", accuracy), ("balanced_accuracy", balanced_accuracy)):
        for weight, value in zip(weights, scores(metric, codes, hits, weights), strict=True):
            rows = np.repeat(np.arange(len(answers)), weight.astype(int))
            truth = [str(c) for c in codes[rows]]
            said = [t if h else None for t, h in zip(truth, hits[rows], strict=True)]
            assert value == pytest.approx(by_hand(truth, said), abs=1e-6)


def test_the_other_way_round_is_the_same_with_another_sign() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.random(80) < 0.5, rng.random(80) < 0.6
    classes = rng.integers(0, 4, 80)
    there = compare_paired("balanced_accuracy", classes, a, b)
    back = compare_paired("balanced_accuracy", classes, b, a)
    assert there.difference == pytest.approx(-back.difference)
    assert (there.only_a, there.only_b) == (back.only_b, back.only_a)
    assert there.p_bootstrap == pytest.approx(back.p_bootstrap)


def test_different_questions_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="cannot be compared"):
        compare_paired("accuracy", np.zeros(3, int), np.ones(3), np.ones(4))
    with pytest.raises(ValueError, match="cannot be compared"):
        compare_paired("accuracy", np.zeros(0, int), np.ones(0), np.ones(0))


@given(st.lists(st.tuples(st.sampled_from(GRADES), st.sampled_from(GRADES)), min_size=2, max_size=60))
def test_kappa_is_that_of_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    truth, said = [t for t, _ in pairs], [s for _, s in pairs]
    ours = quadratic_kappa(truth, said, GRADES)
    if len({*truth, *said}) < 2:
        assert ours is None
        return
    theirs = cohen_kappa_score(truth, said, labels=GRADES, weights="quadratic")
    assert ours == pytest.approx(theirs)


def test_kappa_leaves_out_what_has_no_answer() -> None:
    assert quadratic_kappa(["1", "2", "3"], ["1", None, "3"], GRADES) == pytest.approx(1.0)
    assert quadratic_kappa(["1"], ["1"], GRADES) is None
