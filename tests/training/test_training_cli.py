"""The training commands as a user calls them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from core_model.errors import CohortError, UsageError
from training.cli import register


@pytest.fixture
def app() -> typer.Typer:
    made = typer.Typer()
    register(made)
    return made


def test_help_names_every_command(app: typer.Typer) -> None:
    told = CliRunner().invoke(app, ["train", "--help"]).output
    assert all(name in told for name in ("all", "tiles", "language", "stage1", "stage2", "stage3"))
    one = CliRunner().invoke(app, ["train", "stage2", "--help"], env={"COLUMNS": "200"}).output
    assert all(option in one for option in ("--recipe", "--data", "--out", "--resume", "--set"))


def test_registering_imports_nothing_heavy() -> None:
    code = (
        "import sys, typer; from training.cli import register; register(typer.Typer());"
        "heavy = {'torch', 'numpy', 'transformers', 'rich.progress'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).resolve().parents[2])


def test_wrong_calls_are_usage_errors(app: typer.Typer, tmp_path: Path) -> None:
    def call(*words: str) -> BaseException | None:
        return (
            CliRunner().invoke(app, ["train", "all", "--data", str(tmp_path), "--out", "o", *words]).exception
        )

    assert isinstance(call("--recipe", "huge"), UsageError)
    assert isinstance(call("--recipe", "tiny", "--set", "stage1.speed=3"), UsageError)
    assert isinstance(call("--recipe", "tiny"), CohortError)  # an empty folder is no cohort


def test_phantom_demo_writes_one_slide(
    app: typer.Typer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training.phantom import cohort

    made = []
    monkeypatch.setattr(cohort, "write_demo_slide", lambda path, seed: made.append((path, seed)))
    done = CliRunner().invoke(app, ["phantom", "--demo", "--out", str(tmp_path / "demo"), "--seed", "20"])
    assert done.exit_code == 0, done.output
    assert made == [(tmp_path / "demo/slide.tiff", 20)]
    assert str(tmp_path / "demo/slide.tiff") in done.output.replace("\n", "")
