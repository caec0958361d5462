"""Places that look alike, in one slide and across indexed slides."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_fakes import PaintEncoder, giant, one_line, only_json, paint

from core_model.models import tile_encoders
from tools.cohort import update

PURPLE_BOX, PINK_BOX = (200, 300, 200, 200), (1250, 300, 200, 200)


class OtherEncoder(PaintEncoder):
    fingerprint = "0ther"


class WordyEncoder(PaintEncoder):
    """Knows two words."""

    def embed_text(self, texts: list[str]) -> np.ndarray:
        return np.array([[1.0, 0.0] if "purple" in text else [0.0, 1.0] for text in texts], dtype=np.float32)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIANT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tile_encoders, "load_tile_encoder", lambda *_, **__: PaintEncoder())
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
    monkeypatch.setattr(tile_encoders, "load_tile_encoder", lambda *_, **__: OtherEncoder())
    result = similar("a.png", PURPLE_BOX, "--in", "store")
    assert result.exit_code == 1
    assert "fingerprint" in result.stderr.splitlines()[-1]


def test_places_and_numbers_that_mean_nothing() -> None:
    assert "leaves the slide" in one_line(similar("a.png", (1500, 0, 200, 200)))
    assert "no encoded tissue" in one_line(similar("a.png", (0, 0, 50, 50)))
    assert "-k" in one_line(similar("a.png", PURPLE_BOX, "-k", "0"))
    assert "giant index" in one_line(similar("a.png", PURPLE_BOX, "--in", "nowhere"))


def test_a_phrase_finds_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    paint(Path("b.png"), 0.9)
    monkeypatch.setattr(tile_encoders, "load_tile_encoder", lambda *_, **__: WordyEncoder())
    giant("index", "b.png", "--mpp", "2", "--out", "store", "--quiet")
    asked = ("similar", "a.png", "--mpp", "2", "--json", "--text")
    found = only_json(giant(*asked, "purple stroma", "-k", "40"))
    assert (found["text"], found["box"], len(found["hits"])) == ("purple stroma", None, 40)
    assert all(hit["box"][0] < 800 for hit in found["hits"])
    found = only_json(giant(*asked, "pink", "-k", "1000", "--in", "store"))
    assert {hit["slide"] for hit in found["hits"]} == {"a", "b"}


def test_indexes_of_other_encoders_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    giant("index", "a.png", "--mpp", "2", "--out", "store")
    other = OtherEncoder()
    other.name = "other"
    monkeypatch.setattr(tile_encoders, "load_tile_encoder", lambda *_, **__: other)
    result = similar("a.png", PURPLE_BOX, "--in", "store")
    assert "no index of this encoder" in one_line(result)
    giant("index", "a.png", "--mpp", "2", "--out", "store")
    assert similar("a.png", PURPLE_BOX, "--in", "store").exit_code == 0


def test_one_of_place_and_phrase_must_be_given() -> None:
    for more in ((), ("--box", *PURPLE_BOX, "--text", "purple")):
        assert "--box or --text" in one_line(giant("similar", "a.png", "--mpp", "2", *more))
    assert "the phrase is empty" in one_line(giant("similar", "a.png", "--text", " "))
    line = one_line(giant("similar", "a.png", "--mpp", "2", "--text", "purple"))
    assert "'paint' knows no words" in line
    assert "--encoder" in line


def test_tiles_of_another_size_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    giant("index", "a.png", "--mpp", "2", "--out", "store")
    other = PaintEncoder()
    other.mpp, other.tile_um = 4.0, 224.0
    monkeypatch.setattr(tile_encoders, "load_tile_encoder", lambda *_, **__: other)
    result = similar("a.png", PURPLE_BOX, "--in", "store")
    assert result.exit_code == 1
    assert "tile_um" in result.stderr.splitlines()[-1]


def test_the_encoder_is_told_the_resolution(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def load(name: str, *, mpp: float) -> PaintEncoder:
        asked.append((name, mpp))
        return PaintEncoder()

    monkeypatch.setattr(tile_encoders, "load_tile_encoder", load)
    encoder = ("--encoder", "some-lab/vit", "--encoder-mpp", "1.0")
    similar("a.png", PURPLE_BOX, *encoder)
    giant("index", "a.png", "--mpp", "2", *encoder)
    assert asked == [("some-lab/vit", 1.0)] * 2


def test_every_hit_says_whose_it_is_where_and_how_fine() -> None:
    paint(Path("b.png"), 0.02)
    giant("index", "a.png", "b.png", "--mpp", "2", "--out", "store", "--quiet")
    found = only_json(similar("a.png", PINK_BOX, "-k", "200", "--in", "store", "--json"))
    ids = {hit["slide"]: hit["slide_id"] for hit in found["hits"]}
    assert set(ids) == {"a", "b"}
    assert len(set(ids.values())) == 2
    assert {hit["mpp"] for hit in found["hits"]} == {2.0}
    assert found["recall"] is None


def test_a_cohort_index_finds_what_looking_through_every_file_does() -> None:
    for name, share in (("b", 0.1), ("c", 0.7), ("d", 0.4)):
        paint(Path(f"{name}.png"), share)
    giant("index", "a.png", "b.png", "c.png", "d.png", "--mpp", "2", "--out", "store", "--quiet")
    asked = ("a.png", PURPLE_BOX, "-k", "100", "--in", "store", "--json")
    indexed = only_json(similar(*asked))
    for path in Path("store").glob("features_*/cohort"):
        shutil.rmtree(path)  # as versions before left it
    assert only_json(similar(*asked)) == indexed


def test_a_slide_is_taken_out_of_an_index_and_put_back() -> None:
    paint(Path("b.png"), 0.02)
    giant("index", "a.png", "b.png", "--mpp", "2", "--out", "store", "--quiet")

    def names() -> set[str]:
        hits = only_json(similar("a.png", PINK_BOX, "-k", "500", "--in", "store", "--json"))["hits"]
        return {hit["slide"] for hit in hits}

    assert names() == {"a", "b"}
    assert giant("index", "--remove", "b", "--out", "store").stdout == "b\n"
    assert names() == {"a"}
    assert "no slide 'b'" in one_line(giant("index", "--remove", "b", "--out", "store"))
    giant("index", "b.png", "--mpp", "2", "--out", "store", "--quiet")
    assert names() == {"a", "b"}


def test_an_index_that_may_miss_tiles_says_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    change = update.Change(slides=3, tiles=2_000_000, recall=0.973, queries=100)
    monkeypatch.setattr(update, "add_slides", lambda files, exact_up_to: change)
    made = giant("index", "a.png", "--mpp", "2", "--out", "store", "--quiet", "--exact-up-to", "1")
    assert (
        "3 slides, 2,000,000 tiles: a search finds 97.3% of the 10 nearest, as measured with 100"
        in made.stderr
    )


def test_calls_of_index_that_mean_nothing() -> None:
    for more, says in (
        ((), "no slide is named"),
        (("--remove", "b"), "--out DIR"),
        (("a.png", "--remove", "b", "--out", "store"), "no slides"),
        (("--remove", "b", "--out", "store"), "no index of a cohort"),
        (("a.png", "--exact-up-to", "5"), "--out DIR"),
        (("a.png", "--exact-up-to", "-5", "--out", "store"), "0 or more"),
    ):
        result = giant("index", *more)
        assert says in one_line(result)
