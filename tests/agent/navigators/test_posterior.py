"""Pooling of probabilities."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.navigators.weigh import margin, pool, ranked, shift


def shares(weights: list[float]) -> dict[str, float]:
    return {str(i): weight / sum(weights) for i, weight in enumerate(weights)}


three = st.lists(st.floats(0.01, 1.0), min_size=3, max_size=3).map(shares)


def test_nothing_heard_is_no_posterior() -> None:
    assert pool(None, [], 1.0, 1.0) is None


@settings(deadline=None)
@given(three)
def test_without_regions_the_slide_stands_whatever_its_weight(whole: dict[str, float]) -> None:
    pooled = pool(whole, [], 0.3, 0.7)
    assert pooled == pytest.approx(whole)


@settings(deadline=None)
@given(three, st.lists(three, min_size=1, max_size=5), st.floats(0, 2), st.floats(0, 2))
def test_pooling_is_log_linear(
    whole: dict[str, float], regions: list[dict[str, float]], a: float, b: float
) -> None:
    pooled = pool(whole, regions, a, b)
    assert pooled is not None
    assert sum(pooled.values()) == pytest.approx(1.0)
    for x, y in (("0", "1"), ("1", "2")):
        mean = sum(math.log(r[x] / r[y]) for r in regions) / len(regions)
        expected = a * math.log(whole[x] / whole[y]) + b * mean
        assert math.log(pooled[x] / pooled[y]) == pytest.approx(expected, abs=1e-6)


def test_one_look_cannot_rule_a_hypothesis_out() -> None:
    pooled = pool({"a": 0.5, "b": 0.5}, [{"a": 1.0, "b": 0.0}, {"a": 0.01, "b": 0.99}], 1.0, 1.0)
    assert pooled is not None
    assert pooled["b"] > 0.01


def test_rank_margin_and_shift() -> None:
    posterior = {"a": 0.2, "b": 0.5, "c": 0.3}
    assert [item.name for item in ranked(posterior)] == ["b", "c", "a"]
    assert margin(posterior) == pytest.approx(0.2)
    assert margin({"only": 1.0}) == 1.0
    assert shift({"a": 1.0}, {"a": 0.4, "b": 0.6}) == pytest.approx(0.6)
