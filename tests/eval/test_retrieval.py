"""Retrieval worked out by hand, and laws that it keeps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.metrics.retrieval import recall_at, slide_retrieval, zero_shot


def test_recall_by_hand() -> None:
    """The first query finds its own first; the second finds the third before it, the third all others."""
    items = np.eye(3)
    queries = np.array([[1.0, 0, 0], [0, 0.5, 0.6], [0.9, 0.8, 0.1]])
    found = recall_at(queries, items, (1, 2, 3))
    assert found == {"recall_1": pytest.approx(1 / 3), "recall_2": pytest.approx(2 / 3), "recall_3": 1.0}


def test_equal_items_are_found_in_their_order() -> None:
    same = np.ones((4, 2))
    assert recall_at(same, same, (1, 2)) == {"recall_1": 0.25, "recall_2": 0.5}


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


def test_what_does_not_belong_together() -> None:
    with pytest.raises(ValueError, match="belong together"):
        recall_at(np.ones((2, 3)), np.ones((3, 3)))
    with pytest.raises(ValueError, match="one length"):
        slide_retrieval(np.ones((2, 3)), ["a"], ["p", "q"])
