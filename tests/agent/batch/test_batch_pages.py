"""The pages of a batch and what a person sees of its progress."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from agent.batch import batch
from agent.batch.pages import Done, Failure, write_index
from agent.batch.questions import BUILT_IN, SECTIONS, read_questions, section_of
from agent.batch.records import Section, Sentence, SlideReport, Specimen
from agent.batch.slide import Job, Reported
from agent.batch.workers import Ended
from agent.cli.progress import Bar, Lines, Pace, in_time, watching
from agent.run.records import Cost
from core_model.errors import UsageError

EVIL = '<script>alert("x")</script>'


def report(name: str, **diagnosis: object) -> SlideReport:
    said = {section: [Sentence(text=f"About {section}.")] for section in SECTIONS}
    said["diagnosis"] = [Sentence(text="Adenocarcinoma.", confidence=0.9, **diagnosis)]  # type: ignore[arg-type]
    return SlideReport(
        slide=name,
        report="",
        sections=[Section(name=section, sentences=said[section]) for section in SECTIONS],
        findings=[],
        specimen=Specimen(
            id="1",
            width=4000,
            height=2000,
            mpp=0.5,
            mpp_source="user",
            tissue_mm2=1.2,
            pieces=2,
            unreadable=0.25,
        ),
        coverage={"0.5": 0.1},
        overview=None,
        model="mini 1",
        giant="0",
        cost=Cost(),
    )


def test_the_index_lists_everything_and_loads_nothing(tmp_path: Path) -> None:
    done = [
        Done("/x/a.svs", report("a b&c")),
        Done("/x/none.svs", report("none", abstained=True)),
        Done("/x/bad.svs", report("bad", unsupported="step 9 does not exist")),
    ]
    failures = [Failure(EVIL, "/x/evil,\n.svs", "SlideError", f"it says {EVIL}")]
    write_index(tmp_path, done, failures, total=6)
    page = (tmp_path / "index.html").read_text()
    assert "3 slides reported, 1 failed, 2 to do" in page
    assert 'href="a%20b%26c/report.html"' in page
    assert "<script" not in page
    assert "default-src 'none'" in page
    assert not re.findall(r"(?:https?:)?//[a-z]", page)
    for tag in ("1 not answered", "1 unsupported", "25&nbsp;% unreadable".replace("&nbsp;", "\u00a0")):
        assert tag in page
    lines = [json.loads(line) for line in (tmp_path / "reports.jsonl").read_text().splitlines()]
    assert [(line["path"], line["slide"]) for line in lines] == [(d.path, d.report.slide) for d in done]
    rows = list(csv.DictReader(io.StringIO((tmp_path / "failures.csv").read_text())))
    assert rows == [
        {"slide": EVIL, "path": "/x/evil,\n.svs", "type": "SlideError", "error": f"it says {EVIL}"}
    ]


def test_an_index_of_nothing(tmp_path: Path) -> None:
    write_index(tmp_path, [], [], total=3)
    assert "0 slides reported, 3 to do" in (tmp_path / "index.html").read_text()
    assert (tmp_path / "reports.jsonl").read_text() == ""


def test_the_time_left_comes_from_slides_done_here() -> None:
    now = [100.0]
    pace = Pace(10, clock=lambda: now[0])
    pace.ended(new=False)
    assert pace.seconds_left is None
    assert pace.left() == ""
    now[0] += 30
    pace.ended(new=True)
    assert pace.seconds_left == 8 * 30
    assert pace.left() == "4 min left"
    for _ in range(8):
        pace.ended(new=True)
    assert pace.left() == ""


def test_times_in_words() -> None:
    assert [in_time(s) for s in (0.2, 44, 61, 3599, 7260)] == [
        "1 s",
        "44 s",
        "1 min",
        "1 h 0 min",
        "2 h 1 min",
    ]


def console(terminal: bool) -> tuple[Console, io.StringIO]:
    heard = io.StringIO()
    made = Console(file=heard, force_terminal=terminal, width=100, markup=False, highlight=False)
    return made, heard


def test_one_line_per_slide_where_nobody_watches() -> None:
    to, heard = console(terminal=False)
    with watching(to, 2, quiet=False) as watch:
        assert isinstance(watch, Lines)
        watch.started("a")
        watch.ended("a", "reported", new=False)
        watch.ended("b", "[red]it[/red] is empty", new=False)
    assert heard.getvalue() == "1/2 a: reported\n2/2 b: [red]it[/red] is empty\n"


def test_quiet_says_nothing() -> None:
    to, heard = console(terminal=True)
    with watching(to, 1, quiet=True) as watch:
        watch.started("a")
        watch.ended("a", "reported", new=True)
    assert heard.getvalue() == ""


def test_a_terminal_sees_bar_time_and_slides_in_hand() -> None:
    to, heard = console(terminal=True)
    now = [0.0]
    with Bar(to, 9, Pace(9, clock=lambda: now[0])) as bar:
        for name in ("a", "b[x]", "c", "d", "e"):
            bar.started(name)
        now[0] = 10.0
        bar.ended("a", "reported", new=True)
    seen = heard.getvalue()
    assert "1/9" in seen
    assert "1 min left" in seen
    assert "b[x], c, d and 1 more" in seen
    assert "a: reported" in seen


def test_questions_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "questions.json"
    for text, said in (
        ("[", "no list of questions"),
        ("[]", "holds no question"),
        ('[{"name": "A b", "section": "grade", "question": "?"}]', r"1\.name"),
        ('[{"name": "a", "section": "limits", "question": "?"}]', "measured, not asked"),
        ('[{"name": "a", "section": "mood", "question": "?"}]', r"1\.section"),
        (
            '[{"name": "a", "section": "grade", "question": "?", "options": ["x"], "says": {"z": "Z."}}]',
            "no options",
        ),
        ('[{"name": "a", "section": "grade", "question": "?"}, {}]', "2"),
    ):
        path.write_text(text)
        with pytest.raises(UsageError, match=said):
            read_questions(path)
    path.write_text(json.dumps([asked.model_dump(mode="json") for asked in BUILT_IN]))
    assert read_questions(path) == BUILT_IN


def test_sections_as_models_write_them() -> None:
    said = {
        "Diagnosis:": "diagnosis",
        " GRADE ": "grade",
        "grading": "grade",
        "Ancillary": "ancillary findings",
    }
    said |= {"limitations": "limits", "": "microscopic description", "Specimen": "microscopic description"}
    assert {words: section_of(words) for words in said} == said
    assert section_of(None) == "microscopic description"


def test_long_pages_are_not_written_after_every_slide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, written = [0.0], list[int]()

    def slow(out: Path, done: list[Done], failures: list[Failure], total: int) -> None:
        now[0] += 1.0
        written.append(len(done))

    monkeypatch.setattr(batch, "write_index", slow)
    ledger = batch._Ledger(
        tmp_path,
        [Job(Path(f"{n}.svs"), str(n)) for n in range(40)],
        batch.Nobody(),
        clock=lambda: now[0],
    )
    for number in range(40):
        now[0] += 1.0
        ledger.hear(Ended(number, Reported(report(str(number)), new=True)))
    ledger.write()
    assert written == [1, 11, 21, 31, 40]
