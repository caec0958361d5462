"""JSON in prose: what is read as it stands, what is mended, and that no text is made to say another thing."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.llm.json_text import mended_objects_in, object_meant, objects_in

FINAL = {"choice": "B", "confidence": 0.7}


@pytest.mark.parametrize(
    ("text", "objects"),
    [
        (json.dumps(FINAL), [FINAL]),
        (f"Sure.\n```json\n{json.dumps(FINAL, indent=2)}\n```", [FINAL]),
        (f'{{not json}} {{"a": 1}} then {json.dumps(FINAL)} and so on {{', [{"a": 1}, FINAL]),
        ('{"outer": {"inner": 1}}', [{"outer": {"inner": 1}}]),
        ('{"a": 1, "a": 2}', [{"a": 2}]),
        ("", []),
        ("no braces", []),
        ("{" * 5000, []),
        ('{"a":' * 3000, []),
    ],
)
def test_objects_that_stand_in_a_text(text: str, objects: list[dict[str, Any]]) -> None:
    assert list(objects_in(text)) == objects


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{'choice': 'B', 'confidence': 0.7}", FINAL),
        ('{"choice": "B", "confidence": 0.7,}', FINAL),
        ('{choice: "B", confidence: 0.70}', FINAL),
        ('{"choice": B, "confidence": .7}', FINAL),
        ("{“choice”: “B”, “confidence”: 0.7}", FINAL),
        ("So I say: {'a': True, 'b': None, 'c': [1, 2,]} and no more.", {"a": True, "b": None, "c": [1, 2]}),
        ('{"text": "one line\nand another", "n": 1}', {"text": "one line\nand another", "n": 1}),
        ('{"text": "he said "yes" to it", "n": 1}', {"text": 'he said "yes" to it', "n": 1}),
        ("{'outer': {'inner': {'n': 1}}}", {"outer": {"inner": {"n": 1}}}),
        ("{'text': 'it's pink', 'n': 1}", {"text": "it's pink", "n": 1}),
    ],
)
def test_slips_of_form_are_mended(text: str, value: dict[str, Any]) -> None:
    assert list(objects_in(text)) == []
    assert list(mended_objects_in(text)) == [value]


@pytest.mark.parametrize(
    "text",
    [
        "The grade (see {fig: 3) is 2.",
        "{see fig: 3}",
        "{not json}",
        "{}",
        "{x}",
        '{"a"}',
        "{'choice': 'B', 'confidence': 0.7",  # cut off: what follows may change it
        "{'choice': 'B', 'confidence': 7",
        "{'text': 'a } b', 'confidence': 1}",  # the brace is not the object's end
        '{"confidence": 1%}',  # without its sign it would be another number
        '{"confidence": <number>}',
        '{"a": , "b": 2}',
        "{'a': 1, 'a': 2}",
        '{"a": 1, // the first\n "b": 2}',
        "{'a': '" + "x" * 30_000 + "'}",
    ],
)
def test_what_a_repair_would_change_is_not_read(text: str) -> None:
    assert list(mended_objects_in(text)) == []


@given(st.text())
def test_a_text_without_json_never_becomes_json(text: str) -> None:
    bare = text.replace("{", "(")
    assert [*objects_in(bare), *mended_objects_in(bare)] == []
    assert list(mended_objects_in(f"{{{bare.replace(':', ';')}}}")) == []


WORDS = st.sampled_from(
    ["a", "it's", "B", "0.5", "70%", "True", "none", '"', "'", "{", "}", "[", "]", ",", ":", "\n"]
)


@given(st.lists(WORDS, max_size=30).map(" ".join))
def test_a_mended_object_says_nothing_that_the_text_does_not(text: str) -> None:
    for value in mended_objects_in(text):
        for leaf in _leaves(value):
            if isinstance(leaf, str):
                assert all(word in text for word in leaf.split())
            elif isinstance(leaf, bool) or leaf is None:
                assert {True: "true", False: "false", None: "none"}[leaf] in text.casefold()
            else:
                assert leaf == 0.5


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(value=st.dictionaries(st.text(), JSON, min_size=1), before=st.text(), after=st.text())
def test_json_is_read_wherever_it_stands(value: dict[str, Any], before: str, after: str) -> None:
    before = before.replace("{", "(")
    assert next(objects_in(f"{before}{json.dumps(value)}{after}")) == value


@given(
    st.dictionaries(
        st.from_regex(r"[a-z]{1,8}", fullmatch=True), st.integers(0, 99) | st.just("text"), min_size=1
    )
)
def test_python_s_own_form_is_mended(value: dict[str, Any]) -> None:
    assert list(mended_objects_in(f"I think: {value!r}.")) == [value]


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for key, item in value.items() for leaf in (key, *_leaves(item))]
    if isinstance(value, list):
        return [leaf for item in value for leaf in _leaves(item)]
    assert not isinstance(value, float) or math.isfinite(value)
    return [value]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ('{"a": [{"x": 1}], "b": 2', {"a": [{"x": 1}], "b": 2}),
        ('{"a": [{"x": 1}, 5', {"a": [{"x": 1}, 5]}),
        ('{"a": {"x": 1}', {"a": {"x": 1}}),
        ('{"a": [1, 2}', {"a": [1, 2]}),
        ("Here: {'a': 1, 'b': 'it is'} as asked.", {"a": 1, "b": "it is"}),
        ('{"a": 1} or {"a": 2}', None),
        ('{"a": "cut in a wo', None),
        ("no object", None),
    ],
)
def test_the_object_that_arguments_are_meant_to_be(text: str, meant: dict[str, Any] | None) -> None:
    assert object_meant(text) == meant


@given(st.dictionaries(st.sampled_from("abc"), st.integers() | st.text(max_size=5) | st.none(), min_size=1))
def test_an_object_that_lost_its_last_bracket_is_the_same(value: dict[str, Any]) -> None:
    assert object_meant(json.dumps(value)[:-1]) == value
