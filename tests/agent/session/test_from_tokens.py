"""Answers from stored slide tokens: the same record as any answer, honest about what nobody looked at."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import agent_fakes as fakes
import pytest
import torch
from cli_fakes import FIELDS, giant, one_line, only_json

import agent
from agent.replay.follow import follow_again
from agent.run.records import Answer, RunRecord
from agent.session.tokens import LIMIT
from core_model.errors import FeatureStoreError, RunError, UsageError

OPTIONS = ["grey tissue", "pink tissue"]
QUESTION = "Which tissue is it?"


class TokenModel(fakes.FakeModel):
    """Reads how grey a slide is from the mean of its tokens, 3 of 2 channels each."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.config = SimpleNamespace(calibration=self.config.calibration, n_tokens=3, feature_dim=2)

    def score_options(self, features: Any, question: str, options: list[str]) -> Any:
        return super().score_options(_AsTiles(features.tokens), question, options)

    def generate(self, features: Any, question: str) -> tuple[str, float]:
        return self.say(_AsTiles(features.tokens))


class _AsTiles:
    """Tokens as the fake looks at tiles."""

    def __init__(self, tokens: Any) -> None:
        self.features = tokens

    def __len__(self) -> int:
        return len(self.features)


@pytest.fixture
def tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A grey slide's tokens."""
    monkeypatch.chdir(tmp_path)
    torch.save(torch.full((3, 2), 0.9), tmp_path / "TCGA-1.pt")
    return tmp_path / "TCGA-1.pt"


def asked(tokens: Path, **given: Any) -> Answer:
    given = {"model": TokenModel(), "mode": "slide", "options": OPTIONS} | given
    return agent.ask(tokens, QUESTION, **given)


def test_a_closed_question_is_answered_and_nothing_is_cited(tokens: Path) -> None:
    answer = asked(tokens)
    assert answer.choice == "grey tissue"
    assert answer.answer.startswith("Grey tissue, confidence 0.9")
    assert 0.9 < answer.confidence < 1
    assert (answer.evidence, answer.coverage, answer.steps) == ([], {}, 0)
    assert answer.reason == LIMIT
    assert (answer.slide.width, answer.slide.height, answer.slide.mpp) == (None, None, None)
    assert len(answer.slide.id) == 64
    assert answer.cost.tokens_in > 0


def test_the_run_folder_is_like_any_other(tokens: Path, tmp_path: Path) -> None:
    answer = asked(tokens, out=tmp_path / "run")
    folder = Path(answer.run_dir)
    assert Answer.model_validate_json((folder / "answer.json").read_text()) == answer
    run = RunRecord.model_validate_json((folder / "run.json").read_text())
    assert run.status == "finished"
    assert run.slide.model_dump() == {"id": answer.slide.id, "name": "TCGA-1", "tokens": 3, "channels": 2}
    assert (folder / "trace.jsonl").read_text() == ""
    assert json.loads((folder / "evidence.geojson").read_text())["features"] == []
    for page in ("report.html", "report.md"):
        text = (folder / page).read_text()
        assert "3 stored slide tokens of 2 channels" in text
        assert "read the stored tokens of the slide at once" in text
        assert "no slide was opened" in text
        assert "Size" not in text


def test_an_open_question_is_answered_in_the_model_s_words(tokens: Path) -> None:
    answer = asked(tokens, options=None)
    assert answer.choice is None
    assert answer.answer.startswith(f"Grey tissue, confidence {answer.confidence:.2f}.")
    assert answer.confidence == 0.8


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ({"unknown_words": ("grey",)}, "never saw these words of the options: 'grey'"),
        ({"question_unfamiliarity": 2.0}, "does not know this kind of question"),
        ({"sharpness": 0.0}, "has confidence 0.50, below 0.60 required"),
    ],
)
def test_doubts_make_it_abstain(tokens: Path, model: dict[str, Any], says: str) -> None:
    answer = asked(tokens, model=TokenModel(**{"abstain_below": 0.6, **model}))
    assert answer.abstained
    assert answer.choice is None
    assert says in answer.answer
    assert says in str(answer.reason)
    assert LIMIT in str(answer.reason)


def test_a_finished_run_gives_its_answer_again_and_another_is_refused(tokens: Path, tmp_path: Path) -> None:
    first = asked(tokens, out=tmp_path / "run")
    with pytest.raises(RunError, match="already holds a run"):
        asked(tokens, out=tmp_path / "run")
    again = asked(tokens, out=tmp_path / "run", resume=True)
    assert again == first  # also in its seconds: nothing was asked again
    torch.save(torch.zeros(3, 2), tokens)
    with pytest.raises(RunError, match="the slide was"):
        asked(tokens, out=tmp_path / "run", resume=True)


def test_looking_around_in_tokens_is_refused_at_once(tokens: Path) -> None:
    with pytest.raises(UsageError, match=r"nothing to look around in.*--mode slide"):
        agent.stream(tokens, QUESTION, model=TokenModel())
    assert list(tokens.parent.iterdir()) == [tokens]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (torch.zeros(4, 2), r"shape \(4, 2\)"),
        ({"features": torch.zeros(3, 2)}, "a dictionary"),
        (torch.full((3, 2), torch.nan), "6 are not finite"),
    ],
)
def test_tokens_of_another_model_are_refused_and_leave_nothing(tokens: Path, content: Any, says: str) -> None:
    torch.save(content, tokens)
    with pytest.raises(FeatureStoreError, match=says):
        asked(tokens)
    assert list(tokens.parent.iterdir()) == [tokens]


def test_on_the_command_line(tokens: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core_model.models.wsi_llava.load_model", lambda *_, **__: TokenModel())
    choices = ("--option", OPTIONS[0], "--option", OPTIONS[1])
    answer = only_json(giant("ask", tokens, QUESTION, *choices, "--mode", "slide", "--json"))
    assert set(answer) == FIELDS
    assert set(answer["slide"]) == {"id", "width", "height", "mpp", "mpp_source", "warnings"}
    assert answer["mode"] == "slide"
    told = giant("ask", tokens, QUESTION, *choices, "--mode", "slide")
    assert told.stdout.startswith("Grey tissue, confidence ")
    assert "Of the tissue" not in told.stdout
    assert one_line(giant("ask", tokens, QUESTION)).endswith("Use --mode slide.")
    assert "there" in one_line(giant("ask", tokens.with_name("none.pt"), QUESTION, "--mode", "slide"))


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"options": None},
        {"model": TokenModel(abstain_below=0.99)},
        {"model": TokenModel(unknown_words=("grey",))},
    ],
)
def test_an_answer_from_tokens_replays(tokens: Path, given: dict[str, Any]) -> None:
    folder = Path(asked(tokens, **given).run_dir)
    found = follow_again(folder)
    assert found.ok, found.first_fault
    with pytest.raises(RunError, match="showed no region"):
        follow_again(folder, tokens)
    said = next((folder / "journal").glob("*.json"))
    said.unlink()
    assert f"journal/{said.name} is missing" in follow_again(folder).first_fault
