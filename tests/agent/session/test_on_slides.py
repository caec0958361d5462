"""The agent with the real slide, tools, feature cache and reports; only the model is a stand-in.

The stand-in sees the mean colour of a tile, so what it should say of a slide is known from its paint.
"""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
from painted_slides import GLASS, PURPLE, ColourModel, paint
from PIL import Image

import agent
from agent.evidence.check import check_answer
from agent.run.records import Answer, RunRecord, Step
from core_model.errors import GiantError, NoTissue

OPTIONS = ["grey tissue", "pink tissue"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIANT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def ask(slide: Path, **given: Any) -> tuple[list[Step], Answer]:
    given = {"options": OPTIONS, "model": ColourModel(), "mpp": 2.0} | given
    *steps, answer = agent.stream(slide, "Which tissue is it?", **given)
    assert isinstance(answer, Answer)
    return [step for step in steps if isinstance(step, Step)], answer


@pytest.mark.parametrize(("purple", "choice"), [(0.8, "grey tissue"), (0.2, "pink tissue")])
def test_the_answer_comes_from_the_pixels(tmp_path: Path, purple: float, choice: str) -> None:
    steps, answer = ask(paint(tmp_path / "slide.png", purple))
    assert answer.choice == choice
    assert check_answer(answer, steps) == []
    assert all(step.observation.ok for step in steps)
    folder = Path(answer.run_dir)
    for cited in answer.evidence:
        assert cited.image is not None
        with Image.open(folder / cited.image) as image:
            assert image.width > 100
    assert "not for diagnosis" in (folder / "report.html").read_text().lower()
    assert (folder / "report.md").stat().st_size > 100
    assert json.loads((folder / "evidence.geojson").read_text())["type"] == "FeatureCollection"


def test_an_open_question(tmp_path: Path) -> None:
    steps, answer = ask(paint(tmp_path / "slide.png", 0.7), options=None)
    assert answer.answer.startswith("Grey tissue")
    assert check_answer(answer, steps) == []


def test_the_second_question_reuses_the_features(tmp_path: Path) -> None:
    slide = paint(tmp_path / "slide.png", 0.8)
    ask(slide)
    counted: list[tuple[int, int]] = []
    ask(slide, seed=1, progress=lambda done, total: counted.append((done, total)))
    assert counted == []


def test_a_blank_slide_leaves_nothing(tmp_path: Path) -> None:
    Image.new("RGB", (600, 600), (250, 250, 250)).save(tmp_path / "white.png")
    with pytest.raises(NoTissue):
        ask(tmp_path / "white.png")
    assert [path.name for path in tmp_path.iterdir()] == ["white.png"]


def test_unusable_slides_leave_nothing(tmp_path: Path, shared: Path) -> None:
    files = [*(shared / "data" / "malformed").iterdir(), tmp_path / "absent.svs", tmp_path]
    refused = 0
    for slide in files:
        if "corrupt_tiles" in slide.name:
            continue
        with pytest.raises(GiantError) as error:
            ask(slide, mpp=None, out=tmp_path / "out")
        assert "\n" not in str(error.value)
        refused += 1
        assert not (tmp_path / "out").exists(), slide
        assert not (tmp_path / "giant-runs").exists(), slide
    assert refused >= 4


def test_tiles_that_do_not_decode_are_reported(shared: Path) -> None:
    slide = shared / "data" / "malformed" / "cmu-1-small-region_corrupt_tiles.svs"
    steps, answer = ask(slide, mpp=None)
    run = RunRecord.model_validate_json((Path(answer.run_dir) / "run.json").read_text())
    assert run.tiles is not None
    total = run.tiles + len(run.unreadable)
    assert run.unreadable
    assert f"{len(run.unreadable)} of {total} tiles could not be read" in (answer.reason or "")
    x, y, w, h = run.unreadable[0].box
    assert f"({x}, {y}, {w}, {h})" in (answer.reason or "")
    assert check_answer(answer, steps) == []


def test_nothing_of_the_slides_metadata_is_written(shared: Path) -> None:
    import openslide

    slide = shared / "data" / "slides" / "CMU-1-Small-Region.svs"
    _, answer = ask(slide, mpp=None)
    with openslide.OpenSlide(str(slide)) as handle:
        private = {
            key: handle.properties[key] for key in ("aperio.ScanScope ID", "aperio.User", "aperio.Date")
        }
    written = [
        p for p in Path(answer.run_dir).rglob("*") if p.suffix in (".json", ".jsonl", ".md", ".geojson")
    ]
    assert len(written) >= 5
    for path in written:
        text = path.read_text()
        assert not [key for key, value in private.items() if value in text], path
    names = {path.stem for path in (Path(answer.run_dir) / "regions").iterdir()}
    assert not {name for name in names if "label" in name or "macro" in name}


def painted(path: Path, size: tuple[int, int], tissue: tuple[int, int, int, int]) -> Path:
    """A slide at 2 µm/px with purple tissue from left, top to right, bottom."""
    image = Image.new("RGB", size, GLASS)
    image.paste(PURPLE, tissue)
    image.save(path)
    return path


@pytest.mark.parametrize(
    ("size", "tissue", "tiles"),
    [
        ((300, 260), (285, 20, 300, 240), 5),
        ((260, 300), (20, 285, 240, 300), 5),
        ((110, 110), (0, 0, 110, 110), 4),
        ((50, 40), (0, 0, 50, 40), 1),
    ],
    ids=["last column", "last row", "a region of 220 µm", "a region less than a tile"],
)
def test_tissue_at_the_edge_is_found_read_and_answered_about(
    tmp_path: Path, size: tuple[int, int], tissue: tuple[int, int, int, int], tiles: int
) -> None:
    steps, answer = ask(painted(tmp_path / "slide.png", size, tissue), model=ColourModel())
    run = RunRecord.model_validate_json((Path(answer.run_dir) / "run.json").read_text())
    assert run.tiles == tiles
    assert f"All {tiles} tiles were read" in answer.answer + (answer.reason or "") or tiles == 1
    assert answer.coverage is None or all(0 <= share <= 1 for share in answer.coverage.values())
    for step in steps:
        box = step.observation.box
        assert box is None or (box.right <= size[0] and box.bottom <= size[1]), "places lie on the slide"
    for feature in json.loads((Path(answer.run_dir) / "evidence.geojson").read_text())["features"]:
        places = [point for ring in feature["geometry"]["coordinates"] for point in ring]
        assert all(0 <= x <= size[0] and 0 <= y <= size[1] for x, y in places)
    if tiles >= 4:
        assert answer.choice == ("grey tissue" if tiles == 4 else "pink tissue"), (
            "glass counts in its mean colour"
        )
        assert check_answer(answer, steps) == []


def test_a_small_slide_that_the_model_does_not_know_is_shown_once(tmp_path: Path) -> None:
    path = painted(tmp_path / "slide.png", (110, 110), (0, 0, 110, 110))
    steps, answer = ask(path, model=ColourModel(slide_unfamiliarity=1.7))
    assert len(steps) == 1, "the overview shows all there is"
    assert "does not know this kind of slide" in answer.answer


def test_a_cache_that_is_read_only_is_named_and_stops_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    make = Path.mkdir

    def refuse(path: Path, *args: Any, **kwargs: Any) -> None:
        if path.is_relative_to(tmp_path / "cache"):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        make(path, *args, **kwargs)

    monkeypatch.setattr(Path, "mkdir", refuse)
    _, answer = ask(paint(tmp_path / "slide.png", 0.8))
    assert answer.choice == "grey tissue"
    assert "GIANT_CACHE" in caplog.text
    assert not (tmp_path / "cache").exists()
