"""Metrics against hand-computed cases, scikit-learn, and the published baselines."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from eval import load_benchmark
from eval.metrics.classification import accuracy, balanced_accuracy, best_constant, random_guess, spread


def test_by_hand() -> None:
    truth, said = ["a", "a", "a", "b"], ["a", "a", None, "a"]
    assert accuracy(truth, said) == 0.5
    assert balanced_accuracy(truth, said) == pytest.approx((2 / 3 + 0) / 2)


def test_agrees_with_scikit_learn() -> None:
    from sklearn.metrics import accuracy_score, balanced_accuracy_score

    rng = np.random.default_rng(3)
    truth = [str(v) for v in rng.integers(0, 5, 200)]
    said = [t if rng.random() < 0.6 else str(rng.integers(0, 5)) for t in truth]
    assert accuracy(truth, said) == pytest.approx(accuracy_score(truth, said))
    assert balanced_accuracy(truth, said) == pytest.approx(balanced_accuracy_score(truth, said))


def test_spread_is_that_of_a_proportion() -> None:
    """The bootstrap of accuracy has the binomial's standard deviation."""
    truth = ["a"] * 400
    said = ["a"] * 300 + ["b"] * 100
    found = spread("accuracy", truth, said)
    assert found.value == 0.75
    assert found.sd == pytest.approx(math.sqrt(0.75 * 0.25 / 400), rel=0.1)
    assert found.low < 0.75 < found.high
    assert found.high - found.low == pytest.approx(2 * 1.96 * found.sd, rel=0.1), "95 % of replicates"
    assert found == spread("accuracy", truth, said)


def test_balanced_spread_keeps_to_classes_in_the_sample() -> None:
    found = spread("balanced_accuracy", ["a"] * 30 + ["b"], ["a"] * 30 + [None])
    assert found.value == 0.5
    assert 0.4 < found.low <= 0.5
    assert found.high == 1.0  # samples without the one b


def test_published_constants_come_out(shared: Path) -> None:
    questions = load_benchmark("multipathqa", shared / "data" / "qa" / "MultiPathQA.csv")
    for task, answer, value in (
        ("tcga_slidebench", "option 2", 0.416),
        ("tcga_expert_vqa", "option 1", 0.281),
    ):
        mine = [q for q in questions if q.benchmark == task]
        found = best_constant("accuracy", [q.answer for q in mine], [q.position for q in mine])
        assert found[0] == answer
        assert found[1] == pytest.approx(value, abs=0.0005)


def test_a_constant_may_be_a_label_or_a_place() -> None:
    assert best_constant("accuracy", ["x", "x", "y"], [1, 2, 3]) == ("'x'", pytest.approx(2 / 3))
    assert best_constant("accuracy", ["x", "y", "z"], [2, 2, 2]) == ("option 2", 1.0)
    assert best_constant("balanced_accuracy", ["x", "x", "y"], [1, 1, 1])[1] == 0.5


def test_guessing_evenly() -> None:
    assert random_guess("accuracy", ["a", "b"], [2, 4]) == pytest.approx(0.375)
    assert random_guess("balanced_accuracy", ["a", "a", "b"], [None] * 3) == pytest.approx(0.5)
