"""Retrieval worked out by hand, and laws that it keeps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.metrics.retrieval import (
    random_retrieval,
    recall_at,
    recall_hits,
    retrieval_hits,
    slide_retrieval,
    zero_shot,
)


def test_recall_by_hand() -> None:
    """The first query finds its own first; the second finds the third before it, the third all others."""
    items = np.eye(3)
    queries = np.array([[1.0, 0, 0], [0, 0.5, 0.6], [0.9, 0.8, 0.1]])
    found = recall_at(queries, items, (1, 2, 3))
    assert found == {"recall_1": pytest.approx(1 / 3), "recall_2": pytest.approx(2 / 3), "recall_3": 1.0}


@given(st.integers(1, 12), st.integers(0, 3))
def test_vectors_that_tell_nothing_apart_score_what_chance_does(n: int, noise: int) -> None:
    """Equal items share their places, also where rounding makes them differ a little."""
    same = np.ones((n, 3)) + noise * 1e-8 * np.random.default_rng(n).normal(size=(n, 3))
    found = recall_at(same, same[::-1], (1, 2, 5))
    assert found == {f"recall_{k}": pytest.approx(min(1, k / n)) for k in (1, 2, 5)}


def test_two_equal_reports_share_the_first_place() -> None:
    texts = np.array([[1.0, 0], [1.0, 0], [0, 1.0]])
    assert recall_hits(texts, texts, (1, 2))["recall_1"].tolist() == [0.5, 0.5, 1.0]


@given(st.integers(2, 20), st.integers(0, 5))
def test_recall_grows_with_k_and_is_whole_for_itself(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    queries, items = rng.normal(size=(n, 8)), rng.normal(size=(n, 8))
    values = list(recall_at(queries, items, (1, 3, 5, 10)).values())
    assert values == sorted(values)
    assert recall_at(items, items)["recall_1"] == 1.0
    assert recall_at(3 * queries, items) == recall_at(queries, items)


def test_a_patients_own_slides_are_left_out() -> None:
    """Both slides of a patient are alike and of one class; nobody else has it, so neither can be found."""
    vectors = np.array([[1.0, 0], [1.0, 0.01], [0, 1.0], [0.1, 1.0]])
    found = slide_retrieval(vectors, ["a", "a", "b", "b"], ["p", "p", "q", "r"])
    assert found == {"acc_1": 0.5, "acc_3": 0.5, "acc_5": 0.5, "mmv_5": 0.0, "findable": 0.5}


def test_the_majority_of_five() -> None:
    vectors = np.array([[1, 0], [1, 0.1], [1, 0.2], [1, 0.3], [1, 0.4], [1, 0.5]], dtype=float)
    found = slide_retrieval(vectors, ["a", "a", "a", "a", "b", "b"], list("uvwxyz"))
    assert found["acc_1"] == pytest.approx(5 / 6)  # the fifth, "b", lies nearer to the fourth, or is as near
    assert found["mmv_5"] == pytest.approx(4 / 6)


def test_zero_shot_takes_the_mean_of_phrasings() -> None:
    prompts = [np.array([[1.0, 0.2], [1.0, -0.2]]), np.array([[0.0, 5.0]])]
    assert zero_shot(np.array([[2.0, 0.1], [0.1, 0.3]]), prompts).tolist() == [0, 1]


def test_the_class_that_comes_first_breaks_a_tie() -> None:
    """Two of "a", two of "b" and a "c" among the five nearest of the first slide, which is an "a"."""
    angles = np.deg2rad([0, 1, 2, 3, 4, 5])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    for others, found in (("abbac", 1.0), ("baabc", 0.0), ("bbaac", 0.0), ("cabba", 1.0)):
        assert retrieval_hits(vectors, ["a", *others], list("uvwxyz"))["mmv_5"][0] == found


@settings(max_examples=15, deadline=None)
@given(st.lists(st.sampled_from("abc"), min_size=3, max_size=9), st.integers(0, 3))
def test_random_retrieval_is_what_random_vectors_score(classes: list[str], seed: int) -> None:
    """A patient has two slides that follow each other."""
    rng, patients = np.random.default_rng(seed), [str(i // 2) for i in range(len(classes))]
    runs = [slide_retrieval(rng.normal(size=(len(classes), 16)), classes, patients) for _ in range(400)]
    for name, value in random_retrieval(classes, patients).items():
        assert value == pytest.approx(np.mean([run[name] for run in runs]), abs=0.06)


def test_chance_by_hand() -> None:
    """Of three others one is of the class: 1/3 at one, all at three."""
    found = random_retrieval(["a", "a", "b", "b"], list("wxyz"))
    assert found["acc_1"] == pytest.approx(1 / 3)
    assert found["acc_3"] == found["findable"] == 1.0
    assert random_retrieval(["a", "b"], ["p", "p"]) == dict.fromkeys(
        ("acc_1", "acc_3", "acc_5", "mmv_5", "findable"), 0.0
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_none_score_nothing(bad: float) -> None:
    """Comparing with NaN is false, which would rank every item first."""
    wrong = np.array([[1.0, bad], [0, 1.0]])
    for measured in (
        lambda: recall_at(wrong, np.eye(2)),
        lambda: slide_retrieval(wrong, ["a", "b"], ["p", "q"]),
        lambda: zero_shot(np.eye(2), [wrong]),
    ):
        with pytest.raises(ValueError, match="not finite"):
            measured()


def test_what_does_not_belong_together() -> None:
    with pytest.raises(ValueError, match="belong together"):
        recall_at(np.ones((2, 3)), np.ones((3, 3)))
    with pytest.raises(ValueError, match="one length"):
        slide_retrieval(np.ones((2, 3)), ["a"], ["p", "q"])
