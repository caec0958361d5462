"""A run killed with SIGKILL, at any step and between steps, resumes to the answer of an unbroken run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

STEPS = 8
WAYS = {
    "closed": [
        *(("tool", moment, n) for n in range(1, STEPS + 1) for moment in ("before", "after")),
        *(("checkpoint", moment, n) for n in (1, 2, 3, 10, 3 * STEPS) for moment in ("before", "after")),
        ("report", "", 0),
    ],
    "open": [("tool", "after", n) for n in (2, 5, 6)],
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """Every way to die, done once: the folder of all runs, and how each went."""
    root = tmp_path_factory.mktemp("killed")
    script = Path(__file__).parents[1] / "support" / "kill_runs.py"
    done = subprocess.run(
        [sys.executable, str(script), str(root), json.dumps(WAYS)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).resolve().parents[3],
        env={**os.environ, "PYTHONPATH": ".", "LANGGRAPH_STRICT_MSGPACK": "true"},
    )
    assert done.returncode == 0, done.stderr
    return root, [json.loads(line) for line in done.stdout.splitlines()]


def answer_of(folder: Path) -> dict[str, Any]:
    answer = json.loads((folder / "answer.json").read_text())
    answer["cost"].pop("seconds")
    answer.pop("run_dir")
    return answer


def trace_of(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "trace.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


@pytest.mark.parametrize("kind", ["closed", "open"])
def test_resumed_run_is_the_unbroken_run(runs: tuple[Path, list[dict[str, Any]]], kind: str) -> None:
    root, everything = runs
    unbroken, *killed = [run for run in everything if run["kind"] == kind]
    whole = root / kind / "unbroken"
    assert unbroken["calls"] == len(trace_of(whole)) == STEPS
    assert len(killed) == len(WAYS[kind])
    for run in killed:
        folder = root / kind / run["way"]
        assert run["signal"] == signal.SIGKILL, run
        assert answer_of(folder) == answer_of(whole), run
        assert trace_of(folder) == trace_of(whole), run
        assert json.loads((folder / "run.json").read_text())["status"] == "finished"
        images = {path.name: path.read_bytes() for path in (folder / "regions").iterdir()}
        assert images == {path.name: path.read_bytes() for path in (whole / "regions").iterdir()}


def test_a_resumed_run_repeats_no_finished_call(runs: tuple[Path, list[dict[str, Any]]]) -> None:
    for run in runs[1]:
        way = run["way"] or ""
        if way.startswith("tool"):  # only the call in flight is made again
            assert run["calls"] == STEPS - run["number"] + 1, run
        elif way.startswith("report"):
            assert run["calls"] == 0, run
