"""Reports over several slides: one bad slide stops nothing, and what is complete is not done again."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from cli_fakes import PaintModel, giant, one_line, paint

from agent import batch
from agent.batch import Asked, find_slides, folder_names
from core_model.errors import UsageError

SHORT = (
    Asked("description", "Describe this slide.", mode="slide"),
    Asked("tumour", "Is there tumour?", ("yes", "no")),
)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import core_model

    monkeypatch.setenv("GIANT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(core_model, "load_model", lambda *_, **__: PaintModel(), raising=False)
    monkeypatch.setattr(batch, "ASKED", SHORT)


def run(*args: object) -> Any:
    return giant("report", *args, "--out", "out", "--mpp", "2", "--max-steps", "4")


def lines() -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path("out/reports.jsonl").read_text().splitlines()]


def test_a_bad_slide_stops_nothing(tmp_path: Path) -> None:
    slides = tmp_path / "slides"
    slides.mkdir()
    paint(slides / "a.png", 0.9)
    (slides / "b.svs").write_text("not a slide")
    paint(slides / "c.png", 0.1)
    result = run(slides)
    assert result.exit_code == 1
    assert "1 of 3 slides failed" in result.stderr.splitlines()[-1]
    assert [(r["slide"], r["findings"][1]["choice"]) for r in lines()] == [("a", "yes"), ("c", "no")]
    assert lines()[0]["report"] == "Description: Purple tissue. Tumour: yes."
    failed = list(csv.DictReader(Path("out/failures.csv").read_text().splitlines()))
    assert [row["slide"] for row in failed] == ["b"]
    index = Path("out/index.html").read_text()
    assert 'href="a/report.html"' in index
    assert "b.svs" in index
    assert 'href="tumour/report.html"' in Path("out/a/report.html").read_text()
    assert Path("out/a/tumour/evidence.geojson").is_file()


def test_resume_skips_what_is_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    paint(Path("a.png"), 0.9)
    paint(Path("b.png"), 0.9)
    assert run("a.png").exit_code == 0
    assert "--resume" in one_line(run("a.png", "b.png"))
    asked = []
    answer = batch.Batch._report

    def noted(self: Any, path: Path, *rest: Any) -> Any:
        asked.append(path.name)
        return answer(self, path, *rest)

    monkeypatch.setattr(batch.Batch, "_report", noted)
    assert run("a.png", "b.png", "--resume").exit_code == 0
    assert asked == ["b.png"]
    assert [r["slide"] for r in lines()] == ["a", "b"]


def test_a_report_that_was_cut_short_is_done_again() -> None:
    paint(Path("a.png"), 0.9)
    assert run("a.png").exit_code == 0
    Path("out/a/report.json").write_text('{"version": 1, "sli')
    assert run("a.png", "--resume").exit_code == 0
    assert json.loads(Path("out/a/report.json").read_text())["slide"] == "a"


def test_slides_with_one_name_get_two_folders(tmp_path: Path) -> None:
    names = folder_names([tmp_path / "x" / "a.svs", tmp_path / "y" / "a.svs", tmp_path / "b.svs"])
    found = list(names.values())
    assert len(set(found)) == 3
    assert found[2] == "b"
    assert all(name.startswith("a-") for name in found[:2])


def test_slides_of_a_folder_are_those_with_a_slide_suffix(tmp_path: Path) -> None:
    folder = tmp_path / "slides"
    (folder / "inner").mkdir(parents=True)
    for name in ("b.SVS", "a.tiff", "notes.txt", ".hidden.svs", "inner/c.svs"):
        (folder / name).touch()
    found = find_slides([str(folder), str(folder / "a.tiff"), "elsewhere.svs"])
    assert [path.name for path in found] == ["a.tiff", "b.SVS", "elsewhere.svs"]


def test_a_folder_without_slides_is_wrong_usage(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises(UsageError, match="no slides"):
        find_slides([str(tmp_path / "none")])
