"""An interrupted run goes on with another budget, and replays with the budget that each decision had."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cli_fakes import PaintModel, giant, one_line, only_json, paint

from agent.replay.follow import follow_again
from agent.run.folder import read_run, read_trace
from tools.toolbox import Toolbox

OPTIONS = ("--option", "purple", "--option", "pink", "--mpp", "2", "--out", "run")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIANT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("core_model.models.wsi_llava.load_model", lambda *_, **__: PaintModel())


def stopped_at(step: int, monkeypatch: pytest.MonkeyPatch, *more: str) -> None:
    """A run that somebody interrupts in a step."""
    with monkeypatch.context() as patch:
        made, call = [], Toolbox.call

        def interrupted(toolbox: Any, name: str, args: dict[str, Any]) -> Any:
            made.append(name)
            if len(made) == step:
                raise KeyboardInterrupt
            return call(toolbox, name, args)

        patch.setattr(Toolbox, "call", interrupted)
        assert giant("ask", paint(Path("a.png")), "Which?", *OPTIONS, *more).exit_code == 130


def resumed(*more: str) -> Any:
    return giant("ask", "a.png", "Which?", *OPTIONS, "--resume", *more)


@pytest.mark.parametrize(("before", "after"), [(3, 6), (6, 3), (4, 1)])
def test_the_budget_of_steps_may_change(monkeypatch: pytest.MonkeyPatch, before: int, after: int) -> None:
    stopped_at(3, monkeypatch, "--max-steps", str(before))
    answer = only_json(resumed("--max-steps", str(after), "--json"))
    assert answer["steps"] == len(read_trace(Path("run")))
    assert answer["steps"] <= max(after, 3)
    if after > before:
        assert answer["steps"] > before
    record = read_run(Path("run"))
    assert record.settings.max_steps == after
    assert [change.model_dump() for change in record.changes] == [
        {"name": "--max-steps", "was": before, "now": after}
    ]
    again = follow_again(Path("run"))
    assert (again.problems, [file.file for file in again.files if file.differs]) == ([], [])


def test_every_other_difference_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped_at(3, monkeypatch)
    line = one_line(resumed("--max-steps", "5", "--seed", "7", "--mode", "slide"))
    assert "the seed was 0 and is 7" in line
    assert "--mode was 'agent' and is 'slide'" in line
    assert "--max-steps was" not in line
    assert read_run(Path("run")).changes == []
