"""An evaluation runs to its end whatever its slides do, goes on where it stopped, and counts honestly."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from agent.records import Answer, Cost, SlideFacts
from core_model.errors import GiantError, NoTissue, RunError
from eval import modes, runner
from eval.cli import register
from eval.questions import Question
from eval.runner import Plan, run
from eval.summary import summarise

OPTIONS = ("low", "high")


def question(number: int, slide: str, answer: str = "high") -> Question:
    return Question(
        benchmark="demo",
        id=str(number),
        slide=slide,
        question="How high is it?",
        prompt="How high is it?",
        options=OPTIONS,
        answer=answer,
        metric="accuracy",
    )


class Asked:
    """A stand-in for `agent.ask` that answers "high" and keeps what it was asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.fail: dict[str, Exception] = {}
        self.abstain: set[str] = set()

    def __call__(self, slide: Any, question: str, **given: Any) -> Answer:
        self.calls.append((slide.name, given["mode"]))
        if slide.name in self.fail:
            raise self.fail[slide.name]
        no = slide.name in self.abstain
        Path(given["out"]).mkdir(parents=True)
        return Answer(
            question=question,
            answer="No." if no else "High.",
            choice=None if no else "high",
            options=list(given["options"]),
            confidence=0.7,
            abstained=no,
            reason="unsure" if no else None,
            steps=3,
            model="m",
            mode=given["mode"],
            slide=SlideFacts(id="i", width=1, height=1, mpp=0.5),
            cost=Cost(seconds=2.0, regions=3),
            run_dir=str(given["out"]),
        )


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    import agent

    stand_in = Asked()
    monkeypatch.setattr(agent, "ask", stand_in, raising=False)
    return stand_in


@pytest.fixture
def slides(tmp_path: Path) -> Path:
    folder = tmp_path / "slides"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    for name in ("a.tiff", "b.tiff"):
        Image.fromarray(noise).save(folder / name, resolution=20000, resolution_unit=3)
    return folder


def plan(slides: Path, tmp_path: Path, *questions: Question, **given: Any) -> Plan:
    model = SimpleNamespace(name="m")
    return Plan(questions, slides, given.pop("modes", ["agent"]), tmp_path / "out", model, **given)


def test_every_question_gets_one_result_in_each_mode(slides: Path, tmp_path: Path, asked: Asked) -> None:
    ours = plan(
        slides, tmp_path, question(1, "a.tiff"), question(2, "b.tiff", "low"), modes=["agent", "slide"]
    )
    results = run(ours)
    assert [(r.id, r.mode, r.said == r.truth) for r in results] == [
        ("1", "agent", True), ("1", "slide", True), ("2", "agent", False), ("2", "slide", False)
    ]  # fmt: skip
    lines = (tmp_path / "out" / "results.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["1", "1", "2", "2"]
    assert not (tmp_path / "out" / "runs").exists()


def test_failures_stop_nothing_and_are_counted(slides: Path, tmp_path: Path, asked: Asked) -> None:
    asked.fail["a"] = NoTissue("no tissue", where="a")
    (slides / "c.svs").write_text("not a slide")
    questions = [question(1, "a.tiff"), question(2, "c.svs"), question(3, "gone.svs"), question(4, "b.tiff")]
    results = run(plan(slides, tmp_path, *questions))
    assert [r.error is None for r in results] == [False, False, False, True]
    assert "gone.svs" in (results[2].error or "")
    figures = summarise(results, {})["tasks"]["demo"]["agent"]
    assert (figures["n"], figures["failed"], figures["value"]) == (4, 3, 0.25)


def test_a_bug_is_a_failure_that_names_itself(
    slides: Path, tmp_path: Path, asked: Asked, caplog: pytest.LogCaptureFixture
) -> None:
    asked.fail["a"] = KeyError("oops")
    results = run(plan(slides, tmp_path, question(1, "a.tiff"), question(2, "b.tiff")))
    assert results[0].error == "bug: KeyError: 'oops'"
    assert results[1].said == "high"
    assert "Traceback" in caplog.text


def test_abstaining_is_wrong_and_reported(slides: Path, tmp_path: Path, asked: Asked) -> None:
    asked.abstain.add("a")
    results = run(plan(slides, tmp_path, question(1, "a.tiff"), question(2, "b.tiff")))
    figures = summarise(results, {})["tasks"]["demo"]["agent"]
    assert (figures["value"], figures["abstained"], figures["failed"]) == (0.5, 1, 0)
    assert figures["accuracy_answered"] == 1.0
    assert figures["random"] == 0.5
    assert figures["best_constant"] == 1.0


def test_resume_asks_what_is_missing_or_failed(slides: Path, tmp_path: Path, asked: Asked) -> None:
    questions = [question(1, "a.tiff"), question(2, "b.tiff")]
    asked.fail["b"] = GiantError("busy")
    run(plan(slides, tmp_path, *questions))
    with pytest.raises(RunError, match="--resume"):
        run(plan(slides, tmp_path, *questions))
    results_file = tmp_path / "out" / "results.jsonl"
    results_file.write_text(results_file.read_text() + '{"version": 1, "benchm')  # killed while writing
    asked.calls.clear()
    asked.fail.clear()
    results = run(plan(slides, tmp_path, *questions), resume=True)
    assert asked.calls == [("b", "agent")]
    assert sorted(r.id for r in results) == ["1", "2"]
    assert all(r.error is None for r in results)
    asked.calls.clear()
    run(plan(slides, tmp_path, *questions), resume=True)
    assert not asked.calls


def test_answers_under_other_conditions_are_not_mixed(slides: Path, tmp_path: Path, asked: Asked) -> None:
    run(plan(slides, tmp_path, question(1, "a.tiff")))
    other = plan(slides, tmp_path, question(1, "a.tiff"), budget=modes.Budget(seed=7))
    with pytest.raises(RunError, match="seed"):
        run(other, resume=True)


def test_a_damaged_results_file_is_not_resumed(slides: Path, tmp_path: Path, asked: Asked) -> None:
    run(plan(slides, tmp_path, question(1, "a.tiff"), question(2, "b.tiff")))
    path = tmp_path / "out" / "results.jsonl"
    path.write_text("nonsense\n" + path.read_text())
    with pytest.raises(RunError, match="line 1"):
        run(plan(slides, tmp_path, question(1, "a.tiff")), resume=True)


def test_runs_are_kept_where_wanted(slides: Path, tmp_path: Path, asked: Asked) -> None:
    run(plan(slides, tmp_path, question(1, "a.tiff"), keep_runs=True))
    assert (tmp_path / "out" / "runs" / "agent" / "demo" / "1").is_dir()


def test_slides_are_found_under_another_suffix(slides: Path) -> None:
    assert runner.find_slide(slides, "a.svs") == slides / "a.tiff"
    with pytest.raises(GiantError, match=r"no x\.svs"):
        runner.find_slide(slides, "x.svs")


def test_modes_are_named_once() -> None:
    assert modes.check_modes("agent, slide,agent") == ["agent", "slide"]
    with pytest.raises(GiantError, match="thumbnail"):
        modes.check_modes("thumbnail")


def test_the_command_prints_baselines_and_writes_a_summary(
    slides: Path, tmp_path: Path, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    import typer

    import core_model

    monkeypatch.setattr(core_model, "load_model", lambda *_: SimpleNamespace(name="m"), raising=False)
    header = "benchmark_name,benchmark_id,image_path,answer,options,metric_type,prompt\n"
    row = "demo,{n},{s}.tiff,2,\"['low', 'high']\",accuracy,How high?\n"
    (tmp_path / "questions.csv").write_text(header + row.format(n=1, s="a") + row.format(n=2, s="b"))
    app = typer.Typer()
    register(app)
    command = ["eval", "cohort", "--data", str(tmp_path), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "random" in result.stdout
    assert "100.0" in result.stdout
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert set(summary["tasks"]["demo"]["agent"]) >= {"n", "metric", "value", "sd", "low", "high"}
    assert summary["about"]["hardware"]
