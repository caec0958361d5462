"""Open answers scored from results alone: what is counted, kept, and asked again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import chat_server as served
import pytest
from chat_server import ChatServer, Served
from typer.testing import CliRunner

from agent.cli.app import build_app
from core_model.errors import RunError
from eval.asking.jsonl import write_lines
from eval.asking.results import RESULTS, Result, read_results
from eval.metrics.text import text_metrics
from eval.scores.judge import EntityOverlap, JudgeFailed, JudgeStopped
from eval.scores.texts import JUDGEMENTS, add_texts, read_judgements, score_texts

REFERENCE = "The tumor is a squamous cell carcinoma. There is focal necrosis."
ANSWERS = [REFERENCE, "Squamous cell carcinoma.", "Benign tissue.", None]


def result(number: int, said: str | None, mode: str = "agent", **more: Any) -> Result:
    return Result(
        benchmark="report", id=str(number), mode=mode, slide="s", question="What is seen?", metric="text",
        truth=REFERENCE, position=None, options=None, said=said, abstained=said is None, **more,
    )  # fmt: skip


RESULTS_OF = [result(number, said) for number, said in enumerate(ANSWERS)]


class Counting(EntityOverlap):
    """Counts what it is asked; fails or stops at certain texts."""

    def __init__(self, fails: str = "", stops: str = "", kills: str = "") -> None:
        self.fails, self.stops, self.kills, self.asked = fails, stops, kills, list[str]()

    def claims(self, text: str, question: str) -> list[str]:
        self.asked.append(text)
        for at, error in (
            (self.fails, JudgeFailed),
            (self.stops, JudgeStopped),
            (self.kills, KeyboardInterrupt),
        ):
            if at and at in text:
                raise error("enough")
        return super().claims(text, question)


def test_abstentions_and_failures_are_the_empty_text(tmp_path: Path) -> None:
    """Leaving out what is hard does not help, and a failure's words are no answer."""
    failed = result(4, "Squamous cell carcinoma.").model_copy(update={"error": "no such slide"})
    found = score_texts([*RESULTS_OF, failed], EntityOverlap(), tmp_path)["report"]["agent"]
    texts = [said or "" for said in ANSWERS] + [""]
    for name, value in text_metrics([REFERENCE] * 5, texts).items():
        assert found[name] == value
    assert (found["n"], found["judge"]) == (5, "entity-overlap")
    assert found["wsi_precision_n"] == found["wsi_relevance_n"] == 5
    assert found["wsi_precision"] == pytest.approx((1 + (0.7 + 0) / 2 + 0 + 0 + 0) / 5)
    assert found["wsi_relevance"] == pytest.approx((1 + 1 + 0 + 0 + 0) / 5)
    assert found["wsi_precision_low"] < found["wsi_precision"] < found["wsi_precision_high"]
    assert (found["judge_failures"], found["not_judged"]) == (0, 0)


def test_closed_questions_are_none_of_it(tmp_path: Path) -> None:
    closed = RESULTS_OF[0].model_copy(update={"metric": "accuracy"})
    assert score_texts([closed], EntityOverlap(), tmp_path) == {}
    assert not (tmp_path / JUDGEMENTS).exists()


def test_without_a_judge_words_alone_are_scored(tmp_path: Path) -> None:
    found = score_texts(RESULTS_OF, None, tmp_path)["report"]["agent"]
    assert "rouge_l" in found
    assert not any(name.startswith(("wsi", "judge")) for name in found)


def test_failures_are_counted_and_left_out_of_the_mean(tmp_path: Path) -> None:
    found = score_texts(RESULTS_OF, Counting(fails="Benign"), tmp_path)["report"]["agent"]
    assert (found["judge_failures"], found["wsi_relevance_n"], found["wsi_precision_n"]) == (1, 3, 4)
    assert found["wsi_relevance"] == pytest.approx(2 / 3)
    kept = read_judgements(tmp_path)[2]
    assert (kept.relevance, kept.failures, kept.precision) == (None, ("enough",), 0.0)


def test_judgements_are_kept_with_their_claims_and_not_made_again(tmp_path: Path) -> None:
    judge = Counting()
    first = score_texts(RESULTS_OF, judge, tmp_path)
    made = len(judge.asked)
    assert score_texts(RESULTS_OF, judge, tmp_path) == first
    assert score_texts(RESULTS_OF, None, tmp_path) == first
    assert len(judge.asked) == made
    assert read_judgements(tmp_path)[1].wanted[1] == ("There is focal necrosis.", 0.0)
    other = [result(0, "Something else."), *RESULTS_OF[1:]]
    assert score_texts(other, None, tmp_path)["report"]["agent"]["not_judged"] == 1
    score_texts(other, judge, tmp_path)
    assert len(judge.asked) == made + 2
    judge.rules = "other"  # type: ignore[misc]
    score_texts(other, judge, tmp_path)
    assert len(judge.asked) > made + 4
    assert {kept.rules for kept in read_judgements(tmp_path)} == {EntityOverlap.rules, "other"}


@pytest.mark.parametrize("cut", [False, True])
def test_an_interrupted_scoring_goes_on(tmp_path: Path, cut: bool) -> None:
    with pytest.raises(KeyboardInterrupt):
        score_texts(RESULTS_OF, Counting(kills="Benign"), tmp_path)
    assert len(read_judgements(tmp_path)) == 2
    if cut:
        whole = (tmp_path / JUDGEMENTS).read_bytes()
        (tmp_path / JUDGEMENTS).write_bytes(whole[:-20])
    judge = Counting()
    found = score_texts(RESULTS_OF, judge, tmp_path)
    assert len(judge.asked) == (4 if cut else 2)
    assert found == score_texts(RESULTS_OF, Counting(), tmp_path / "..")


def test_a_judge_without_money_leaves_the_rest_open(tmp_path: Path) -> None:
    found = score_texts(RESULTS_OF, Counting(stops="Squamous"), tmp_path, workers=2)["report"]["agent"]
    assert found["not_judged"] >= 1
    assert found["judge_failures"] == 0
    judged = found["wsi_precision_n"]
    assert judged + found["not_judged"] == 4
    assert score_texts(RESULTS_OF, Counting(), tmp_path)["report"]["agent"]["not_judged"] == 0


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    score_texts(RESULTS_OF, EntityOverlap(), tmp_path)
    lines = (tmp_path / JUDGEMENTS).read_text().splitlines()
    (tmp_path / JUDGEMENTS).write_text("\n".join([lines[0][:-9], *lines[1:]]) + "\n")
    with pytest.raises(RunError, match="line 1 is damaged: it is not a judgement"):
        read_judgements(tmp_path)


def test_results_keep_every_sign(tmp_path: Path) -> None:
    """Some signs end a line for Python and for nobody else."""
    odd = [result(0, "one\u2028two\x85three\x0bfour\ud83d\ude00"[:-2]), result(1, "five")]
    write_lines(tmp_path / RESULTS, odd)
    assert read_results(tmp_path / RESULTS) == odd
    found = score_texts(odd, EntityOverlap(), tmp_path)
    assert score_texts(odd, None, tmp_path) == found


def test_figures_go_into_the_summary(tmp_path: Path) -> None:
    summary: dict[str, Any] = {"tasks": {"report": {"agent": {"n": 4}, "blind": {"n": 4}}}}
    both = [*RESULTS_OF, *(result(number, "Necrosis.", "blind") for number in range(4))]
    add_texts(summary, both, tmp_path, EntityOverlap())
    assert summary["tasks"]["report"]["agent"]["text"]["n"] == 4
    assert summary["tasks"]["report"]["blind"]["text"]["bleu_1"] < 0.1


def scored(folder: Path, *options: str) -> Any:
    return CliRunner().invoke(build_app(), ["eval", "score", str(folder), *options])


def test_the_command_judges_and_scores_again_without_the_judge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    def script(request: dict[str, Any], number: int) -> Served:
        tool = request["tools"][0]["function"]["name"]
        data = json.loads(served.text_of(request).rsplit("\n\n", 1)[1])
        said: Sequence[Any] = [data["text"]] if tool == "statements" else [0.7] * len(data["statements"])
        return served.calls((tool, {tool: said}))

    write_lines(tmp_path / RESULTS, RESULTS_OF)
    with ChatServer(script) as server:
        done = scored(tmp_path, "--judge", "openai:tiny", "--base-url", server.url, "--workers", "2")
        assert done.exit_code == 0, done.output
        asked = len(server.requests)
    assert asked == 2 + 2 * 3  # the reference is split once; the first answer is the reference
    found = json.loads((tmp_path / "summary.json").read_text())["tasks"]["report"]["agent"]["text"]
    assert found["wsi_precision"] == pytest.approx(0.7 * 3 / 4)
    assert (found["judge"], found["judge_failures"]) == ("openai:tiny", 0)
    assert "openai:tiny" in (tmp_path / "index.html").read_text()
    assert scored(tmp_path).exit_code == 0
    again = json.loads((tmp_path / "summary.json").read_text())["tasks"]["report"]["agent"]["text"]
    assert again == found


def test_wrong_judges_on_the_command_line(tmp_path: Path) -> None:
    write_lines(tmp_path / RESULTS, RESULTS_OF)
    assert scored(tmp_path, "--judge", "gpt").exit_code != 0
    assert scored(tmp_path, "--judge", "entity-overlap").exit_code == 0
