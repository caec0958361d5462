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

from agent.run.records import Answer, Cost, SlideFacts
from agent.session.options import AskOptions
from core_model.errors import GiantError, NoTissue, RunError, UsageError
from core_model.files import held
from eval.asking.modes import parse_modes
from eval.asking.runner import EvaluationPlan, ask_all
from eval.benchmarks.questions import Question
from eval.cli import register
from eval.scores.summary import summarise

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
    """A stand-in for `ask_with` that answers "high" and keeps what it was asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.fail: dict[str, Exception] = {}
        self.abstain: set[str] = set()
        self.options: list[list[str] | None] = []

    def __call__(self, slide: Any, question: str, options: AskOptions) -> Answer:
        self.calls.append((slide.name, options.mode))
        self.options.append(options.options)
        if slide.name in self.fail:
            raise self.fail[slide.name]
        no = slide.name in self.abstain
        Path(str(options.out)).mkdir(parents=True, exist_ok=True)
        return Answer(
            question=question,
            answer="No." if no else "High.",
            choice=None if no else "high",
            options=options.options,
            confidence=0.7,
            abstained=no,
            reason="unsure" if no else None,
            steps=3,
            model="m",
            mode=options.mode,
            slide=SlideFacts(id="i", width=1, height=1, mpp=0.5),
            cost=Cost(seconds=2.0, regions=3),
            run_dir=str(options.out),
        )


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    stand_in = Asked()
    monkeypatch.setattr("agent.session.ask.ask_with", stand_in)
    return stand_in


@pytest.fixture
def slides(tmp_path: Path) -> Path:
    folder = tmp_path / "slides"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    for name in ("a.tiff", "b.tiff"):
        Image.fromarray(noise).save(folder / name, resolution=20000, resolution_unit=3)
    return folder


def plan(slides: Path, tmp_path: Path, *questions: Question, **given: Any) -> EvaluationPlan:
    model = SimpleNamespace(name="m")
    return EvaluationPlan(questions, slides, given.pop("modes", ["agent"]), tmp_path / "out", model, **given)


def test_every_question_gets_one_result_in_each_mode(slides: Path, tmp_path: Path, asked: Asked) -> None:
    ours = plan(
        slides, tmp_path, question(1, "a.tiff"), question(2, "b.tiff", "low"), modes=["agent", "slide"]
    )
    results = ask_all(ours).results
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
    results = ask_all(plan(slides, tmp_path, *questions)).results
    assert [r.error is None for r in results] == [False, False, False, True]
    assert "gone with another suffix of a slide" in (results[2].error or "")
    figures = summarise(results, {})["tasks"]["demo"]["agent"]
    assert (figures["n"], figures["failed"], figures["value"]) == (4, 3, 0.25)


def test_a_bug_is_a_failure_that_names_itself(
    slides: Path, tmp_path: Path, asked: Asked, caplog: pytest.LogCaptureFixture
) -> None:
    asked.fail["a"] = KeyError("oops")
    results = ask_all(plan(slides, tmp_path, question(1, "a.tiff"), question(2, "b.tiff"))).results
    assert results[0].error == "bug: KeyError: 'oops'"
    assert results[1].said == "high"
    assert "Traceback" in caplog.text


def test_abstaining_is_wrong_and_reported(slides: Path, tmp_path: Path, asked: Asked) -> None:
    asked.abstain.add("a")
    results = ask_all(plan(slides, tmp_path, question(1, "a.tiff"), question(2, "b.tiff"))).results
    figures = summarise(results, {})["tasks"]["demo"]["agent"]
    assert (figures["value"], figures["abstained"], figures["failed"]) == (0.5, 1, 0)
    assert figures["accuracy_answered"] == 1.0
    assert figures["random"] == 0.5
    assert figures["best_constant"] == 1.0


def test_resume_asks_what_is_missing_or_failed(slides: Path, tmp_path: Path, asked: Asked) -> None:
    questions = [question(1, "a.tiff"), question(2, "b.tiff")]
    asked.fail["b"] = GiantError("busy")
    ask_all(plan(slides, tmp_path, *questions))
    with pytest.raises(RunError, match="--resume"):
        ask_all(plan(slides, tmp_path, *questions))
    results_file = tmp_path / "out" / "results.jsonl"
    results_file.write_text(results_file.read_text() + '{"version": 1, "benchm')  # killed while writing
    asked.calls.clear()
    asked.fail.clear()
    results = ask_all(plan(slides, tmp_path, *questions), resume=True).results
    assert asked.calls == [("b", "agent")]
    assert sorted(r.id for r in results) == ["1", "2"]
    assert all(r.error is None for r in results)
    asked.calls.clear()
    ask_all(plan(slides, tmp_path, *questions), resume=True)
    assert not asked.calls


def test_answers_of_another_reader_are_not_mixed(slides: Path, tmp_path: Path, asked: Asked) -> None:
    ask_all(plan(slides, tmp_path, question(1, "a.tiff")))
    path = tmp_path / "out" / "conditions.json"
    record = json.loads(path.read_text())
    assert record.pop("reader") > 1
    path.write_text(json.dumps(record))  # as before readers had numbers
    with pytest.raises(RunError, match="reader was 1"):
        ask_all(plan(slides, tmp_path, question(1, "a.tiff")), resume=True)


def test_answers_under_other_conditions_are_not_mixed(slides: Path, tmp_path: Path, asked: Asked) -> None:
    ask_all(plan(slides, tmp_path, question(1, "a.tiff")))
    other = plan(slides, tmp_path, question(1, "a.tiff"), base_options=AskOptions(seed=7))
    with pytest.raises(RunError, match="seed"):
        ask_all(other, resume=True)


def test_a_damaged_results_file_is_not_resumed(slides: Path, tmp_path: Path, asked: Asked) -> None:
    ask_all(plan(slides, tmp_path, question(1, "a.tiff"), question(2, "b.tiff")))
    path = tmp_path / "out" / "results.jsonl"
    path.write_text("nonsense\n" + path.read_text())
    with pytest.raises(RunError, match="line 1"):
        ask_all(plan(slides, tmp_path, question(1, "a.tiff")), resume=True)


def test_runs_are_kept_where_wanted(slides: Path, tmp_path: Path, asked: Asked) -> None:
    result = ask_all(plan(slides, tmp_path, question(1, "a.tiff"), keep_runs=True)).results[0]
    assert result.run == "runs/agent/demo/1"
    assert (tmp_path / "out" / result.run).is_dir()


def test_two_evaluations_do_not_share_a_folder(slides: Path, tmp_path: Path, asked: Asked) -> None:
    with held(tmp_path / "out", wait=False), pytest.raises(RunError, match="another process"):
        ask_all(plan(slides, tmp_path, question(1, "a.tiff")))


def test_ids_that_look_alike_as_files_have_folders_of_their_own(
    slides: Path, tmp_path: Path, asked: Asked
) -> None:
    questions = [question(1, "a.tiff").model_copy(update={"id": id}) for id in ("a/b", "a b", "..", "")]
    results = ask_all(plan(slides, tmp_path, *questions, keep_runs=True)).results
    assert len({result.run for result in results}) == 4
    out = (tmp_path / "out").resolve()
    assert all((out / str(r.run)).resolve().is_relative_to(out / "runs" / "agent") for r in results)


def test_grades_are_put_as_options_and_open_questions_without(
    slides: Path, tmp_path: Path, asked: Asked
) -> None:
    grade = question(1, "a.tiff").model_copy(
        update={"options": None, "labels": ("0", "1", "high"), "metric": "balanced_accuracy"}
    )
    words = question(2, "a.tiff").model_copy(update={"options": None, "metric": "text"})
    results = ask_all(plan(slides, tmp_path, grade, words)).results
    assert asked.options == [["0", "1", "high"], None]
    assert [(r.said, r.options, r.labels) for r in results] == [
        ("high", None, ("0", "1", "high")), ("High.", None, None)
    ]  # fmt: skip


def test_a_mode_is_added_to_what_is_there(slides: Path, tmp_path: Path, asked: Asked) -> None:
    questions = [question(1, "a.tiff"), question(2, "b.tiff", "low")]
    ask_all(plan(slides, tmp_path, *questions))
    results = ask_all(plan(slides, tmp_path, *questions, modes=["constant", "slide"]), resume=True).results
    assert {(r.id, r.mode) for r in results} == {
        (i, mode) for i in "12" for mode in ("agent", "constant", "slide")
    }
    assert len(results) == 6
    assert [mode for _, mode in asked.calls] == ["agent", "agent", "slide", "slide"]


def test_modes_are_named_once() -> None:
    assert parse_modes("agent, slide,agent") == ["agent", "slide"]
    with pytest.raises(GiantError, match="thumbnail"):
        parse_modes("glance")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"modes": ["agent", "thumbnail"]}, "local model has no mode 'thumbnail'"),
        ({"modes": ["blind"]}, "local model has no mode 'blind'"),
        ({"modes": ["slide"], "model": "openai:x"}, "chat model has no mode 'slide'"),
        ({"modes": ["slide"], "base_options": AskOptions(votes=3)}, "votes are for mode agent only"),
        ({"modes": ["slide"], "base_options": AskOptions(patches=3)}, "modes patches and joint only"),
        ({"modes": ["patches"], "base_options": AskOptions(max_steps=3)}, "number of looks"),
        ({"base_options": AskOptions(profile="giant")}, "--profile"),
        ({"base_options": AskOptions(base_url="http://x/v1")}, "--base-url"),
        ({"max_cost": 1.0}, "spending limit"),
        ({"workers": 0}, "0 workers"),
        ({"slides": None}, "no folder of slides is given"),
    ],
)
def test_what_means_nothing_is_refused_before_anything_is_asked(
    slides: Path, tmp_path: Path, asked: Asked, given: dict[str, Any], said: str
) -> None:
    whole = {"slides": slides, "modes": ["agent"], "out": tmp_path / "out", "model": "mini"} | given
    with pytest.raises(UsageError, match=said):
        ask_all(EvaluationPlan([question(1, "a.tiff")], **whole))
    assert not asked.calls
    assert not (tmp_path / "out").exists()


def test_the_best_constant_answer_needs_neither_slides_nor_model(tmp_path: Path) -> None:
    options = [("low", "high"), ("high", "low"), ("low", "high")]
    questions = [
        question(i, "gone.svs").model_copy(update={"options": given}) for i, given in enumerate(options)
    ]
    words = question(9, "gone.svs").model_copy(
        update={"benchmark": "words", "options": None, "metric": "text", "answer": "Glands."}
    )
    outcome = ask_all(EvaluationPlan([*questions, words], None, ["constant"], tmp_path / "out", "nowhere"))
    assert [r.said for r in outcome.results] == ["high", "high", "high", "Glands."]
    assert (outcome.left, outcome.missing) == (0, [])


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
    assert summary["leakage"]["of"] == 2
    again = CliRunner().invoke(app, ["eval", "score", str(tmp_path / "out")])
    assert again.exit_code == 0, again.output
    assert json.loads((tmp_path / "out" / "summary.json").read_text()) == summary
    same = CliRunner().invoke(
        app, ["eval", "compare", str(tmp_path / "out"), str(tmp_path / "out"), "--json"]
    )
    assert json.loads(same.stdout)["rows"][0]["lost"] == []
