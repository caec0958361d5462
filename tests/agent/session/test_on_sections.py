"""A run on a slide with two sections, one out of focus: what is asked, said, kept and followed again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cli_fakes import giant
from drawn_tissue import scanned, tissue_like, two_sections, write
from painted_slides import ColourModel

import agent
from agent.batch.questions import ReportQuestion
from agent.batch.records import Specimen
from agent.batch.sections import QuestionRun, _limits, _own_reason, _specimen
from agent.evidence.check import check_answer
from agent.evidence.coverage import blurred_in_words
from agent.replay.follow import follow_again
from agent.run.folder import read_answer, read_run, read_trace
from agent.run.journal import seal
from agent.run.records import Answer, RunRecord, Step
from core_model.files import write_json
from core_model.slides.box import Box

OPTIONS = ["grey tissue", "pink tissue"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GIANT_CACHE", str(folder / "cache"))
        slide = two_sections(folder / "two.tiff")
        model = ColourModel(sharpness=0.3)
        agent.ask(slide, "Which tissue is it?", out=folder / "run", options=OPTIONS, model=model, max_steps=9)
    return folder / "run"


@pytest.fixture(scope="module")
def steps(made: Path) -> list[Step]:
    return read_trace(made)


@pytest.fixture(scope="module")
def answer(made: Path) -> Answer:
    return read_answer(made)


@pytest.fixture(scope="module")
def record(made: Path) -> RunRecord:
    return read_run(made)


def test_the_navigator_goes_only_where_it_is_sharp(steps: list[Step]) -> None:
    parts = [step for step in steps if step.action.tool in ("zoom", "ask_region")][1:]
    assert len(parts) > 3
    assert all(step.observation.ok for step in parts)
    assert all(Box(*step.action.args["box"]).right < 1700 for step in parts)


def test_answer_and_record_say_what_was_not_asked_about(
    answer: Answer, steps: list[Step], record: RunRecord
) -> None:
    assert not answer.abstained
    assert answer.reason == "39 % of the tissue is out of focus and was not asked about."
    assert record.out_of_focus == pytest.approx(0.39, abs=0.01)
    assert record.blurred
    assert all(box.x > 1400 for box in record.blurred)
    assert check_answer(answer, steps) == []


def test_places_and_findings_stand_with_their_section(made: Path, answer: Answer) -> None:
    assert "The regions it was asked about lie in section 1 of 2." in answer.answer
    regions = [item for item in answer.evidence if item.box is not None and item.box.w < 2000]
    assert regions
    assert all("section 1 of 2" in item.finding for item in regions)
    assert "section 1 of 2" in (made / "report.html").read_text()
    assert "; section 1 of 2" in (made / "report.md").read_text()
    assert "Out of focus | 39 % of the tissue" in (made / "report.md").read_text().replace("\u00a0", " ")
    features = json.loads((made / "evidence.geojson").read_text())["features"]
    parts = {feature["properties"]["metadata"].get("part") for feature in features}
    assert "section 1 of 2" in parts
    assert "out of focus" in {feature["properties"]["name"] for feature in features}


def test_it_is_followed_again_to_the_byte(made: Path) -> None:
    again = follow_again(made)
    assert again.problems == []
    assert [file.file for file in again.files if file.differs] == []


def test_a_report_says_it_once_and_not_as_the_reason(made: Path) -> None:
    run = QuestionRun.read(ReportQuestion(name="tissue", section="grade", question="?"), made)
    assert _own_reason(run) == ""
    told = [sentence.text for sentence in _limits([run, run], run.answer.coverage)]
    assert told.count("39 % of the tissue is out of focus and was not asked about.") == 1


def test_a_slide_out_of_focus_is_not_asked_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIANT_CACHE", str(tmp_path / "cache"))
    slide = write(tmp_path / "blurred.tiff", scanned(tissue_like(900, 900, 1.0), 4.0, 1.0), 1.0)
    answer = agent.ask(
        slide, "Which tissue is it?", out=tmp_path / "run", options=OPTIONS, model=ColourModel()
    )
    assert answer.abstained
    assert "out of focus" in (answer.reason or "")


def test_a_run_that_measured_no_focus_is_followed_again_without(made: Path, tmp_path: Path) -> None:
    """As of earlier versions: no entry in the journal, no fields in the record, and the slide all sharp."""
    folder = tmp_path / "cache-less"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GIANT_CACHE", str(tmp_path / "cache"))
        slide = two_sections(tmp_path / "sharp.tiff", blur_um=0.0)
        model = ColourModel(sharpness=0.3)
        agent.ask(slide, "Which tissue is it?", out=folder, options=OPTIONS, model=model, max_steps=5)
    assert "out_of_focus" in json.loads((folder / "run.json").read_text())
    (folder / "journal/quality-focus.json").unlink()
    old = read_run(folder).model_copy(update={"out_of_focus": None, "sealed": seal(folder)})
    write_json(folder / "run.json", old)
    assert "out_of_focus" not in json.loads((folder / "run.json").read_text())
    again = follow_again(folder)
    assert again.problems == []
    assert [file.file for file in again.files if file.differs] == []


def test_giant_tissue_tells_and_writes_sections_and_blur(made: Path, tmp_path: Path) -> None:
    result = giant("tissue", str(made.parent / "two.tiff"), "--out", str(tmp_path), "--json")
    assert result.exit_code == 0, result.output
    (row,) = json.loads(result.stdout)["slides"]
    assert [part["section"] for part in row["sections"]] == ["1", "2"]
    assert row["out_of_focus"] == pytest.approx(0.39, abs=0.01)
    assert row["folded"] == 0.0
    features = json.loads((tmp_path / "two.geojson").read_text())["features"]
    named = {one["properties"]["name"]: one["properties"]["metadata"]["part"] for one in features}
    assert named["tissue 1"] == "section 1"
    assert named["tissue 2"] == named["out of focus 1"] == "section 2"
    words = giant("tissue", str(made.parent / "two.tiff")).stdout
    assert f"; 2 sections; {row['out_of_focus']:.1%} of it is out of focus" in words


@pytest.mark.parametrize(
    ("share", "asked", "words"),
    [
        (0.123, True, "12 % of the tissue is out of focus and was not asked about."),
        (0.001, False, "Under 1 % of the tissue is out of focus."),
        (0.0, True, None),
        (None, True, None),
    ],
)
def test_the_share_is_told_in_words(share: float | None, asked: bool, words: str | None) -> None:
    assert blurred_in_words(share, asked) == words


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        ({}, "Tissue covers 1.5 mm² in 4 pieces."),
        ({"sections": 2}, "Tissue covers 1.5 mm² in 4 pieces, which form 2 sections."),
        ({"cores": 4, "folded": 0.02}, "Tissue covers 1.5 mm² in 4 pieces, 4 cores of a tissue microarray."),
    ],
)
def test_a_report_says_what_the_pieces_form(made: Path, seen: dict[str, Any], words: str) -> None:
    run = QuestionRun.read(ReportQuestion(name="tissue", section="grade", question="?"), made)
    specimen = Specimen(
        id="1",
        width=9,
        height=9,
        mpp=1.0,
        mpp_source="user",
        tissue_mm2=1.5,
        pieces=4,
        unreadable=0.0,
        **seen,
    )
    told = [sentence.text for sentence in _specimen(specimen, [run])]
    assert words in told
    assert ("2 % of the tissue is folded." in told) == ("folded" in seen)
