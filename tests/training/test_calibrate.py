"""Calibration recovers what was built into made-up answers."""

from __future__ import annotations

import numpy as np
import pytest

from training.calibrate import QuestionScores, abstain_below, fit_calibration, pooled


def log_softmax(logits: np.ndarray) -> np.ndarray:
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def heard(count: int, sharpness: float, telling: float, seed: int = 0) -> list[QuestionScores]:
    """Answers whose truth is drawn from their own softmax, then told `sharpness` times too surely.

    The regions add evidence of their own, `telling` nats for the truth.
    """
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        logits = rng.normal(0, 1.5, 4)
        truth = int(rng.choice(4, p=np.exp(log_softmax(logits))))
        regions = rng.normal(0, 1.0, (3, 4))
        regions[:, truth] += telling
        found.append(QuestionScores(log_softmax(sharpness * logits), log_softmax(regions), truth))
    return found


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_temperature_undoes_overconfidence(sharpness: float) -> None:
    assert fit_calibration(heard(1500, sharpness, 0.0)).temperature == pytest.approx(sharpness, rel=0.3)


def test_regions_count_as_far_as_they_tell() -> None:
    mute, telling = fit_calibration(heard(800, 1.0, 0.0)), fit_calibration(heard(800, 1.0, 2.0))
    assert mute.region_weight <= 0.1
    assert telling.region_weight >= 0.5
    assert mute.slide_weight > 0.5


def test_pooled_probabilities_sum_to_one_and_one_look_never_rules_out() -> None:
    sure = QuestionScores(log_softmax(np.array([0.0, -50.0])), log_softmax(np.array([[-8.0, 0.0]])), 1)
    both = np.exp(pooled(sure, 1.0, 1.0, 1.0))
    assert both.sum() == pytest.approx(1)
    assert both[1] > 0.1  # the whole slide alone said e^-50
    alone = QuestionScores(sure.whole, np.zeros((0, 2)), 0)
    assert np.exp(pooled(alone, 1.0, 1.0, 1.0)).sum() == pytest.approx(1)


def test_abstention_begins_where_answers_are_mostly_wrong() -> None:
    confidence = np.linspace(0.2, 1.0, 100)
    right = confidence > 0.5
    limit = abstain_below(confidence.tolist(), right.tolist())
    assert 0.5 < limit < 0.8
    assert abstain_below(confidence.tolist(), [True] * 100) == 0.0
    assert abstain_below([0.1, 0.9], [False, False]) == 0.0  # too few to conclude


def test_without_questions_nothing_is_fitted() -> None:
    assert fit_calibration([]).temperature == 1.0
