"""The command line as a user and a script meet it."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from cli_fakes import FIELDS, PaintModel, giant, one_line, only_json, paint

ROOT = Path(__file__).resolve().parents[3]
ASK = ("--option", "purple", "--option", "pink", "--mpp", "2")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIANT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("core_model.models.wsi_llava.load_model", lambda *_, **__: PaintModel())


def test_json_is_one_object_with_the_fields_that_scripts_read(tmp_path: Path) -> None:
    result = giant("ask", paint(tmp_path / "a.png"), "Which?", *ASK, "--json")
    answer = only_json(result)
    assert set(answer) == FIELDS
    assert answer["choice"] == "purple"
    assert set(answer["evidence"][0]) == {"step", "tool", "box", "mpp", "finding", "image"}
    assert set(answer["slide"]) == {"id", "width", "height", "mpp", "mpp_source", "warnings"}
    assert set(answer["cost"]) == {"seconds", "regions", "pixels", "tokens_in", "tokens_out", "calls", "usd"}
    assert (Path(answer["run_dir"]) / "report.html").is_file()


def test_steps_go_to_stderr_and_the_answer_to_stdout(tmp_path: Path) -> None:
    result = giant("ask", paint(tmp_path / "a.png"), "Which?", *ASK, "--out", tmp_path / "run")
    assert result.exit_code == 0
    assert result.stdout.startswith("Purple, confidence ")
    assert f"Report: {tmp_path / 'run' / 'report.html'}" in result.stdout
    assert "Not for diagnosis" in result.stdout
    assert "overview" in result.stderr
    assert "ask region" in result.stderr


def test_quiet_says_nothing_but_the_answer(tmp_path: Path) -> None:
    result = giant("ask", paint(tmp_path / "a.png"), "Which?", *ASK, "--quiet")
    assert result.stderr == ""
    assert "purple" in result.stdout


def test_texts_are_not_read_as_markup(tmp_path: Path) -> None:
    options = ("--option", "[bold]x[/bold]", "--option", "[/]", "--mpp", "2")
    result = giant("ask", paint(tmp_path / "a.png"), "Which?", *options)
    assert result.exit_code == 0
    assert "[bold]x[/bold]" in result.stdout


def test_resume_of_a_finished_run_gives_its_answer_again(tmp_path: Path) -> None:
    slide, out = paint(tmp_path / "a.png"), tmp_path / "run"
    first = only_json(giant("ask", slide, "Which?", *ASK, "--out", out, "--json"))
    assert "--resume" in one_line(giant("ask", slide, "Which?", *ASK, "--out", out))
    again = only_json(giant("ask", slide, "Which?", *ASK, "--out", out, "--resume", "--json"))
    assert again["choice"] == first["choice"]
    assert again["evidence"] == first["evidence"]


@pytest.mark.parametrize("step", [1, 2])
def test_interrupting_says_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    from tools.toolbox import Toolbox

    made, call = [], Toolbox.call

    def interrupted(toolbox: Any, name: str, args: dict[str, Any]) -> Any:
        made.append(name)
        if len(made) == step:
            raise KeyboardInterrupt
        return call(toolbox, name, args)

    question = ("ask", paint(tmp_path / "a.png"), "Which?", *ASK, "--out", "run", "--quiet")
    monkeypatch.setattr(Toolbox, "call", interrupted)
    result = giant(*question)
    assert result.exit_code == 130
    line = one_line(result)
    assert ("the run is kept in" in line and "--resume" in line) == (step > 1)
    assert ("before anything was kept" in line) == (step == 1)
    assert giant(*question, *(["--resume"] if step > 1 else [])).exit_code == 0  # what it said is true


def test_interrupting_before_there_is_a_run_does_not_say_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from core_model.models import wsi_llava

    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(wsi_llava, "load_model", interrupted)
    slide = paint(tmp_path / "a.png")
    result = giant("ask", slide, "Which?", *ASK)
    assert (result.exit_code, "--resume" in one_line(result)) == (130, False)
    assert not Path("giant-runs").exists()


@pytest.mark.parametrize("kept", [False, True])
def test_other_commands_say_what_is_kept(kept: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from agent.session import models

    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(models, "quieten_libraries", interrupted)
    if kept:
        Path("out").mkdir()
        Path("out", "reports.jsonl").touch()
    for call in (
        ("report", "a.png", "--out", "out"),
        ("eval", "generic", "--data", "a.csv", "--out", "out"),
        ("eval", "--out", "out", "--data", "a.csv", "generic"),
    ):
        result = giant(*call)
        assert result.exit_code == 130
        assert ("--resume" in one_line(result)) == kept, call


def test_what_cannot_be_resumed_does_not_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from agent.cli import doctor

    def interrupted() -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(doctor, "examine", interrupted)
    result = giant("doctor")
    assert result.exit_code == 130
    assert one_line(result) == "giant: interrupted"


def test_a_bug_keeps_its_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from agent.session import ask as session

    monkeypatch.setattr(session, "stream_with", lambda *_, **__: [][0])
    assert isinstance(giant("ask", paint(tmp_path / "a.png"), "Which?", *ASK).exception, IndexError)


def test_a_disk_that_takes_no_more_is_one_line_whoever_meets_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agent.session import ask as session

    def meet(*_: Any, **__: Any) -> Any:
        raise RuntimeError("Can't write data (file write failed: errno = 28, error message = '')")

    monkeypatch.setattr(session, "stream_with", meet)
    result = giant("ask", paint(tmp_path / "a.png"), "Which?", *ASK)
    assert result.exit_code == 1
    assert one_line(result).startswith("giant: the disk is full. Make room")


def test_a_broken_part_is_named_when_its_command_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata

    broken = EntryPoint("training", "no_such_module_of_ours.cli:register", "giant.commands")
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **_: [broken])
    assert giant("--help").exit_code == 0
    result = giant("train", "all")
    assert result.exit_code == 1
    line = one_line(result)
    assert "'training'" in line
    assert "no_such_module_of_ours" in line


def test_commands_of_other_packages_are_added(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata

    added = EntryPoint("eval", "eval.cli:register", "giant.commands")
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **_: [added])
    assert "eval" in giant("--help").stdout
    assert "there is no bench 'x'" in one_line(giant("bench", "x"))


def test_an_unknown_command_is_wrong_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata

    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **_: [])
    result = giant("nonsense")
    assert result.exit_code == 2
    assert "No such command" in result.stderr


def test_the_version_is_told_and_the_module_is_the_command() -> None:
    from importlib.metadata import version

    done = subprocess.run(
        [sys.executable, "-m", "agent", "--version"], capture_output=True, text=True, cwd=ROOT
    )
    assert (done.returncode, done.stdout.strip()) == (0, version("giant-pathology")), done.stderr


@pytest.mark.parametrize("args", [["--help"], ["ask", "--help"], ["report", "--help"]])
def test_help_loads_nothing_heavy(args: list[str]) -> None:
    """In a fresh process, with the real entry points of the checkout."""
    code = (
        "import sys; sys.argv = ['giant', *sys.argv[1:]]\n"
        "from agent.cli.app import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "heavy = {'torch', 'transformers', 'numpy', 'PIL', 'langgraph', 'jinja2'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "Usage: giant" in done.stdout
