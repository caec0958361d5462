"""The bench of the agent's own cost: it runs what it says, and tells it in figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.run.folder import read_trace
from agent.run.records import Answer
from eval.bench.agent_steps import measure_steps, steps_table


@pytest.mark.parametrize("profile", ["survey", "giant"])
def test_every_step_is_measured(tmp_path: Path, profile: str) -> None:
    run = measure_steps(profile, tmp_path, steps=12)
    assert run.steps == len(read_trace(tmp_path)) == 12
    assert 0 < run.median_ms <= run.worst_ms
    assert run.folder_mb > 0
    answer = Answer.model_validate_json((tmp_path / "answer.json").read_text())
    assert answer.choice == "tumour"
    assert steps_table([run]).row_count == 1
