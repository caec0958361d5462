"""Files of a run folder: whole or not there, and owned by one process at a time."""

from __future__ import annotations

import fcntl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import agent_fakes as fakes
import pytest

from agent.run.folder import append_step, read_trace, rebuild_trace
from agent.run.records import Action, Step
from core_model.atomic import write_text
from core_model.errors import RunError
from tools.records import Observation


def step(index: int) -> Step:
    seen = Observation(tool="zoom", text="Seen – µm.\u2028Second\x0bline.", data={"share": 0.25})
    return Step(
        index=index, action=Action(tool="zoom", args={"box": [1, 2, 3, 4]}), observation=seen, finding="x"
    )


def test_a_trace_reads_back(tmp_path: Path) -> None:
    rebuild_trace(tmp_path, [step(1)])
    append_step(tmp_path, step(2))
    assert read_trace(tmp_path) == [step(1), step(2)]
    rebuild_trace(tmp_path, [step(1)])
    assert read_trace(tmp_path) == [step(1)]
    assert [path.name for path in tmp_path.iterdir()] == ["trace.jsonl"]
    rebuild_trace(tmp_path, [])
    assert read_trace(tmp_path) == []


def test_a_trace_cut_in_a_line_is_an_error_that_names_it(tmp_path: Path) -> None:
    rebuild_trace(tmp_path, [step(1), step(2)])
    whole = (tmp_path / "trace.jsonl").read_text()
    (tmp_path / "trace.jsonl").write_text(whole[:-20])
    with pytest.raises(RunError, match="line 2 is not a step"):
        read_trace(tmp_path)


def test_writing_where_nothing_can_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cannot be written"):
        write_text(tmp_path / "absent" / "a.json", "{}")


def test_a_folder_in_use_is_left_alone(run_agent: Callable[..., list[Any]], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with (folder / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(RunError, match="another process"):
            run_agent(options=fakes.OPTIONS, out=folder)
    assert [path.name for path in folder.iterdir()] == [".lock"]


def test_out_that_is_a_file_is_refused(run_agent: Callable[..., list[Any]], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RunError, match="this is a file"):
        run_agent(options=fakes.OPTIONS, out=tmp_path / "file")
    with pytest.raises(RunError, match="cannot be made"):
        run_agent(options=fakes.OPTIONS, out=tmp_path / "file" / "below")
    assert (tmp_path / "file").read_text() == "mine"
