"""Structured reports by a chat model: one run per slide, whose claims name the sections they belong to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from batch_jobs import dab
from chat_server import ChatServer, Served, calls, error, text_of
from cli_fakes import PaintModel, giant

from agent.batch import batch
from agent.batch import plan as batch_plan
from agent.batch.workers import in_this_process

KEY = "sk-test-0123456789abcdef0123456789abcdef"
CLAIMS = [
    {"text": "Sheets of purple cells.", "steps": [1], "section": "Microscopic description"},
    {"text": "Purple carcinoma.", "steps": [1, 2], "section": "Diagnosis:"},
    {"text": "It might be pink.", "steps": [2], "section": "diagnosis", "against": True},
    {"text": "Nuclear grade 2.", "steps": [99], "section": "GRADE"},
    {"text": "No necrosis.", "steps": [2], "section": "ancillary findings"},
    {"text": "Resection of the left breast.", "steps": [1], "section": "specimen"},
    {"text": "Margins are not on the slide.", "steps": [1], "section": "limits"},
]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIANT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(batch_plan, "_from_disk", lambda model: PaintModel())
    monkeypatch.setattr(batch, "in_processes", lambda work, jobs, count: in_this_process(work, jobs))


def answering(**answer: Any) -> Any:
    """A script: one look, then this answer; the second pathologist agrees with it."""
    given = {"choice": "purple carcinoma", "text": "Purple carcinoma.", "confidence": 0.8} | answer

    def script(request: dict[str, Any], number: int) -> Served:
        names = {tool["function"]["name"] for tool in request["tools"]}
        if "verdict" in names:
            return calls(("verdict", {"choice": given["choice"], "confidence": given["confidence"]}))
        if names == {"answer"} or any(message["role"] == "assistant" for message in request["messages"]):
            return calls(("answer", given))
        return calls(("zoom", {"x": 100, "y": 100, "w": 200, "h": 200, "mpp": 0, "reason": "Closer."}))

    return script


def report(server: ChatServer, *more: object) -> Any:
    where = ("--model", "openai:scripted", "--base-url", server.url, "--mpp", "2", "--out", "out")
    return giant("report", "slides", *where, *more)


def sections(line: str) -> dict[str, list[dict[str, Any]]]:
    return {section["name"]: section["sentences"] for section in json.loads(line)["sections"]}


def test_claims_become_the_sections_of_the_report() -> None:
    Path("slides").mkdir()
    dab(Path("slides/Doe-Jane-1970.png"), 0.9)
    with ChatServer(answering(claims=CLAIMS)) as server:
        result = report(server)
        said = [text_of(request.body) for request in server.requests]
    assert result.exit_code == 0, result.output
    assert "structured pathology report" in said[0]
    assert not any("Doe" in words or "Jane" in words for words in said)
    made = sections(Path("out/reports.jsonl").read_text())
    assert [one["text"] for one in made["microscopic description"]] == [
        "Sheets of purple cells.",
        "Resection of the left breast.",
    ]
    for_it, against = made["diagnosis"]
    assert (for_it["text"], for_it["against"]) == ("Purple carcinoma.", False)
    assert [(cited["run"], cited["step"]) for cited in for_it["evidence"]] == [("report", 1), ("report", 2)]
    assert for_it["evidence"][1]["box"] == [100, 100, 200, 200]
    assert 0 < for_it["confidence"] <= 0.8
    assert against["against"]
    assert made["grade"][0]["unsupported"]
    assert made["grade"][0]["evidence"] == []
    assert made["ancillary findings"][0]["seen"].startswith("Of the tissue, ")
    assert not any("breast" in one["text"] for one in made["specimen"])
    assert "Margins are not on the slide." in [one["text"] for one in made["limits"]]
    assert any("not supported by what was seen" in one["text"] for one in made["limits"])
    page = Path("out/Doe-Jane-1970/report.html").read_text()
    assert "Not supported by what was seen" in page
    assert "Speaks against the answer given" in page
    assert KEY not in "".join(path.read_text() for path in Path("out").rglob("*.json"))


def test_an_abstention_says_so_in_every_section_it_leaves_open() -> None:
    Path("slides").mkdir()
    dab(Path("slides/a.png"), 0.9)
    seen = {"text": "Purple cells are seen.", "steps": [2], "section": "diagnosis"}
    giving_up = answering(claims=[seen], abstain=True, reason="The regions contradict each other.")
    with ChatServer(giving_up) as server:
        assert report(server).exit_code == 0
    made = sections(Path("out/reports.jsonl").read_text())
    assert [one["text"] for one in made["microscopic description"]] == ["Purple cells are seen."]
    for name in ("diagnosis", "grade", "ancillary findings"):
        (only,) = made[name]
        assert only["abstained"]
        assert "contradict" in only["why"]
    assert "not answered" in Path("out/index.html").read_text()


def test_a_server_that_fails_costs_the_slide_alone_and_resume_finishes_it() -> None:
    Path("slides").mkdir()
    dab(Path("slides/a.png"), 0.9)
    dab(Path("slides/b.png"), 0.1)
    good, down = answering(claims=CLAIMS[:2]), [True]

    def script(request: dict[str, Any], number: int) -> Served:
        return error(401, f"the key {KEY} is wrong") if down[0] and number > 4 else good(request, number)

    with ChatServer(script) as server:
        result = report(server)
        assert result.exit_code == 1
        failed = Path("out/failures.csv").read_text()
        assert "ProviderError" in failed
        assert KEY not in failed
        before, down[0] = len(server.requests), False
        assert report(server, "--resume").exit_code == 0
        keys = server.completed()
    assert len(Path("out/reports.jsonl").read_text().splitlines()) == 2
    assert len(keys) == len(set(keys))  # no call that was answered is made again
    assert before > 4
