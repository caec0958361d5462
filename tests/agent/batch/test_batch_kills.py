"""A driver killed without grace at any moment: the resumed batch reports every slide exactly once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from batch_jobs import dab

SLIDES = ("a", "b", "c")
WAYS: list[tuple[str, str, int]] = [
    *[("tool", "before", 1), ("tool", "after", 5)],
    *[("begun", "after", 2), ("pages", "after", 1), ("manifest", "before", 2), ("manifest", "after", 1)],
    *[("index", "after", 2), ("index", "before", 4)],
]

SUPPORT = Path(__file__).parents[1] / "support"


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    root = tmp_path_factory.mktemp("kills")
    slides = [
        str(dab(root / f"{name}.png", share)) for name, share in zip(SLIDES, (0.9, 0.1, 0.5), strict=True)
    ]
    script = SUPPORT / "batch_kills.py"
    environment = os.environ | {"GIANT_CACHE": str(root / "cache"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, script, root, json.dumps(slides), json.dumps(WAYS)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_every_slide_is_reported_exactly_once(killed: list[dict[str, Any]]) -> None:
    unbroken, *broken = killed
    assert unbroken["signal"] == 0
    assert unbroken["before"] == list(SLIDES)
    assert [tuple(one["way"]) for one in broken] == WAYS
    wanted = reports(unbroken)
    for one in broken:
        assert one["signal"] == signal.SIGKILL, one["way"]
        assert reports(one) == wanted, one["way"]


def reports(one: dict[str, Any]) -> list[dict[str, Any]]:
    """The lines of `reports.jsonl` without the time they took."""
    lines = (Path(one["out"]) / "reports.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    for report in found:
        report["cost"].pop("seconds")
    return found


def test_what_was_complete_is_not_done_again(killed: list[dict[str, Any]]) -> None:
    unbroken, *broken = killed
    assert unbroken["again"] == []
    for one in broken:
        place, moment, number = one["way"]
        begun = {
            "tool": 0,
            "begun": 1,
            "pages": 0,
            "manifest": number - (moment == "before"),
            "index": number,
        }
        if place == "tool":
            assert len(one["again"]) >= 1
            continue
        complete = min(begun[place], len(SLIDES))
        assert one["again"] == list(SLIDES[complete:]), one["way"]
        assert set(one["before"]) <= set(SLIDES[:complete]), one["way"]


def test_a_killed_driver_leaves_no_worker(tmp_path: Path) -> None:
    """Else the resumed batch would meet a stranger who still writes."""
    script = (
        "import sys, time; sys.path.insert(0, sys.argv[1]); import batch_jobs\n"
        "from agent.batch.workers import *\n"
        "if __name__ == '__main__':\n"
        "    for event in in_processes(time.sleep, [600, 600], 2): print(event, flush=True)\n"
    )
    (tmp_path / "driver.py").write_text(script)
    driver = subprocess.Popen(
        [sys.executable, tmp_path / "driver.py", SUPPORT],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert driver.stdout is not None
    with driver.stdout:
        assert [driver.stdout.readline()[:7] for _ in range(2)] == ["Started"] * 2
        workers = psutil.Process(driver.pid).children()
        assert len(workers) >= 2  # and multiprocessing's own helper
        driver.kill()
        driver.wait()
        assert psutil.wait_procs(workers, timeout=300)[1] == []
