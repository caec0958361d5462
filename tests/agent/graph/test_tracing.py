"""Nobody but the model hears of a slide, also where the surroundings ask for traces to be sent."""

from __future__ import annotations

from pathlib import Path

import agent_fakes as fakes
import pytest
from langsmith import Client, traceable, tracing_context

from agent.session import ask as session


def test_a_run_sends_no_traces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plain_reports: None) -> None:
    sent: list[str] = []
    monkeypatch.setattr(Client, "create_run", lambda self, name, *_, **__: sent.append(name))
    monkeypatch.setattr(session, "open_toolbox", lambda s, m, f, p, _frame: fakes.FakeToolbox(s, m, f))
    client = Client(api_url="http://127.0.0.1:9", api_key="none", auto_batch_tracing=False)
    with tracing_context(enabled=True, client=client):
        traceable(lambda: None, name="by the caller")()
        assert sent == ["by the caller"]
        session.ask(
            fakes.fake_slide(), "Which?", options=fakes.OPTIONS, model=fakes.FakeModel(), out=tmp_path / "run"
        )
    assert sent == ["by the caller"]
