"""A slide on a server by its address, in every command that takes slides."""

from __future__ import annotations

import json
from pathlib import Path

import multi_files as many
import pytest
from cli_fakes import PaintEncoder, PaintModel, giant, one_line, only_json
from dicomweb_server import DicomWebServer
from slide_files import stained

from agent.batch import batch
from agent.batch import plan as batch_plan
from agent.batch.workers import in_this_process

SECRET = "s3cret-t0ken"
NEEDLES = (many.PATIENT, many.PLANTED, many.PATIENT.replace(" ", "^"), SECRET)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIANT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("GIANT_DICOMWEB_TOKEN", SECRET)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("core_model.models.wsi_llava.load_model", lambda *_, **__: PaintModel())
    monkeypatch.setattr("core_model.models.tile_encoders.load_tile_encoder", lambda *_, **__: PaintEncoder())
    monkeypatch.setattr(batch_plan, "_from_disk", lambda model: PaintModel())
    monkeypatch.setattr(batch, "in_processes", lambda work, jobs, count: in_this_process(work, jobs))
    many.write_dicom(tmp_path / "series", stained(512, 512), mpp=2.0)


@pytest.mark.parametrize("command", ["ask", "doctor", "index", "report"])
def test_an_address_is_taken_as_a_file_is(command: str, tmp_path: Path) -> None:
    more = {
        "ask": ("Which?", "--option", "a", "--option", "b", "--max-steps", 2, "--out", "out", "--json"),
        "doctor": ("--json",),
        "index": ("--out", "out", "--quiet"),
        "report": ("--out", "out", "--quiet", "--max-steps", 2),
    }
    with DicomWebServer(tmp_path / "series", token=SECRET) as server:
        result = giant(command, server.url, *more[command])
    assert result.exit_code == 0, result.output
    if command == "ask":
        answer = only_json(result)
        assert (answer["slide"]["width"], answer["slide"]["mpp"]) == (512, 2.0)
    if command == "doctor":
        assert [check["status"] for check in json.loads(result.stdout)["checks"]] == ["ok"]
    written = b"".join(path.read_bytes() for path in Path("out").rglob("*") if path.is_file())
    said = result.output.encode() + written
    assert not [needle for needle in NEEDLES if needle.lower().encode() in said.lower()]


@pytest.mark.parametrize(
    "address", ["https://server.example/dicomweb", "http://127.0.0.1:9/studies/1/series/2"]
)
def test_an_address_that_leads_nowhere_is_one_line(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core_model.slides.formats.dicomweb.WAIT_MS", 1)
    result = giant("ask", address, "Which?", "--option", "a", "--option", "b")
    assert result.exit_code == 1
    assert SECRET not in one_line(result)
