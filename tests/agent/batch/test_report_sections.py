"""From answers to sections: what is said once, what is left open, and what limits it all."""

from __future__ import annotations

from typing import Any

from agent_fakes import run_record

from agent.batch.questions import REPORT, SECTIONS, ReportQuestion
from agent.batch.records import Sentence, Specimen
from agent.batch.sections import QuestionRun, overview_of, report_text, sections
from agent.evidence.familiarity import unreadable
from agent.run.records import (
    Action,
    Answer,
    Claim,
    Evidence,
    SlideFacts,
    Step,
    Unreadable,
)
from core_model.slides.box import Box
from tools.records import Observation

WHOLE = Box(0, 0, 4000, 3000)
FAILED = [[[0, 0, 224, 224], "does not decode"], [[224, 0, 224, 224], "does not decode"]]
TILES = unreadable({"failed": FAILED, "tiles": 8})  # type: ignore[typeddict-item]
SPECIMEN = Specimen(
    id="1", width=4000, height=3000, mpp=0.5, mpp_source="user", tissue_mm2=1.5, pieces=1, unreadable=0.012
)
COVERAGE = {"0.5": 0.04, "8.0": 1.0}


def step(index: int, tool: str, box: Box, **data: Any) -> Step:
    seen = Observation(tool=tool, text="", box=box, mpp=1.0, image=f"regions/{index}.jpg", data=data)
    return Step(index=index, action=Action(tool=tool), observation=seen, finding=f"Finding {index}.")


def told(asked: ReportQuestion, navigator: str = "search", **answer: Any) -> QuestionRun:
    """A finished run of one question: an overview, and the slide model's words about the whole slide."""
    steps = [
        step(1, "overview", WHOLE, width_px=800, height_px=600),
        step(2, "ask_region", WHOLE, answer="Pink."),
    ]
    evidence = [Evidence(step=2, tool="ask_region", box=WHOLE, mpp=1.0, finding="Supports it.")]
    given = {"answer": "Words.", "confidence": 0.7, "evidence": evidence, "coverage": COVERAGE} | answer
    facts = SlideFacts(id="1")
    made = Answer(question=asked.question, model="m", mode="agent", slide=facts, run_dir="/x", **given)
    left_out = [Unreadable(box=Box(*box), why=why) for box, why in FAILED]
    run = run_record(question=asked.question, navigator=navigator, tiles=8, unreadable=left_out)
    return QuestionRun(asked, run, made, {one.index: one for one in steps})


def asked(name: str, section: str = "ancillary findings", **more: Any) -> ReportQuestion:
    return ReportQuestion(name=name, section=section, question=f"{name}?", **more)  # type: ignore[arg-type]


def made(*runs: QuestionRun) -> dict[str, list[Sentence]]:
    parts = sections(runs, SPECIMEN, COVERAGE)
    assert [part.name for part in parts] == list(SECTIONS)
    return {part.name: part.sentences for part in parts}


def texts(sentences: list[Sentence]) -> list[str]:
    return [one.text for one in sentences]


def test_the_same_reason_is_told_once() -> None:
    why = f"The model does not know this slide. {TILES}"
    runs = [told(asked(name), abstained=True, reason=why) for name in ("necrosis", "mitoses")]
    parts = made(*runs)
    assert texts(parts["ancillary findings"]) == ["No answer on necrosis.", "No answer on mitoses."]
    assert {one.why for one in parts["ancillary findings"]} == {"The model does not know this slide."}
    assert texts(parts["limits"]) == [
        "Of the tissue, 100 % was shown at 8 µm/px or finer and 4 % at 0.5 µm/px or finer.",
        "2 of 10 tiles could not be read and were left out; run.json lists them.",
        "Not answered: necrosis, mitoses. The model does not know this slide.",
    ]
    assert [(one.text, one.why) for one in parts["grade"]] == [
        ("No answer.", "The model does not know this slide.")
    ]


def test_what_limits_some_answers_names_them() -> None:
    runs = [
        told(asked("necrosis", options=("absent", "focal")), choice="absent", reason=TILES),
        told(asked("mitoses"), reason=f"The model never saw these words: 'x'. {TILES}"),
    ]
    parts = made(*runs)
    necrosis, mitoses = parts["ancillary findings"]
    assert necrosis.text == "Absent."
    assert necrosis.seen is not None
    assert necrosis.whole == f"Absent. {necrosis.seen}"
    assert (mitoses.text, mitoses.seen) == ("Pink.", None)
    assert texts(parts["limits"])[2:] == ["Mitoses: The model never saw these words: 'x'."]


def test_words_of_the_slide_model_are_not_those_of_a_chat_model() -> None:
    parts = made(told(asked("stroma"), navigator="chat", answer="Fibrous."))
    assert texts(parts["ancillary findings"]) == ["Fibrous."]


def test_a_report_without_a_diagnosis_for_it_has_the_answer_itself() -> None:
    against = Claim(text="It could be benign.", steps=[2], section="diagnosis", against=True)
    parts = made(told(REPORT, navigator="chat", answer="Carcinoma.", claims=[against]))
    assert [(one.text, one.against) for one in parts["diagnosis"]] == [
        ("It could be benign.", True),
        ("Carcinoma.", False),
    ]
    assert [one.why for one in parts["grade"]] == ["The model said nothing of it."]


def test_the_specimen_is_what_was_measured() -> None:
    run = told(asked("necrosis"))
    parts = made(run)
    assert texts(parts["specimen"]) == [
        "The scan measures 2 mm × 1.5 mm: 4,000 × 3,000 px at 0.5 µm/px.",
        "Tissue covers 1.5 mm² in 1 piece.",
        "1 % of the scan cannot be read.",
    ]
    (cited,) = parts["specimen"][1].evidence
    assert (cited.run, cited.step, cited.image) == ("necrosis", 1, "necrosis/regions/1.jpg")
    found = overview_of([run])
    assert found is not None
    assert (found[0].width_px, found[0].height_px) == (800, 600)
    words = report_text(sections([run], SPECIMEN, COVERAGE)).splitlines()
    assert [line.split(":")[0].lower() for line in words] == list(SECTIONS)


def test_sentences_that_were_not_checked_are_marked_and_counted() -> None:
    why = "it is in a language in which claims are not checked"
    claim = Claim(text="Brak mitoz.", steps=[1], section="diagnosis", unchecked=why)
    parts = made(told(REPORT, navigator="chat", answer="Rak.", claims=[claim]))
    assert parts["diagnosis"][0].unchecked == why
    assert "1 sentence is in a language in which claims are not checked, and marked." in texts(
        parts["limits"]
    )
