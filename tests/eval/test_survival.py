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
    assert found > 0.7
    noise = survival_cindex(rng.normal(size=(300, 6)), time, event)
    assert noise is not None
    assert abs(noise - 0.5) < 0.1


def test_without_an_event_nothing_is_fitted() -> None:
    with pytest.raises(ValueError, match="no event"):
        fit_cox(np.ones((3, 1)), np.arange(3.0), np.zeros(3, dtype=bool))
