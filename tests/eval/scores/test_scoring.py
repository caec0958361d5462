"""Everything a reader sees comes from the results alone, and says what the figures must be read with."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core_model.errors import RunError
from eval.asking.baselines import constant_results
from eval.asking.jsonl import write_lines
from eval.asking.results import RESULTS, Result
from eval.asking.runner import EvaluationPlan
from eval.benchmarks.registry import read_benchmark
from eval.evaluation import run_evaluation
from eval.scores import scoring
from eval.scores.figures import figures
from eval.scores.plots import expected_calibration_error
from eval.scores.scoring import ABOUT, SUMMARY, score_folder


def result(number: int, mode: str, right: bool, **more: Any) -> Result:
    return Result(
        benchmark="demo", id=str(number), mode=mode, slide=f"s{number}.svs", metric="accuracy", truth="a",
        position=1 + number % 2, options=2, said="a" if right else "b", **more,
    )  # fmt: skip


def folder(path: Path) -> Path:
    path.mkdir()
    found = [
        result(n, "agent", n % 3 > 0, confidence=0.1 * (n % 9), regions=n % 4, steps=n % 4) for n in range(60)
    ]
    found += [result(n, "thumbnail", n % 5 > 2, regions=1, steps=1) for n in range(60)]
    write_lines(path / RESULTS, found)
    return path


def test_results_alone_are_enough(tmp_path: Path) -> None:
    out = folder(tmp_path / "out")
    said: list[str] = []
    summary = score_folder(out, said.append)
    assert not said
    assert {p.name for p in (out / "plots").iterdir()} >= {"accuracy.png", "calibration.png", "steps.png"}
    for name in ("index.html", "summary.md", SUMMARY):
        assert (out / name).is_file()
    assert summary["left"] == 0
    pages = [(out / name).read_bytes() for name in ("index.html", "summary.md", SUMMARY)]
    assert score_folder(out, said.append) == summary
    assert [(out / name).read_bytes() for name in ("index.html", "summary.md", SUMMARY)] == pages


def test_without_matplotlib_there_is_a_line_and_no_plot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "find_spec", lambda name: None if name == "matplotlib" else find_spec(name))
    said: list[str] = []
    score_folder(folder(tmp_path / "out"), said.append)
    assert len(said) == 1
    assert "giant-pathology[eval]" in said[0]
    assert not (tmp_path / "out" / "plots").exists()
    assert "<img" not in (tmp_path / "out" / "index.html").read_text()


def test_what_could_not_be_evaluated_is_told_everywhere(tmp_path: Path) -> None:
    table = tmp_path / "q.jsonl"
    rows = [
        {"slide": "gone.svs", "question": "Which?", "options": ["a", "b"], "answer": "b"},
        {"slide": "gone.svs", "question": "Where <b>?", "options": ["a", "b"], "answer": "a"},
        {"slide": "x.svs", "question": "Which?", "options": ["a", "b"], "answer": "<script>"},
    ]
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "slides").mkdir()
    found, out = read_benchmark("generic", table), tmp_path / "out"
    plan = EvaluationPlan(found.questions, tmp_path / "slides", ["constant", "slide"], out)
    left, summary = run_evaluation(plan, found, {"benchmark": "generic"})
    assert left == 0
    assert summary["missing"][0]["slide"] == "gone.svs"
    assert summary["missing"][0]["questions"] == 2
    assert "another suffix" in summary["missing"][0]["looked_for"]
    assert [row[0] for row in summary["unusable"]] == ["q.jsonl line 3"]
    assert "not recorded" in summary["leakage"]["text"]
    task = summary["tasks"]["questions"]
    assert (task["slide"]["failed"], task["slide"]["value"]) == (2, 0.0)
    assert (task["constant"]["failed"], task["constant"]["value"]) == (0, 0.5)
    page, text = ((out / name).read_text() for name in ("index.html", "summary.md"))
    for seen in (page, text):
        for words in (
            "gone.svs",
            "line 3",
            "Not found: 1 slide with 2 questions",
            "not recorded",
            "right answers known",
        ):
            assert words in seen
        assert "<script>" not in seen
    assert json.loads((out / SUMMARY).read_text()) == summary
    assert score_folder(out, pytest.fail) == summary


def test_an_evaluation_that_was_cut_short_says_so(tmp_path: Path) -> None:
    out = folder(tmp_path / "out")
    (out / ABOUT).write_text(json.dumps({"wanted": 130}))
    assert score_folder(out, pytest.fail)["left"] == 10
    assert "10 results missing" in (out / "index.html").read_text()


def test_no_results_are_no_evaluation(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no results"):
        score_folder(tmp_path, pytest.fail)
    (tmp_path / ABOUT).write_text("{")
    folder(tmp_path / "out")
    (tmp_path / "out" / ABOUT).write_text("{")
    with pytest.raises(RunError, match="cannot be read"):
        score_folder(tmp_path / "out", pytest.fail)


def test_the_published_constants_come_out(shared: Path) -> None:
    questions = read_benchmark("multipathqa", shared / "data" / "qa" / "MultiPathQA.csv").questions
    found = constant_results(questions)
    assert len(found) == 934
    by_task = {task: [r for r in found if r.benchmark == task] for task in {r.benchmark for r in found}}
    values = {task: figures(members[0].metric, members) for task, members in by_task.items()}
    assert values["tcga_slidebench"]["value"] == pytest.approx(82 / 197)
    assert values["tcga_expert_vqa"]["value"] == pytest.approx(36 / 128)
    assert values["panda"]["value"] == pytest.approx(1 / 6)
    assert all(f["value"] == pytest.approx(f["best_constant"]) for f in values.values())


def test_scoring_934_questions_in_six_modes_is_little_work(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two bootstraps a figure and each one vectorised: seconds for all, whatever the machine."""
    from eval.asking.modes import MODES
    from eval.metrics import classification, paired, resampling
    from eval.scores.summary import summarise

    questions = read_benchmark("multipathqa", shared / "data" / "qa" / "MultiPathQA.csv").questions
    modes = list(MODES)[:6]
    results = [one.model_copy(update={"mode": mode}) for mode in modes for one in constant_results(questions)]
    assert len(results) == 934 * 6
    calls = []
    for module in (classification, paired):
        monkeypatch.setattr(module, "scores", lambda *args: calls.append(0) or resampling.scores(*args))
    resampling.draws.cache_clear()
    summary = summarise(results, {})
    figured = sum(len(found) for found in summary["tasks"].values())
    figured += sum(len(rows) for kind in summary["parts"].values() for rows in kind.values())
    compared = sum(len(rows) for rows in summary["pairs"].values())
    assert len(calls) == 2 * figured + 4 * compared
    assert resampling.draws.cache_info().misses <= 8


def test_calibration_error_by_hand() -> None:
    """Two answers at 0.9 of which one is right, two at 0.3 of which none is: (0.4 + 0.3) / 2."""
    sure, hits = np.array([0.9, 0.9, 0.3, 0.3]), np.array([1.0, 0.0, 0.0, 0.0])
    assert expected_calibration_error(sure, hits) == pytest.approx(0.35)
    assert expected_calibration_error(np.ones(3), np.ones(3)) == 0.0


def test_money_is_a_mean_over_all_questions_and_unknown_where_one_price_is() -> None:
    """A question that needed no call cost nothing; one whose price nobody knows makes the mean unknown."""
    paid = [result(1, "agent", True, calls=2, usd=0.3), result(2, "agent", True)]
    assert figures("accuracy", paid)["usd"] == pytest.approx(0.15)
    assert figures("accuracy", [*paid, result(3, "agent", True, calls=1)])["usd"] is None
    assert figures("accuracy", [result(1, "agent", True)])["usd"] is None
