"""Runs of the agent over the fakes of `agent_fakes.py`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent / "support"))
sys.path.insert(0, str(Path(__file__).parents[1] / "core_model"))  # slide_files, multi_files

import agent_fakes as fakes


@pytest.fixture
def plain_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports have their own tests; here it only matters that they are written from the run folder."""

    def write(folder: Path) -> None:
        (folder / "report.md").write_text((folder / "answer.json").read_text())

    monkeypatch.setitem(sys.modules, "agent.report.pages", SimpleNamespace(write_reports=write))


@pytest.fixture
def run_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plain_reports: None
) -> Callable[..., list[Any]]:
    """Run a question over the fake slide and give back every item of the stream.

    Keyword arguments beside those of `agent.stream`: `slide`, `model`, and `tools` for the fake toolbox.
    """
    from agent.session import ask as session

    monkeypatch.chdir(tmp_path)

    def run(question: str = "Which tissue is it?", **given: Any) -> list[Any]:
        tools = given.pop("tools", {})
        slide = given.pop("slide", None) or fakes.fake_slide()
        given.setdefault("model", fakes.FakeModel())

        def open_toolbox(
            slide: Any, model: Any, folder: Path, progress: Any, frame: Any
        ) -> fakes.FakeToolbox:
            return fakes.FakeToolbox(slide, model, folder, **tools)

        monkeypatch.setattr(session, "open_toolbox", open_toolbox)
        return list(session.stream(slide, question, **given))

    return run
