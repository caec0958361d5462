"""What texts claim: never paired as negatives with a region that they fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from training.cohort.texts import Text, attributes_of, fitting, long_text, short_text, told_in_full


@pytest.fixture
def truths(world: Any) -> list[Any]:
    return [truth.describe() for truth in world.cohort.truths.values()]


def test_a_text_fits_the_region_it_was_made_for(truths: list[Any]) -> None:
    rng = np.random.default_rng(0)
    for truth in truths:
        own = attributes_of(truth)
        assert long_text(truth, True, rng).fits(own)
        for _ in range(20):
            assert short_text(truth, rng).fits(own)


def test_regions_alike_share_their_texts_and_others_do_not(truths: list[Any]) -> None:
    regions = [attributes_of(truth) for truth in truths]
    texts = [told_in_full("a report", own) for own in regions]
    fits = fitting(regions, texts)
    for i, a in enumerate(regions):
        assert [bool(v) for v in fits[i]] == [a == b for b in regions]


def test_a_phrase_says_what_it_claims(truths: list[Any]) -> None:
    """A phrase that claims one value of necrosis carries a word of it, and never a word of another."""
    words = {
        "absent": ("no ", "absent", "not "),
        "focal": ("foc", "patchy"),
        "extensive": ("exten", "wide", "conflu", "large"),
    }
    rng = np.random.default_rng(1)
    seen = set()
    for truth in truths * 20:
        text = short_text(truth, rng)
        allowed = text.claims.get("necrosis", frozenset())
        if len(allowed) == 1:
            (value,) = allowed
            seen.add(value)
            assert any(word in text.words.lower() for word in words[value]), text
    assert seen == set(words)


def test_short_texts_also_come_as_the_agent_searches(truths: list[Any]) -> None:
    rng = np.random.default_rng(2)
    texts = [short_text(truth, rng).words for truth in truths * 10]
    assert any(": extensive" in words for words in texts)
    assert any(words.lower() in ("necrosis", "any necrosis?", "tumour", "tumor") for words in texts)


def test_an_unnamed_attribute_may_be_anything() -> None:
    assert Text("necrosis", {"necrosis": frozenset(["focal", "extensive"])}).fits(
        {"necrosis": "focal", "x": "y"}
    )
    assert not Text("necrosis", {"necrosis": frozenset(["focal"])}).fits({"x": "y"})
