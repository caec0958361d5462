"""Calls that cannot mean anything are refused in one line, before anything is opened or written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import agent
from core_model.errors import UsageError


@pytest.mark.parametrize(
    ("question", "options", "says"),
    [
        ("", {}, "empty"),
        (" \n\t", {}, "empty"),
        ("x" * 10_001, {}, "10,001 characters"),
        ("grade\udcff?", {}, "not valid UTF-8"),
        ("grade?", {"options": ["a", "b\udcff"]}, "not valid UTF-8"),
        ("grade?", {"options": ["yes"]}, "no choice"),
        ("grade?", {"options": ["yes", "no", "yes"]}, "'yes' is given twice"),
        ("grade?", {"options": ["Yes", " yes "]}, "twice"),
        ("grade?", {"options": ["yes", " "]}, "option is empty"),
        ("grade?", {"options": ["yes", "n" * 1001]}, "too long"),
        ("grade?", {"max_steps": 0}, "0 steps"),
        ("grade?", {"max_steps": -3}, "-3 steps"),
        ("grade?", {"mpp": 0.0}, "µm/px"),
        ("grade?", {"mpp": 25.0}, "µm/px"),
        ("grade?", {"mpp": float("nan")}, "µm/px"),
        ("grade?", {"max_cost": -1.0}, "spending limit"),
        ("grade?", {"mode": "thumbnail"}, "modes agent and slide"),
        ("grade?", {"mode": "joint"}, "modes agent and slide"),
        ("grade?", {"navigator": "chat"}, "search navigator"),
        ("grade?", {"model": "openai:gpt-5"}, "local model"),
        ("grade?", {"base_url": "http://127.0.0.1:1"}, "local model"),
    ],
)
def test_refused(
    question: str, options: dict[str, Any], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=says) as refused:
        agent.stream(tmp_path / "absent.svs", question, **options)  # at once, not when iterated
    assert "\n" not in str(refused.value)
    assert refused.value.exit_code == 2
    assert list(tmp_path.iterdir()) == []
