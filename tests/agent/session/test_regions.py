"""A question about annotated regions alone: what lies outside does not count, and the answer says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cli_fakes import giant
from painted_slides import ColourModel, paint

import agent
from agent.run.records import Answer, Step
from core_model.errors import GiantError, NoTissue, UsageError
from core_model.slides.box import Box

OPTIONS = ["grey tissue", "pink tissue"]
PINK = Box(1150, 100, 250, 800)
"""Within the pink part of a slide that is four fifths purple ("grey" to the model)."""


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIANT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def draw(path: Path, box: Box, name: str = "margin") -> Path:
    ring = [[box.x, box.y], [box.right, box.y], [box.right, box.bottom], [box.x, box.bottom], [box.x, box.y]]
    area = {"type": "Polygon", "coordinates": [ring]}
    path.write_text(json.dumps([{"type": "Feature", "geometry": area, "properties": {"name": name}}]))
    return path


def ask(slide: Path, **given: Any) -> tuple[list[Step], Answer]:
    given = {"options": OPTIONS, "model": ColourModel(), "mpp": 2.0} | given
    *steps, answer = agent.stream(slide, "Which tissue is it?", **given)
    assert isinstance(answer, Answer)
    return [step for step in steps if isinstance(step, Step)], answer


def test_the_answer_is_that_of_the_regions_and_says_so(tmp_path: Path) -> None:
    slide, regions = paint(tmp_path / "slide.png", 0.8), draw(tmp_path / "pink.geojson", PINK)
    _, whole = ask(slide)
    steps, answer = ask(slide, regions=regions)
    assert (whole.choice, answer.choice) == ("grey tissue", "pink tissue")
    assert answer.slide.warnings == ["Only tissue in 1 annotated region (margin) was looked at."]
    assert whole.slide.warnings == []
    assert "annotated region" in (Path(answer.run_dir) / "report.html").read_text()
    assert answer.run_dir != whole.run_dir
    looked = [step.observation.box for step in steps if step.action.tool not in ("overview",)]
    assert all(box is None or box.intersect(PINK) for box in looked)


def test_such_a_run_is_replayed_and_resumed_with_the_same_regions_only(tmp_path: Path) -> None:
    slide, regions = paint(tmp_path / "slide.png", 0.8), draw(tmp_path / "pink.geojson", PINK)
    _, answer = ask(slide, regions=regions, out=tmp_path / "run")
    assert giant("replay", answer.run_dir).exit_code == 0
    _, again = ask(slide, regions=regions, out=tmp_path / "run", resume=True)
    assert again.choice == "pink tissue"
    for other in (None, draw(tmp_path / "other.geojson", Box(200, 200, 300, 300))):
        with pytest.raises(GiantError, match="regions"):
            ask(slide, regions=other, out=tmp_path / "run", resume=True)


def test_regions_without_tissue_or_off_the_slide_leave_nothing(tmp_path: Path) -> None:
    slide = paint(tmp_path / "slide.png", 0.8)
    with pytest.raises(NoTissue, match="no tissue lies in 1 annotated region"):
        ask(slide, regions=draw(tmp_path / "glass.geojson", Box(5, 5, 60, 60)))
    with pytest.raises(GiantError, match="outside of slide"):
        ask(slide, regions=draw(tmp_path / "far.geojson", Box(5000, 5, 60, 60)))
    assert not list((tmp_path / "giant-runs").glob("*/run.json"))


@pytest.mark.parametrize(
    ("slide", "given", "told"),
    [
        ("slide.png", {"regions": "none.geojson"}, "regions cannot be read"),
        ("slide.png", {"regions": "a.geojson", "model": "openai:gpt-5"}, "Use a local model"),
        ("tokens.pt", {"regions": "a.geojson", "mode": "slide"}, "no places"),
    ],
)
def test_calls_that_mean_nothing(tmp_path: Path, slide: str, given: dict[str, Any], told: str) -> None:
    draw(tmp_path / "a.geojson", PINK)
    with pytest.raises(UsageError, match=told):
        ask(Path(slide), **given)
