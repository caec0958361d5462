"""Calls in all the forms in which models write them, read as the one call that they mean, or not at all."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent.chat.arguments import box_in_fields
from agent.chat.reading import parse_reply
from agent.llm.client import Reply, ToolCall


def reply(text: str, *calls: tuple[str, str, dict[str, Any]], cut: bool = False) -> Reply:
    made = [ToolCall(id=ident, name=name, args=args) for ident, name, args in calls]
    paid = {"tokens_in": 1, "tokens_out": 1, "usd": None, "seconds": 0.0, "attempts": 1}
    return Reply(text=text, calls=made, garbled=[], refusal=None, cut=cut, message={}, **paid)


ARGS = {"x": 10, "y": 20, "w": 300, "h": 400, "reason": "To see (more)."}
JSON = json.dumps(ARGS)
CALL = json.dumps({"name": "zoom", "arguments": ARGS})
PYTHON = 'x=10, y=20, w=300, h=400, reason="To see (more)."'

WRITTEN = {
    "Qwen, Hermes": f"I look.\n<tool_call>\n{CALL}\n</tool_call>",
    "Qwen without the end": f"<tool_call>{CALL}",
    "Hermes, a lost brace": f"<tool_call>{CALL[:-1]}</tool_call>",
    "Hermes, single quotes": f"<tool_call>{ {'name': 'zoom', 'arguments': ARGS} }</tool_call>",
    "Hermes, a text": f"<tool_call>{json.dumps({'name': 'zoom', 'arguments': JSON})}</tool_call>",
    "Qwen-Coder": "<tool_call><function=zoom>"
    + "".join(f"<parameter={key}>\n{value}\n</parameter>" for key, value in ARGS.items())
    + "</function></tool_call>",
    "GLM": "<tool_call>zoom\n"
    + "".join(f"<arg_key>{key}</arg_key>\n<arg_value>{value}</arg_value>\n" for key, value in ARGS.items())
    + "</tool_call>",
    "Mistral": f"[TOOL_CALLS] [{CALL}]",
    "Mistral, lately": f"[TOOL_CALLS]zoom{JSON}",
    "Mistral with ARGS": f"[TOOL_CALLS]zoom[ARGS]{JSON}",
    "Llama": f"<function=zoom>{JSON}</function>",
    "Llama, Python": f"[zoom({PYTHON})]",
    "Llama, a tag": f"<|python_tag|>{json.dumps({'name': 'zoom', 'parameters': ARGS})}",
    "Llama, a call": f"<|python_tag|>zoom.call({PYTHON})",
    "Action": f"Thought: I look.\nAction: zoom({PYTHON})",
    "Action with JSON": f"Action: zoom({JSON})",
    "ReAct": f"Thought: I look.\nAction: zoom\nAction Input: {JSON}\nObservation:",
    "ReAct in bold": f"**Action:** `zoom`\n**Action Input:** {JSON}",
    "fenced": f"```json\n{CALL}\n```",
    "fenced, flat": f"```json\n{json.dumps({'tool': 'zoom', **ARGS})}\n```",
    "fenced, action": f"```json\n{json.dumps({'action': 'zoom', 'action_input': ARGS})}\n```",
    "OpenAI's own": json.dumps({"tool_calls": [{"function": {"name": "zoom", "arguments": JSON}}]}),
    "by its name": json.dumps({"zoom": ARGS}),
    "with a prefix": json.dumps({"name": "functions.zoom", "arguments": ARGS}),
    "Gemma": f"```tool_code\nprint(default_api.zoom({PYTHON}))\n```",
    "gpt-oss": f"<|channel|>commentary to=functions.zoom <|constrain|>json<|message|>{JSON}<|call|>",
    "DeepSeek": f"<|tool▁call▁begin|>function<|tool▁sep|>zoom\n```json\n{JSON}\n```<|tool▁call▁end|>",
    "Kimi": f"<|tool_call_begin|>functions.zoom:0<|tool_call_argument_begin|>{JSON}<|tool_call_end|>",
    "Claude": '<invoke name="zoom">'
    + "".join(f'<parameter name="{key}">{value}</parameter>' for key, value in ARGS.items())
    + "</invoke>",
    "thought before": f"<think>zoom(x=1, y=1, w=1, h=1)</think>\nAction: zoom({PYTHON})",
}


@pytest.mark.parametrize("text", WRITTEN.values(), ids=WRITTEN.keys())
def test_a_call_in_words_is_understood(text: str) -> None:
    assert parse_reply(reply(text)).calls == [("", "zoom", ARGS)]


@pytest.mark.parametrize(
    "text",
    [
        "I would zoom (2x) into the left part, then answer (if sure).",
        "Zoom is a tool. Its x, y, w and h say where.",
        "Action: none needed so far",
        "The answer: it is unclear.",
        "exec(command='rm')",
        "Action: zoom(200, 300)",
        "Action: zoom(x=open('f'), y=2)",
    ],
)
def test_prose_is_no_call(text: str) -> None:
    assert parse_reply(reply(text)).calls == []


def test_a_call_that_was_cut_off_is_none() -> None:
    text = f"Action: zoom\nAction Input: {JSON[:-30]}"
    assert parse_reply(reply(text, cut=True)).calls == []
    assert parse_reply(reply(f"<tool_call>{CALL[:-30]}", cut=True)).calls == []


def test_marked_calls_are_all_read() -> None:
    text = f"<tool_call>{CALL}</tool_call>\n<tool_call>{CALL.replace('10', '11')}</tool_call>"
    assert [call.args["x"] for call in parse_reply(reply(text)).calls] == [10, 11]


SEEN, LEANING = [{"step": 1, "finding": "Pink."}], [{"answer": "pink", "probability": 0.7}]


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (
            {"x": "1,200", "y": " 8 px", "w": "3e2", "mpp": "0.5 µm/px"},
            {"x": 1200, "y": 8, "w": "3e2", "mpp": 0.5},
        ),
        ({"x": 1, "mpp": None, "k": "null", "step": ""}, {"x": 1}),
        ({"step": "Step 3"}, {"step": 3}),
        ({"arguments": {"x": 1}}, {"x": 1}),
        ({"zoom": json.dumps({"x": 1})}, {"x": 1}),
        ({"name": "zoom", "arguments": {"x": 1}}, {"x": 1}),
        ({"seen": json.dumps(SEEN)}, {"seen": SEEN}),
        ({"seen": str(SEEN)}, {"seen": SEEN}),
        ({"seen": SEEN[0]}, {"seen": SEEN}),
        ({"seen": {"1": "Pink."}}, {"seen": SEEN}),
        ({"seen": [json.dumps(SEEN[0])]}, {"seen": SEEN}),
        ({"leaning": {"pink": "0.7"}}, {"leaning": LEANING}),
        (
            {"claims": [{"text": "Pink.", "steps": ["1", "step 2"]}]},
            {"claims": [{"text": "Pink.", "steps": [1, 2]}]},
        ),
        ({"text": "null and void", "x": "left"}, {"text": "null and void", "x": "left"}),
    ],
)
def test_values_are_what_was_meant(given: dict[str, Any], meant: dict[str, Any]) -> None:
    assert parse_reply(reply("", ("a", "zoom", given))).calls == [("a", "zoom", meant)]


@pytest.mark.parametrize(
    ("given", "fields", "meant"),
    [
        ({"box": [1, 2, 3, 4]}, "xywh", {"x": 1, "y": 2, "w": 3, "h": 4}),
        ({"box": "[1, 2, 3, 4]"}, "xywh", {"x": 1, "y": 2, "w": 3, "h": 4}),
        ({"box": {"x": 1, "y": 2, "width": 3, "height": 4}}, "xywh", {"x": 1, "y": 2, "w": 3, "h": 4}),
        ({"x": 1, "y": 2, "width": 3, "height": 4}, "xywh", {"x": 1, "y": 2, "w": 3, "h": 4}),
    ],
)
def test_a_box_in_one_value(given: dict[str, Any], fields: str, meant: dict[str, Any]) -> None:
    found = box_in_fields(given, tuple(fields))
    assert {name: found.get(name) for name in fields} == meant


def test_a_box_that_could_be_two_is_left_alone() -> None:
    for given in ({"bbox_2d": [1, 2, 3, 4]}, {"bbox": [1, 2, 3, 4]}, {"box": [1, 2, 3]}):
        assert box_in_fields(given, ("x", "y", "w", "h")) == given
