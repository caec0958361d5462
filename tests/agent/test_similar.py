"""Places that look alike, in one slide and across indexed slides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cli_fakes import PaintEncoder, giant, one_line, only_json, paint

from core_model import tile_encoder

PURPLE_BOX, PINK_BOX = (200, 300, 200, 200), (1250, 300, 200, 200)


class OtherEncoder(PaintEncoder):
    fingerprint = "0ther"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIANT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tile_encoder, "load_tile_encoder", lambda *_: PaintEncoder())
    paint(tmp_path / "a.png", 0.5)


def similar(slide: str, box: tuple[int, int, int, int], *more: object) -> Any:
    return giant("similar", slide, "--mpp", "2", "--box", *box, *more)


def test_purple_finds_purple_elsewhere() -> None:
    found = only_json(similar("a.png", PURPLE_BOX, "-k", "4", "--json"))
    assert len(found["hits"]) == 4
    for hit in found["hits"]:
        x, y, w, h = hit["box"]
        assert x + w <= 830  # the purple part ends at 800
        assert x + w <= 200 or x >= 400 or y + h <= 300 or y >= 500  # never the place itself
    scores = [hit["score"] for hit in found["hits"]]
    assert scores == sorted(scores, reverse=True)


def test_indexed_slides_are_searched_too() -> None:
    paint(Path("b.png"), 0.02)
    paint(Path("c.png"), 0.98)
    made = giant("index", "a.png", "b.png", "c.png", "--mpp", "2", "--out", "store", "--quiet")
    assert made.exit_code == 0, made.output
    assert [Path(line).name for line in made.stdout.split()] == [f"{n}.tile.safetensors" for n in "abc"]
    found = only_json(similar("a.png", PINK_BOX, "-k", "1000", "--in", "store", "--json"))
    alike = [hit["slide"] for hit in found["hits"] if hit["score"] > 0.99]
    assert alike.count("a") > 50  # the other pink tissue of its own slide
    assert alike.count("b") > 100  # nearly all pink
    assert alike.count("c") < 20  # nearly all purple
    boxes = [(hit["slide"], tuple(hit["box"])) for hit in found["hits"]]
    assert len(set(boxes)) == len(boxes)


def test_vectors_of_other_weights_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    giant("index", "a.png", "--mpp", "2", "--out", "store")
    monkeypatch.setattr(tile_encoder, "load_tile_encoder", lambda *_: OtherEncoder())
    result = similar("a.png", PURPLE_BOX, "--in", "store")
    assert result.exit_code == 1
    assert "fingerprint" in result.stderr.splitlines()[-1]


def test_places_and_numbers_that_mean_nothing() -> None:
    assert "leaves the slide" in one_line(similar("a.png", (1500, 0, 200, 200)))
    assert "no encoded tissue" in one_line(similar("a.png", (0, 0, 50, 50)))
    assert "-k" in one_line(similar("a.png", PURPLE_BOX, "-k", "0"))
    assert "giant index" in one_line(similar("a.png", PURPLE_BOX, "--in", "nowhere"))
