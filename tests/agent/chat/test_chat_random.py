"""Random replies never raise: every run ends in an answer or an abstention, with a trace that can be read."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import chat_fakes as chat
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage

from agent.llm.profiles import ModelProfile
from agent.run.folder import read_trace
from agent.run.records import Answer

NAMES = ["overview", "zoom", "pan", "retrieve", "ask_region", "answer", "verdict", "", "rm -rf", "giant:ask"]
FIELDS = [
    *("x", "y", "w", "h", "x0", "y0", "x1", "y1", "step", "mpp", "box", "direction", "fraction", "text", "k"),
    *("question", "seen", "leaning", "reason", "choice", "confidence", "abstain", "claims"),
]
NUMBERS = (
    st.integers(-(10**20), 10**20) | st.integers(0, 1600) | st.floats(allow_nan=False, allow_infinity=False)
)
WORDS = st.sampled_from(["left", "pink tissue", "B", "85%", "", "step 99", "no tumour", "\ud800"]) | st.text(
    max_size=20
)
SEEN = st.fixed_dictionaries({"step": NUMBERS, "finding": WORDS})
CLAIM = st.fixed_dictionaries({"text": WORDS, "steps": st.lists(NUMBERS | st.integers(1, 4), max_size=3)})
VALUES = NUMBERS | WORDS | st.none() | st.booleans() | st.lists(SEEN | CLAIM | NUMBERS, max_size=3)
ARGS = st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=5), VALUES, max_size=8)
LIKELY = st.sampled_from(
    [
        chat.zoom(100, 100, 200, 200),
        chat.zoom(900, 300, 300, 300),
        chat.answer(),
        ("retrieve", {"text": "pink"}),
    ]
)
CALL = LIKELY | st.tuples(st.sampled_from(NAMES), ARGS)


@st.composite
def replies(draw: st.DrawFn) -> AIMessage:
    kind = draw(st.sampled_from(["calls", "calls", "calls", "text", "json", "refusal", "cut", "garbled"]))
    if kind == "calls":
        wanted = draw(st.lists(CALL, min_size=1, max_size=4))
        ids = draw(st.lists(st.sampled_from(["a", "b", ""]), max_size=len(wanted)))
        return chat.calls(*wanted, text=draw(WORDS), ids=ids)
    if kind == "json":
        return AIMessage(f"Well: {json.dumps(draw(ARGS))}")
    if kind == "refusal":
        return AIMessage("", additional_kwargs={"refusal": draw(WORDS)})
    if kind == "cut":
        return AIMessage(draw(WORDS), response_metadata={"finish_reason": "length"})
    if kind == "garbled":
        bad = {"type": "invalid_tool_call", "name": "zoom", "args": draw(WORDS), "id": "g", "error": None}
        return AIMessage("", invalid_tool_calls=[bad])  # type: ignore[list-item]
    return AIMessage(draw(WORDS))


@pytest.fixture(scope="module", autouse=True)
def _plain() -> Any:
    patch = pytest.MonkeyPatch()
    patch.setitem(sys.modules, "agent.report.pages", SimpleNamespace(write_reports=lambda folder: None))
    chat.bind_tools(patch)
    yield
    patch.undo()


RUNS = {
    "said": st.lists(replies(), min_size=1, max_size=8),
    "steps": st.integers(1, 6),
    "profile": st.sampled_from(["survey", "giant"]),
    "boxes": st.sampled_from(["level0", "relative", "resized"]),
    "parallel": st.booleans(),
    "options": st.sampled_from([chat.OPTIONS, None]),
    "money": st.sampled_from([None, 0.0, 0.02, 1.0]),
}
HEALTH = list(HealthCheck)


@settings(max_examples=20, deadline=None, suppress_health_check=HEALTH, derandomize=True)
@given(**RUNS)
def test_random_replies(**given: Any) -> None:
    check_run(**given)


@pytest.mark.slow
@settings(max_examples=300, deadline=None, suppress_health_check=HEALTH)
@given(**RUNS)
def test_many_random_replies(**given: Any) -> None:
    check_run(**given)


def check_run(
    said: list[AIMessage],
    steps: int,
    profile: str,
    boxes: Any,
    parallel: bool,
    options: list[str] | None,
    money: float | None,
) -> None:
    """One run over these replies, and the laws that it keeps."""
    about = ModelProfile(max_image_px=chat.PX, boxes=boxes, parallel_calls=parallel, max_images=4)
    with tempfile.TemporaryDirectory() as folder:
        ask = chat.asker(Path(folder), pytest.MonkeyPatch())
        given = {"profile": profile, "max_steps": steps, "options": options, "max_cost": money}
        ran = ask(chat.line(*said), about=about, **given)
        trace = read_trace(ran.folder)
        answer = Answer.model_validate_json((ran.folder / "answer.json").read_text())
    assert 1 <= len(trace) <= steps
    assert [step.index for step in trace] == list(range(1, len(trace) + 1))
    assert answer.abstained or answer.options is None or answer.choice in answer.options
    assert 0.0 <= answer.confidence <= 1.0
    assert not answer.abstained or (answer.reason and answer.choice is None)
    assert all(step.posterior is None or abs(sum(step.posterior.values()) - 1) < 1e-6 for step in trace)
    assert len(ran.way.asked) <= 3 * steps + 8
    if money is not None:
        assert (answer.cost.usd or 0.0) <= money
