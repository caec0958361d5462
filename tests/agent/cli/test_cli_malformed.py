"""What is malformed gets one readable line and exit 1 or 2, and leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_fakes import PaintModel, giant, one_line, only_json, paint
from PIL import Image

MALFORMED = (
    "broken.svs",
    "cmu-1-small-region_first8k.svs",
    "cmu-1-small-region_truncated50pct.svs",
    "sm_image_grayscale.dcm",
    "unopenable.tiff",
    "unreadable.svs",
    "zero_gi.tif",
)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.setenv("GIANT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(work)
    monkeypatch.setattr("core_model.models.wsi_llava.load_model", lambda *_, **__: PaintModel())
    return work


def refused(work: Path, exit_code: int, *args: object) -> str:
    """The one line of a refused `giant ask`, which must leave no file in the working folder."""
    before = sorted(work.rglob("*"))
    result = giant("ask", *args)
    assert result.exit_code == exit_code, result.output
    assert sorted(work.rglob("*")) == before
    return one_line(result)


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_files(shared: Path, here: Path, name: str) -> None:
    assert name in refused(here, 1, shared / "data" / "malformed" / name, "grade?", "--mpp", "0.5")


def test_things_that_are_no_slide(here: Path) -> None:
    (here / "folder").mkdir()
    (here / "empty.svs").touch()
    (here / "text.svs").write_text("This is not a slide.\n")
    assert "folder" in refused(here, 1, "folder", "grade?")
    assert "no such file" in refused(here, 1, "missing.svs", "grade?")
    assert "empty" in refused(here, 1, "empty.svs", "grade?")
    assert "text.svs" in refused(here, 1, "text.svs", "grade?")


@pytest.mark.parametrize(("size", "colour"), [((2000, 1500), (255, 255, 255)), ((8, 8), (180, 80, 140))])
def test_slides_without_tissue(here: Path, size: tuple[int, int], colour: tuple[int, int, int]) -> None:
    Image.new("RGB", size, colour).save(here / "bare.png")
    assert "tissue" in refused(here, 1, "bare.png", "grade?", "--mpp", "0.5")


def test_a_slide_without_a_scale(here: Path) -> None:
    paint(here / "a.png")
    assert "--mpp" in refused(here, 1, "a.png", "grade?")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["", "--mpp", "2"], "empty"),
        (["  \n ", "--mpp", "2"], "empty"),
        (["x" * 100_000, "--mpp", "2"], "100,000"),
        (["grade?", "--mpp", "2", "--option", "a", "--option", "a"], "twice"),
        (["grade?", "--mpp", "2", "--option", "a"], "a single option"),
        (["grade?", "--mpp", "2", "--max-steps", "0"], "0 steps"),
        (["grade?", "--mpp", "2", "--max-steps", "-3"], "-3 steps"),
        (["grade?", "--mpp", "0"], "µm/px"),
        (["grade?", "--mpp", "nan"], "µm/px"),
        (["grade?", "--mpp", "2", "--mode", "telepathy"], "telepathy"),
        (["grade?", "--mpp", "2", "--navigator", "chat"], "provider:name"),
        (["grade?", "--mpp", "2", "--model", "openai:gpt-5", "--mode", "slide"], "no mode 'slide'"),
    ],
)
def test_calls_that_mean_nothing(here: Path, args: list[str], said: str) -> None:
    paint(here / "a.png")
    line = refused(here, 2, "a.png", *args)
    assert said in line
    assert len(line) < 400


def test_a_model_that_is_not_there(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.chdir(here)
    paint(here / "a.png")
    assert "nowhere" in refused(here, 1, "a.png", "grade?", "--mpp", "2", "--model", "nowhere")


def test_corrupt_tiles_are_counted_and_placed(shared: Path) -> None:
    slide = shared / "data" / "malformed" / "cmu-1-small-region_corrupt_tiles.svs"
    answer = only_json(
        giant("ask", slide, "Which?", "--option", "purple", "--option", "pink", "--max-steps", "3", "--json")
    )
    assert "could not be read" in answer["reason"]
    report = (Path(answer["run_dir"]) / "report.html").read_text()
    assert "unreadable tile" in report
