"""Files of a run folder: whole or not there, and owned by one process at a time."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import agent_fakes as fakes
import pytest

from agent.run.folder import (
    append_step,
    choose_folder,
    give_back,
    open_run,
    read_trace,
    rebuild_trace,
)
from agent.run.records import Action, ModelRecord, RunRecord, Settings, SlideRecord, Step
from core_model.errors import NoTissue, RunError
from core_model.files import write_text
from core_model.slides.box import Box
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


def about(name: str = "slide") -> RunRecord:
    """A question about a slide."""
    return RunRecord(
        id="1", giant="0", question="What is it?", options=None, seed=0, slide_model=None,
        model=ModelRecord(name="m", version="1", fingerprint="f"),
        slide=SlideRecord(id="s", width=10, height=10, mpp=0.5, name=name, mpp_source="user",
                          bounds=Box(0, 0, 10, 10), tissue_mm2=None),
        settings=Settings(mode="agent", navigator="search", max_steps=4),
    )  # fmt: skip


def test_runs_that_start_at_once_have_a_folder_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them choose before any has begun, and some slides have no tissue."""
    monkeypatch.chdir(tmp_path)
    chosen: list[Path] = []
    start = threading.Barrier(8)

    def choose() -> None:
        start.wait()
        chosen.append(choose_folder(about(), None, resume=False))

    threads = [threading.Thread(target=choose) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(chosen)) == 8
    with open_run(chosen[0], about(), resume=False), open_run(chosen[1], about(), resume=False):
        assert (chosen[0] / "run.json").is_file()
    with pytest.raises(NoTissue), open_run(chosen[2], about(), resume=False):
        raise NoTissue("blank")
    for folder in chosen[3:]:
        give_back(folder)
    assert sorted(tmp_path.glob("giant-runs/*")) == sorted(chosen[:2])
    last = max(chosen[:2], key=lambda folder: (len(folder.name), folder.name))
    assert choose_folder(about(), None, resume=True) == last, "the last that holds a run"
    assert choose_folder(about("other"), None, resume=True).name.startswith("other-")
    assert len(list(tmp_path.glob("giant-runs/*"))) == 2, "to look for a run makes no folder"


def test_the_last_run_is_found_where_numbers_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folders = [choose_folder(about(), None, resume=False) for _ in range(11)]
    for number in (0, 1, 9):
        with open_run(folders[number], about(), resume=False):
            pass
    for folder in folders[2:9]:
        give_back(folder)
    assert choose_folder(about(), None, resume=True) == folders[9], "10 comes after 2"


@pytest.mark.parametrize("default", [True, False])
def test_a_run_that_cannot_begin_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, default: bool
) -> None:
    monkeypatch.chdir(tmp_path)

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    for target in ("core_model.files.os.fsync", "core_model.files._acquired"):
        folder = choose_folder(about(), None if default else tmp_path / "out", resume=False)
        with monkeypatch.context() as broken:
            broken.setattr(target, refuse)
            with pytest.raises(RunError, match="Read-only"), open_run(folder, about(), resume=False):
                raise AssertionError("begun")
        assert not list(tmp_path.iterdir()) or not default
        assert not folder.exists() or not list(folder.iterdir())
