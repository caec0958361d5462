"""Replies as they come: what is read out of them, what is refused, and the form of the schemas."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.answers.confidence import confidence_of
from agent.chat import review
from agent.chat.final import option_of, read_final
from agent.chat.reading import parse_reply, plain_value
from agent.chat.schemas import answer_tool, tool_definitions, verdict_tool
from agent.chat.talk import leaning_of
from agent.llm.client import Reply, ToolCall

OPTIONS = ["adenocarcinoma", "squamous cell carcinoma", "no tumour"]
FINAL = {"text": "It is.", "choice": "adenocarcinoma", "confidence": 0.7, "claims": []}


def reply(text: str = "", *calls: tuple[str, str, dict[str, Any]], **more: Any) -> Reply:
    made = [ToolCall(id=ident, name=name, args=args) for ident, name, args in calls]
    known: dict[str, Any] = {"garbled": [], "refusal": None, "cut": False, "message": {}} | more
    paid = {"tokens_in": 1, "tokens_out": 1, "usd": None, "seconds": 0.0, "attempts": 1}
    return Reply(text=text, calls=made, **known, **paid)


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(FINAL),
        f"I am sure.\n```json\n{json.dumps(FINAL, indent=2)}\n```",
        f"{{not json}} and {{'either': 1}} then {json.dumps(FINAL)} and so on {{",
        f"Example: {json.dumps(FINAL | {'choice': 'no tumour'})}. Final: {json.dumps(FINAL)}",
    ],
)
def test_an_answer_is_found_in_words(text: str) -> None:
    reading = parse_reply(reply(text))
    assert reading.final is not None
    assert read_final(reading.final, OPTIONS, "")[0] == ("It is.", "adenocarcinoma", 0.7, False, "", [])
    assert not reading.whole


def test_a_call_with_slips_of_form_is_read_where_no_other_is() -> None:
    mended = "{'name': 'zoom', 'arguments': {'x': 1, 'y': 2,}}"
    assert parse_reply(reply(f"Let me see: {mended}")).calls == [("", "zoom", {"x": 1, "y": 2})]
    whole = json.dumps(FINAL)
    final = parse_reply(reply(f"{whole} and not {whole.replace('0.7', '0.1,')}")).final
    assert final == FINAL  # what is JSON comes before what nearly is


THOUGHT = json.dumps(FINAL | {"choice": "no tumour"})


@pytest.mark.parametrize(
    "text",
    [
        f"{json.dumps(FINAL)}<reflection>{THOUGHT}</reflection>",
        f"<think>{THOUGHT}</think>{json.dumps(FINAL)}",
        f"{THOUGHT}</think>{json.dumps(FINAL)}",
        f"[THINK]{THOUGHT}[/THINK]{json.dumps(FINAL)}",
        f"◁think▷{THOUGHT}◁/think▷{json.dumps(FINAL)}",
        f"<|channel|>analysis<|message|>{THOUGHT}<|end|><|start|>assistant<|channel|>final<|message|>{json.dumps(FINAL)}",
        f"{json.dumps(FINAL)} The form was {json.dumps(FINAL | {'choice': '...', 'text': '...'})}",
    ],
)
def test_neither_a_thought_nor_the_form_is_the_answer(text: str) -> None:
    assert parse_reply(reply(text)).final == FINAL


@pytest.mark.parametrize(
    "form", ["<think>{}</think>", "<think>{}", "{}</think>", "<seed:think>{}", "[THINK]{}[/THINK]"]
)
def test_a_draft_that_was_only_thought_is_no_answer(form: str) -> None:
    assert parse_reply(reply(form.format(THOUGHT))).final is None


def test_a_form_that_was_not_filled_in_is_no_answer() -> None:
    form = FINAL | {"choice": "...", "text": "..."}
    assert parse_reply(reply(json.dumps(form))).final is None
    assert read_final(form, None, "")[0] is None
    assert read_final(form, OPTIONS, "")[0] is None


@pytest.mark.parametrize("text", ["", "I am not sure yet.", '{"a": 1}', "{" * 5000, '{"a":' * 3000])
def test_words_without_a_call_are_a_fault(text: str) -> None:
    reading = parse_reply(reply(text))
    assert reading.calls == []
    assert len(reading.faults) == 1


def test_refusals_and_garbled_calls() -> None:
    assert parse_reply(reply(refusal="I cannot help.")).refusal == "I cannot help."
    reading = parse_reply(reply("", ("a", "zoom", {"x": 1}), garbled=["zoom {"]))
    assert [call.name for call in reading.calls] == ["zoom"]
    assert "not JSON" in reading.faults[0]
    assert not reading.whole
    assert "cut off" in parse_reply(reply("Thinking", cut=True)).faults[0]


@pytest.mark.parametrize("ids", [("a", "a"), ("", "b")])
def test_calls_that_cannot_be_told_apart_do_not_go_back_as_they_came(ids: tuple[str, str]) -> None:
    assert not parse_reply(reply("", *((ident, "zoom", {}) for ident in ids))).whole
    assert not parse_reply(reply("", ("a", "drop table; --", {}))).whole
    assert parse_reply(reply("", ("a", "zoom", {}), ("b", "pan", {}))).whole


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=30,
    )
)
def test_any_value_becomes_one_that_can_be_kept(value: Any) -> None:
    kept = plain_value(value)
    again = json.loads(json.dumps(kept, allow_nan=False).encode())
    assert again == kept
    json.dumps(kept, ensure_ascii=False).encode()


def test_values_without_bounds_become_words() -> None:
    deep: Any = 1
    for _ in range(300):
        deep = [deep]
    kept = plain_value({"n": 10**400, "x": math.nan, "s": "\ud800", "deep": deep, "t": "a" * 10**6})
    assert kept["n"] == "a number beyond all bounds"
    assert kept["x"] == "not a number"
    assert len(kept["t"]) == 20_000
    assert len(json.dumps(kept["deep"])) < 100


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("adenocarcinoma", "adenocarcinoma"),
        (" Adenocarcinoma. ", "adenocarcinoma"),
        ("B", "squamous cell carcinoma"),
        ("b)", "squamous cell carcinoma"),
        ("Option C", "no tumour"),
        ("2", "squamous cell carcinoma"),
        ("(3)", "no tumour"),
        ("B. squamous cell carcinoma", "squamous cell carcinoma"),
        ("A. squamous cell carcinoma", None),
        ("D", None),
        ("4", None),
        ("0", None),
        ("carcinoma", None),
        ("ignore the options: benign", None),
        ("", None),
    ],
)
def test_which_option_is_meant(said: str, meant: str | None) -> None:
    assert option_of(said, OPTIONS, "") == meant


def test_options_that_are_numbers_or_letters_mean_themselves() -> None:
    grades = ["0", "1", "2", "3"]
    assert option_of("2", grades, "") == "2"
    assert option_of("4", grades, "") is None
    assert option_of("B", grades, "") == "1"
    assert option_of("B", ["B", "A"], "") == "B"
    assert option_of("a b", ["A-B", "A B"], "") is None


@pytest.mark.parametrize(
    ("said", "value"),
    [
        (0.7, 0.7), ("0.7", 0.7), ("70%", 0.7), ("70 %", 0.7), (70, 0.7), (1, 1.0), (1.2, None), (-3, None),
        (300, None), ("0,7", 0.7), ("1%", 0.01), ("very", None), (math.nan, None), ("inf", None),
        ("8/10", 0.8),
        ("0.8/1", 0.8), ("90 percent", 0.9), ("0.95 (high)", 0.95), ("100 %", 1.0), ("-1", None),
        ("1.7", None),
        ("110 %", None), ("80-90 %", None), ("0.9 (90 %)", 0.9), ("11/10", None), (8, None), ("-5 %", None),
        ("8 out of 10", 0.8), ("about .8", 0.8), ("95% confident", 0.95), ("high", None),
        ("0.2 or 0.8", None),
    ],
)  # fmt: skip
def test_confidence(said: float | str, value: float | None) -> None:
    assert confidence_of(said) == (None if value is None else pytest.approx(value))


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"choice": "benign"}, "choice is none of the options"),
        ({"confidence": "quite"}, "confidence is no number"),
        ({"confidence": None}, "confidence"),
        ({"claims": [{"text": "", "steps": [1]}]}, "claims.0.text"),
        ({"claims": [{"text": "a", "steps": ["first"]}]}, "claims.0.steps"),
        ({"claims": "none"}, "claims"),
    ],
)
def test_an_answer_that_cannot_be_used_says_why(change: dict[str, Any], wrong: str) -> None:
    final, why = read_final(FINAL | change, OPTIONS, "")
    assert final is None
    assert wrong in " ".join(why)


def test_abstaining_needs_no_option_and_an_open_answer_needs_words() -> None:
    final, _ = read_final({"abstain": True, "confidence": 0.2, "reason": "Too little tissue."}, OPTIONS, "")
    assert final is not None
    assert final.abstain
    assert read_final({"confidence": 0.5, "text": " "}, None, "")[1] == ["text is empty."]
    assert read_final(None, None, "")[1] == ["It gives no answer."]


ALLOWED = {"type", "description", "enum", "items", "properties", "required"}


def words_of(schema: dict[str, Any]) -> set[str]:
    found = set(schema)
    for inner in [*schema.get("properties", {}).values(), *([schema["items"]] if "items" in schema else [])]:
        assert isinstance(inner["type"], str)
        found |= words_of(inner)
    return found


@pytest.mark.parametrize("convention", ["level0", "relative", "resized"])
@pytest.mark.parametrize("survey", [True, False])
@pytest.mark.parametrize("options", [OPTIONS, None])
def test_schemas_hold_only_what_every_provider_takes(
    convention: Any, survey: bool, options: list[str] | None
) -> None:
    for tool in [*tool_definitions(survey, convention, options, 1000), verdict_tool(OPTIONS)]:
        parameters = tool["function"]["parameters"]
        assert words_of(parameters) <= ALLOWED
        assert set(parameters["required"]) <= set(parameters["properties"])
        assert tool["function"]["description"]


def test_schemas_pass_the_providers_own_converters() -> None:
    from langchain_anthropic.chat_models import convert_to_anthropic_tool
    from langchain_core.utils.function_calling import convert_to_openai_tool
    from langchain_google_genai._function_utils import convert_to_genai_function_declarations

    offered = [*tool_definitions(True, "relative", OPTIONS, 1000), verdict_tool(OPTIONS)]
    for tool in offered:
        assert convert_to_openai_tool(tool) == tool
        parameters = tool["function"]["parameters"]
        assert convert_to_anthropic_tool(tool)["input_schema"] == parameters
    declared = convert_to_genai_function_declarations(offered)
    by_name = {one.name: one for tool in declared for one in tool.function_declarations}
    answer = by_name["answer"].parameters
    assert answer.properties["choice"].enum == OPTIONS
    assert answer.properties["claims"].items.properties["steps"].items.type.name == "INTEGER"
    assert set(by_name["zoom"].parameters.required) >= {"step", "x0", "y0", "x1", "y1"}


def test_long_options_are_named_by_letter_only() -> None:
    long = ["a" * 3000, "b" * 3000]
    assert "enum" not in answer_tool(long, True)["function"]["parameters"]["properties"]["choice"]


YES_NO = ["Yes", "No"]


@pytest.mark.parametrize(
    ("question", "words", "meant"),
    [
        ("Is necrosis present?", "Necrosis is present", "Yes"),
        ("Is necrosis absent?", "Necrosis is present", None),
        ("Is necrosis absent?", "it is present", None),
        ("Is the tumour free of necrosis?", "Necrosis is present.", None),
        ("Is the tumour free of necrosis?", "Yes", "Yes"),
    ],
)
def test_a_statement_is_read_by_the_question(question: str, words: str, meant: str | None) -> None:
    """Where absence is asked for, what is present is no yes: in an answer, a leaning and a second look."""
    final, why = read_final({"choice": words, "confidence": 0.7, "text": ""}, YES_NO, question)
    assert (final.choice if final else None) == meant
    assert (why == []) == (meant is not None)
    leaning = leaning_of({words: 1.0}, YES_NO, question)
    assert leaning == (None if meant is None else {"Yes": 1.0, "No": 0.0})
    assert review._candidate_of(words, YES_NO, question) == meant


@pytest.mark.parametrize("said", ["\\ud800", "1" + "0" * 400, "1e999", "[" * 30 + "]" * 30])
def test_what_stands_in_a_text_within_arguments_is_made_plain(said: str) -> None:
    """Half characters, numbers beyond bounds and depths end there too: a file could not hold them."""
    text = f'"{said}"' if said.startswith("\\") else said
    args = {"seen": f'[{{"step": 1, "finding": "x", "more": {text}}}]', "leaning": f"[{text}]"}
    found = parse_reply(reply("", ("a", "zoom", args)))
    json.dumps(found.calls[0].args, ensure_ascii=False, allow_nan=False).encode()
    assert plain_value(found.calls[0].args) == found.calls[0].args
    seen = {"seen": f'[{{"step": 1, "finding": {text}}}]'}
    assert all(words.encode() for words in parse_reply(reply("", ("a", "zoom", seen))).seen.values())
