"""An answer that the steps do not support is sent back once, then marked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import agent_fakes as fakes
import pytest

from agent.graph.state import Draft
from agent.navigators.search import SearchNavigator
from agent.run.records import Answer
from agent.session import ask as session
from core_model.slides.box import Box


class Boaster(SearchNavigator):
    """Cites a box that no step showed; takes it back when told, if it is `ready` to."""

    def __init__(self, ready: bool) -> None:
        self.ready, self.told = ready, list[list[str]]()

    def compose(self, state: Any, context: Any, problems: list[str]) -> Draft:
        self.told.append(problems)
        draft = super().compose(state, context, problems)
        if problems and self.ready:
            return draft
        wrong = draft.evidence[0].model_copy(update={"box": Box(0, 0, 5, 5)})
        return draft._replace(evidence=[wrong, *draft.evidence[1:]])


@pytest.mark.parametrize("ready", [True, False])
def test_sent_back_once_then_marked(
    run_agent: Callable[..., list[Any]], monkeypatch: pytest.MonkeyPatch, ready: bool
) -> None:
    boaster = Boaster(ready)
    monkeypatch.setattr(session, "navigator_for", lambda mode: boaster)
    answer = run_agent(options=fakes.OPTIONS)[-1]
    assert isinstance(answer, Answer)
    assert len(boaster.told) == 2
    assert boaster.told[0] == []
    assert "showed box (0, 0, 4000, 3000), not (0, 0, 5, 5)" in boaster.told[1][0]
    run = json.loads((Path(answer.run_dir) / "run.json").read_text())
    assert bool(run["unsupported"]) is not ready
    assert ("Unsupported:" in answer.answer) is not ready
