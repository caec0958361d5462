"""The person at the terminal: what their lines mean, and what the command does with them."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from cli_fakes import PaintModel, giant, one_line, paint

from agent.cli.person import understood
from agent.graph.control import Said
from agent.run.folder import read_trace
from core_model.slides.box import Box

ASK = ("Which?", "--option", "purple", "--option", "pink", "--mpp", "2", "--max-steps", "6")


@pytest.fixture
def slide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A slide in the working folder, and a model for it."""
    monkeypatch.setenv("GIANT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("core_model.models.wsi_llava.load_model", lambda *_, **__: PaintModel())
    return paint(tmp_path / "a.png").name


@pytest.mark.parametrize(
    ("line", "means"),
    [
        ("\n", Said(do="accept")),
        ("Q\n", Said(do="stop")),
        ("p\n", None),
        (None, None),
        ("look for mitoses\n", Said(do="hint", text="look for mitoses")),
        ("3 mitoses at least\n", Said(do="hint", text="3 mitoses at least")),
        ("nan\n", Said(do="hint", text="nan")),
        ("100 200 300 400\n", Said(do="look", box=Box(100, 200, 300, 400))),
        ("100, 200, 300, 400, 0.5", Said(do="look", box=Box(100, 200, 300, 400), mpp=0.5)),
        ("-5 0 10 10", Said(do="look", box=Box(-5, 0, 10, 10))),  # the tool says what is valid
    ],
)
def test_what_a_line_means(line: str | None, means: Said | None) -> None:
    assert understood(line) == means


@pytest.mark.parametrize(
    "line", ["1 2 3", "1 2 0 4", "1 2 3 -4", "1 2 3 4.5", "1 2 3 4 0", "1 2 3 4 5 6", "1 2 3 4 5000"]
)
def test_numbers_that_are_no_place_are_asked_again(line: str) -> None:
    assert isinstance(understood(line), str)


def test_confirm_takes_every_reply_from_stdin(slide: str, tmp_path: Path) -> None:
    lines = "\n1 2 3\n200 200 300 300 4\nwhere is it pink\n\nq\n"
    result = giant("ask", slide, *ASK, "--out", "run", "--confirm", "--json", "--quiet", stdin=lines)
    assert result.exit_code == 0, result.output
    steps = read_trace(tmp_path / "run")
    assert json.loads(result.stdout)["steps"] == len(steps) == 4
    assert (steps[2].action.by, steps[2].observation.box) == ("person", (200, 200, 300, 300))
    asked = [line for line in result.stderr.splitlines() if "?" in line[:20]]
    assert len(asked) == 5  # the hint came in place of an answer to the third, which is asked once more
    assert "text: where is it pink" in asked[4]
    assert "A place is x y w h" in result.stderr
    assert result.stderr.count("Enter: go") == 1


@pytest.mark.parametrize("lines", ["\np\n", "\n"], ids=["p", "end of file"])
def test_pausing_says_how_to_resume(slide: str, tmp_path: Path, lines: str) -> None:
    result = giant("ask", slide, *ASK, "--out", "run", "--confirm", "--quiet", stdin=lines)
    assert result.exit_code == 1
    assert "run is paused" in result.stderr.splitlines()[-1]
    assert "--resume" in result.stderr.splitlines()[-1]
    assert len(read_trace(tmp_path / "run")) == 2
    done = giant("ask", slide, *ASK, "--out", "run", "--resume", "--hint", "where is it pink")
    assert done.exit_code == 0, done.output
    assert "where is it pink" in [step.action.args.get("text") for step in read_trace(tmp_path / "run")]
    late = giant("ask", slide, *ASK, "--out", "run", "--resume", "--hint", "and now?", "--look", 0, 0, 9, 9)
    assert late.exit_code == 0
    assert "before it could take notice of what you said" in late.stderr


def test_a_place_to_look_at_comes_first(slide: str, tmp_path: Path) -> None:
    result = giant("ask", slide, *ASK, "--out", "run", "--look", 200, 200, 300, 300)
    assert result.exit_code == 0, result.output
    assert read_trace(tmp_path / "run")[1].observation.box == (200, 200, 300, 300)


@pytest.mark.parametrize("extra", [("--hint", " "), ("--look", 0, 0, 0, 5)])
def test_what_cannot_be_said_is_wrong_usage(slide: str, tmp_path: Path, extra: tuple[Any, ...]) -> None:
    result = giant("ask", slide, *ASK, "--out", "run", *extra)
    assert result.exit_code == 2
    one_line(result)
    assert not (tmp_path / "run").exists()


def test_ctrl_c_pauses_after_the_step_in_hand(
    slide: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = PaintModel.score_options, list[int]()

    def pressed(self: PaintModel, *args: Any) -> Any:
        calls.append(len(calls))
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return real(self, *args)

    monkeypatch.setattr(PaintModel, "score_options", pressed)
    before = signal.getsignal(signal.SIGINT)
    result = giant("ask", slide, *ASK, "--out", "run")
    assert signal.getsignal(signal.SIGINT) == before
    assert result.exit_code == 130
    assert "Pausing after the step in hand" in result.stderr
    last = result.stderr.splitlines()[-1]
    assert last.startswith("giant: interrupted; the run is kept in ")
    assert "repeat the command with --resume" in last
    steps = read_trace(tmp_path / "run")
    assert steps[-1].action.tool == "ask_region"  # the step in hand was finished and written down
    assert giant("ask", slide, *ASK, "--out", "run", "--resume").exit_code == 0
    assert read_trace(tmp_path / "run")[: len(steps)] == steps


def test_ctrl_c_twice_stops_at_once(slide: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pressed(self: PaintModel, *args: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("it went on")

    monkeypatch.setattr(PaintModel, "score_options", pressed)
    result = giant("ask", slide, *ASK, "--out", "run")
    assert result.exit_code == 130
    assert [step.action.tool for step in read_trace(tmp_path / "run")] == ["overview"]


def test_steps_are_shown_once_and_their_words_when_they_come(capsys: pytest.CaptureFixture[str]) -> None:
    from agent.cli.terminal import StepPrinter, stderr
    from agent.run.records import Action, Step, Vote
    from tools.records import Observation

    seen = Observation(tool="zoom", text="Shown.")
    step = Step(index=2, action=Action(tool="zoom"), observation=seen, finding="Shown.")
    show = StepPrinter(stderr(), quiet=False)
    for item in (step, step, step.model_copy(update={"finding": "Glands [b]fused[/b]."})):
        show(item)
    show(Vote(run="votes/1", seed=0, choice="x", answer="X.", confidence=0.5, abstained=False))
    show(step)
    lines = [" ".join(line.split()) for line in capsys.readouterr().err.splitlines()]
    assert lines == [
        "2 zoom Shown. 0.0 s",
        "2 Glands [b]fused[/b].",
        "vote 1: x (0.50)",
        "2 zoom Shown. 0.0 s",
    ]


def test_cost_agreement_and_doubtful_claims_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    from agent.cli.terminal import show_answer, stdout
    from agent.run.records import Answer, Claim, Cost, SlideFacts, Vote

    vote = Vote(run="votes/1", seed=0, choice="a", answer="A.", confidence=0.5, abstained=False)
    answer = Answer(
        question="?",
        answer="A.",
        choice="a",
        confidence=0.4,
        claims=[Claim(text="Glands [b]fuse[/b].", steps=[9], unsupported="step 9 does not exist")],
        agreement=2 / 3,
        votes=[vote, vote, vote],
        model="openai:x",
        mode="agent",
        slide=SlideFacts(id="s"),
        cost=Cost(calls=12, tokens_in=34567, tokens_out=890, usd=0.1234),
        run_dir="run",
    )
    show_answer(stdout(), answer)
    free = answer.model_copy(update={"cost": Cost(calls=1, tokens_in=3, tokens_out=4)})
    show_answer(stdout(), free)
    told = capsys.readouterr().out
    assert told.startswith("A.\nConfidence: 0.40\n2 of 3 votes agree.\n")
    assert "12 calls, 34,567 tokens in, 890 out, 0.1234 USD" in told
    assert "1 call, 3 tokens in, 4 out, price unknown" in told
    assert "unsupported: Glands [b]fuse[/b]. (step 9 does not exist)" in told
