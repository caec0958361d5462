"""Survival worked out by hand, and found again where it was put in."""

from __future__ import annotations

import numpy as np
import pytest

from eval.metrics.survival import concordance, fit_cox, survival_cindex


def test_concordance_by_hand() -> None:
    """Three pairs are comparable: those that begin with the deaths at 1 and 2."""
    time, event = np.array([1.0, 2.0, 3.0]), np.array([True, True, False])
    assert concordance(time, event, np.array([3.0, 2.0, 1.0])) == 1.0
    assert concordance(time, event, np.array([1.0, 2.0, 3.0])) == 0.0
    assert concordance(time, event, np.array([2.0, 2.0, 1.0])) == pytest.approx(2.5 / 3)
    assert concordance(time, np.array([False, False, True]), np.array([1.0, 2.0, 3.0])) is None


def test_cox_by_hand() -> None:
    """Two patients, the one with x = 1 dies first: the slope of log(e^b / (e^b + 1)) is the ridge's at b."""
    beta = fit_cox(np.array([[1.0], [0.0]]), np.array([1.0, 2.0]), np.array([True, False]), ridge=0.25)
    assert 1 / (1 + np.exp(beta[0])) == pytest.approx(0.25 * beta[0], abs=1e-5)


def test_ties_are_at_risk_together() -> None:
    x, time = np.array([[1.0], [0.0], [0.0]]), np.array([1.0, 1.0, 2.0])
    there = fit_cox(x, time, np.array([True, False, False]))
    back = fit_cox(x[[1, 0, 2]], time, np.array([False, True, False]))
    assert there == pytest.approx(back)


def test_a_planted_risk_is_found_and_noise_is_not() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 6))
    time = rng.exponential(np.exp(-1.5 * x[:, 0]))
    event = rng.random(300) < 0.7
    found = survival_cindex(x, time, event)
    assert found is not None
    assert found["low"] > 0.7
    assert found["low"] < found["value"] < found["high"]
    noise = survival_cindex(rng.normal(size=(300, 6)), time, event)
    assert noise is not None
    assert abs(noise["value"] - noise["chance"]) < 0.1


def test_more_channels_than_patients_do_not_hurt() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(60, 192))
    x[:, :20] += 3 * rng.normal(size=(60, 1))  # what is planted shows in several channels
    time = rng.exponential(np.exp(-x[:, :20].mean(axis=1)))
    found = survival_cindex(x, time, np.ones(60, dtype=bool))
    assert found is not None
    assert found["value"] > 0.65


def test_nobody_is_predicted_by_a_fit_that_saw_them() -> None:
    """Each patient has a channel alone: with it in the fit risks were perfect, without it they are none."""
    rng = np.random.default_rng(2)
    found = survival_cindex(np.eye(100), rng.exponential(size=100), np.ones(100, dtype=bool), ridge=0.01)
    assert found is not None
    assert found["value"] < 0.65


def test_few_deaths_are_spread_over_the_folds() -> None:
    """Five deaths at the end of the file: a fold without any would have nothing to fit or compare."""
    event = np.arange(40) >= 35
    found = survival_cindex(np.random.default_rng(3).normal(size=(40, 3)), np.arange(40.0)[::-1], event)
    assert found is not None
    assert survival_cindex(np.ones((40, 3)), np.arange(40.0), np.arange(40) >= 36) is None


def test_without_an_event_nothing_is_fitted() -> None:
    with pytest.raises(ValueError, match="no event"):
        fit_cox(np.ones((3, 1)), np.arange(3.0), np.zeros(3, dtype=bool))
