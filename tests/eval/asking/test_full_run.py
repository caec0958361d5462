"""A whole evaluation by a scripted chat model in every mode, killed at random points: one result for each."""

from __future__ import annotations

import csv
import json
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import eval_runs as runs
import pytest
from chat_server import ChatServer

from agent.session.options import AskOptions
from eval.asking.results import RESULTS, Result, read_results
from eval.asking.runner import ask_all
from eval.benchmarks.questions import Question
from eval.benchmarks.registry import load_benchmark
from eval.scores.scoring import SUMMARY, score_folder


def table_of(path: Path, whole: Path, tasks: int) -> Path:
    """The first question of each of the first tasks of MultiPathQA."""
    counts: Counter[str] = Counter()
    with whole.open(newline="") as file, path.open("w", newline="") as out:
        rows = csv.DictReader(file)
        table = csv.DictWriter(out, rows.fieldnames or ())
        table.writeheader()
        for row in rows:
            counts[row["benchmark_name"]] += 1
            if counts[row["benchmark_name"]] == 1 and len(counts) <= tasks:
                table.writerow(row)
    return path


def killed(
    root: Path, url: str, table: Path, deaths: list[int], modes: Sequence[str] = runs.CHAT
) -> list[dict[str, Any]]:
    """Start, kill, resume; what each child came to."""
    command = [sys.executable, runs.__file__, str(root), url, str(table), ",".join(modes)]
    done = subprocess.run([*command, json.dumps(deaths)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["ended"] for line in lines] == [signal.SIGKILL] * len(deaths) + [0]
    return lines


def check(root: Path, questions: list[Question], server: ChatServer, deaths: int) -> list[Result]:
    """One result for each question and mode, and no reply paid for again but those that a death took."""
    results = read_results(root / "out" / RESULTS)
    keys = [result.key for result in results]
    assert keys == [(*question.key, mode) for question in questions for mode in runs.CHAT]
    assert len((root / "out" / RESULTS).read_text().splitlines()) == len(keys)
    assert not [result for result in results if result.error]
    sent = server.completed()
    assert sum(result.calls for result in results) == len(set(sent))
    assert len(sent) - len(set(sent)) <= deaths
    assert not (root / "out" / "runs").exists()
    return results


def plain(found: list[Result]) -> list[dict[str, Any]]:
    """Results without what differs from run to run."""
    return [result.model_dump(exclude={"seconds"}) for result in found]


@pytest.mark.parametrize(
    ("tasks", "deaths"),
    [
        pytest.param(1, [1, 41], id="short"),
        pytest.param(5, [1, 2, 162, 68, 192, 94, 206, 179], id="long", marks=pytest.mark.slow),
    ],
)
def test_killed_anywhere_it_ends_as_if_it_never_was(
    tmp_path: Path, shared: Path, tasks: int, deaths: list[int]
) -> None:
    """A death is a passage at which the process dies; drawn at random once, and all are reached."""
    table = table_of(tmp_path / "q.csv", shared / "data" / "qa" / "MultiPathQA.csv", tasks)
    questions = load_benchmark("multipathqa", table)
    runs.draw_slides(tmp_path / "slides", [question.slide for question in questions])
    with ChatServer(runs.script) as server:
        killed(tmp_path, server.url, table, deaths)
        results = check(tmp_path, questions, server, len(deaths))
        whole = tmp_path / "whole"
        whole.mkdir()
        (whole / "slides").symlink_to(tmp_path / "slides")
        unbroken = ask_all(runs.plan(whole, server.url, questions)).results

    assert plain(results) == plain(unbroken)
    unread = [result for result in results if result.unread]
    assert unread or tasks == 1, "now and then the model only talks"
    assert all(result.reply and not result.abstained and result.said is None for result in unread)
    spent = {mode: [r for r in results if r.mode == mode] for mode in runs.CHAT}
    assert {mode: {r.regions for r in found} for mode, found in spent.items()} == {
        "agent": {2}, "thumbnail": {1}, "patches": {2}, "joint": {3}, "blind": {0}, "constant": {0}
    }  # fmt: skip


@pytest.mark.parametrize(
    ("tasks", "kills"),
    [pytest.param(1, 1, id="short"), pytest.param(5, 3, id="long", marks=pytest.mark.slow)],
)
def test_a_local_model_is_killed_and_goes_on_likewise(
    tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch, tasks: int, kills: int
) -> None:
    monkeypatch.setenv("GIANT_CACHE", str(tmp_path / "cache"))
    table = table_of(tmp_path / "q.csv", shared / "data" / "qa" / "MultiPathQA.csv", tasks)
    questions = load_benchmark("multipathqa", table)
    runs.draw_slides(tmp_path / "slides", [question.slide for question in questions])
    dice = random.Random(2)
    killed(tmp_path, "", table, [dice.randint(3, 18 * tasks) for _ in range(kills)], runs.LOCAL)
    results = read_results(tmp_path / "out" / RESULTS)
    assert [r.key for r in results] == [(*q.key, mode) for q in questions for mode in runs.LOCAL]
    assert not [result for result in results if result.error]
    whole = tmp_path / "whole"
    whole.mkdir()
    (whole / "slides").symlink_to(tmp_path / "slides")
    unbroken = ask_all(runs.local_plan(whole, questions)).results
    assert [r["said"] for r in plain(results)] == [r["said"] for r in plain(unbroken)]


def test_workers_share_the_work_and_change_nothing(tmp_path: Path, shared: Path) -> None:
    table = table_of(tmp_path / "q.csv", shared / "data" / "qa" / "MultiPathQA.csv", tasks=3)
    questions = load_benchmark("multipathqa", table)
    runs.draw_slides(tmp_path / "slides", [question.slide for question in questions[1:]])
    modes = ["thumbnail", "blind"]
    with ChatServer(runs.script) as server:
        two = ask_all(runs.plan(tmp_path, server.url, questions, modes, base_options=AskOptions(), workers=2))
        assert [result.key for result in two.results] == [(*q.key, m) for q in questions for m in modes]
        assert [one.slide for one in two.missing] == [questions[0].slide]
        failed = [result for result in two.results if result.error]
        assert [result.key for result in failed] == [(*questions[0].key, "thumbnail")]
        assert "another suffix" in (failed[0].error or "")


@pytest.mark.slow
def test_the_whole_of_multipathqa(tmp_path: Path, shared: Path) -> None:
    table = shared / "data" / "qa" / "MultiPathQA.csv"
    questions = load_benchmark("multipathqa", table)
    slides = runs.draw_slides(tmp_path / "slides", [question.slide for question in questions])
    assert len([path for path in slides.iterdir() if not path.name.startswith(".")]) == 862
    dice = random.Random(1)
    deaths = [dice.randint(1, 12_000) for _ in range(20)]
    with ChatServer(runs.script) as server:
        lines = killed(tmp_path, server.url, table, deaths)
        results = check(tmp_path, questions, server, len(deaths))
    assert len(results) == 934 * 6
    assert lines[-1]["lines"] == len(results)
    summary = score_folder(tmp_path / "out", pytest.fail)
    assert json.loads((tmp_path / "out" / SUMMARY).read_text()) == summary
    constant = {task: modes["constant"]["value"] for task, modes in summary["tasks"].items()}
    assert constant["tcga_slidebench"] == pytest.approx(0.416, abs=5e-4)
    assert constant["tcga_expert_vqa"] == pytest.approx(0.281, abs=5e-4)
