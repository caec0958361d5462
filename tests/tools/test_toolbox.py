"""What the tools show, say and refuse."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from slide_files import damage, stained, write_svs

from core_model.errors import SlideError
from core_model.features.store import FeatureStore
from core_model.slides.box import Box
from core_model.slides.slide import Slide, open_slide
from tools import Observation, Toolbox
from tools.render import MAX_PX, STRIP_PX, Frame, pixels_sha256, read_again

PINK, PURPLE = Box(128, 128, 384, 512), Box(512, 128, 384, 512)
GLASS = Box(0, 0, 100, 100)


@pytest.fixture
def toolbox(slide: Slide, model: Any, tmp_path: Path) -> Toolbox:
    return Toolbox(slide, model, folder=tmp_path / "run")


def shown(toolbox: Toolbox, seen: Observation) -> np.ndarray:
    """The region an observation points at, without its caption."""
    assert toolbox.folder is not None
    assert seen.image is not None
    with Image.open(toolbox.folder / seen.image) as image:
        return np.asarray(image.convert("RGB"))[:-STRIP_PX]


# --- overview and zoom ---------------------------------------------------------------------------------


def test_overview_shows_the_whole_and_says_where_tissue_lies(toolbox: Toolbox) -> None:
    seen = toolbox.overview()
    assert seen.ok
    assert seen.box == Box(0, 0, 1024, 768)
    assert seen.mpp == pytest.approx(0.512)
    assert shown(toolbox, seen).shape == (750, 1000, 3)
    assert seen.data["tissue_share"] == pytest.approx(0.5, abs=0.03)
    assert len(seen.data["pieces"]) == 1
    assert "1024 x 768 px" in seen.text
    assert f"{seen.data['tissue_share']:.0%}" in seen.text


def test_zoom_shows_that_box_at_that_resolution(toolbox: Toolbox, slide: Slide) -> None:
    box = Box(480, 200, 120, 80)
    seen = toolbox.zoom(box, 1.0)
    assert (seen.ok, seen.box, seen.mpp) == (True, box, 1.0)
    pixels = shown(toolbox, seen)[:, : box.w // 2]
    assert pixels.shape == (40, 60, 3)
    wanted = np.asarray(slide.read(box, 1.0)).astype(int)
    assert np.abs(pixels - wanted).mean() < 6, "JPEG of the same pixels"
    for part in ("(480, 200, 120, 80)", "60 x 40 µm", "1 µm/px", "10x", "Tissue covers 100%"):
        assert part in seen.text
    assert seen.data["tissue_share"] == 1.0


def test_zoom_never_claims_a_resolution_the_slide_lacks(toolbox: Toolbox) -> None:
    seen = toolbox.zoom(Box(300, 300, 200, 200), 0.1)
    assert seen.mpp == 0.5
    assert "no finer than 0.5" in seen.text


def test_a_large_region_is_shown_coarser_and_says_so(toolbox: Toolbox) -> None:
    seen = toolbox.zoom(Box(0, 0, 1024, 100), 0.5)
    assert shown(toolbox, seen).shape[1] == MAX_PX
    assert seen.mpp == pytest.approx(0.512)
    assert f"at most {MAX_PX} px" in seen.text
    assert "long side" not in toolbox.zoom(Box(0, 0, 900, 100), 0.5).text


def test_small_regions_stay_small(toolbox: Toolbox) -> None:
    seen = toolbox.zoom(Box(300, 300, 16, 12), 0.5)
    assert (seen.data["width_px"], seen.data["height_px"]) == (16, 12)


@pytest.mark.parametrize("box", [(-1, 0, 10, 10), (1000, 700, 25, 69), (0, 0, 5000, 10)])
def test_a_box_off_the_slide_is_refused_with_the_valid_range(toolbox: Toolbox, box: Any) -> None:
    for seen in (
        toolbox.zoom(box, 1.0),
        toolbox.retrieve(box=box),
        toolbox.ask_region(box, "what?"),
    ):
        assert not seen.ok
        assert "≤ 1024" in seen.text
        assert "≤ 768" in seen.text
        assert seen.image is None
        assert seen.box is None, "never silently moved"


def test_observations_never_carry_the_files_name(toolbox: Toolbox, slide: Slide) -> None:
    """File names may hold patient data, and observations go into prompts and traces."""
    for seen in (toolbox.overview(), toolbox.zoom(PINK, 1), toolbox.zoom(Box(-5, 0, 10, 10), 1)):
        assert slide.name not in seen.model_dump_json()


def test_the_same_look_has_the_same_file(toolbox: Toolbox) -> None:
    assert toolbox.zoom(PINK, 1.0).image == toolbox.zoom(PINK, 1.0).image != toolbox.zoom(PINK, 2.0).image


def test_without_a_folder_nothing_is_written(slide: Slide, model: Any, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    seen = Toolbox(slide, model).zoom(PINK, 1.0)
    assert seen.ok
    assert seen.image is None
    assert sorted(tmp_path.rglob("*")) == before


def test_every_region_can_be_read_again(toolbox: Toolbox, slide: Slide) -> None:
    looks = [toolbox.overview(), toolbox.zoom(PINK, 0.7), toolbox.pan("right"), toolbox.ask_region(PINK, "?")]
    for seen in looks:
        assert toolbox.folder is not None
        assert seen.image is not None
        again = read_again(slide, seen)
        assert pixels_sha256(again) == seen.pixels_sha256
        assert hashlib.sha256((toolbox.folder / seen.image).read_bytes()).hexdigest() == seen.image_sha256
        assert (seen.data["width_px"], seen.data["height_px"]) == again.size
    assert looks[1].pixels_sha256 != looks[2].pixels_sha256


def test_guides_are_in_the_image_and_not_in_its_hash(slide: Slide, model: Any, tmp_path: Path) -> None:
    frame = Frame(max_px=500, guides="ticks", multiple=28)
    plain = Toolbox(slide, model, folder=tmp_path / "a", frame=Frame(max_px=500)).zoom(PINK, 0.5)
    guided = Toolbox(slide, model, folder=tmp_path / "b", frame=frame).zoom(PINK, 0.5)
    assert max(guided.data["width_px"], guided.data["height_px"]) == 500
    assert plain.pixels_sha256 == guided.pixels_sha256
    assert plain.image_sha256 != guided.image_sha256
    with Image.open(tmp_path / "b" / str(guided.image)) as image:
        assert image.width % 28 == image.height % 28 == 0


# --- pan -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("direction", "wanted"),
    [
        ("left", (350, 300, 100, 80)),
        ("right", (450, 300, 100, 80)),
        ("up", (400, 260, 100, 80)),
        ("down", (400, 340, 100, 80)),
    ],
)
def test_pan_moves_by_a_share_of_the_box(toolbox: Toolbox, direction: str, wanted: Any) -> None:
    toolbox.zoom(Box(400, 300, 100, 80), 1.0)
    seen = toolbox.pan(direction)
    assert (seen.ok, seen.box, seen.mpp) == (True, Box(*wanted), 1.0)


def test_pans_add_up_and_a_refused_one_does_not(toolbox: Toolbox) -> None:
    toolbox.zoom(Box(0, 0, 100, 80), 1.0)
    assert toolbox.pan("right", 1).box == Box(100, 0, 100, 80)
    refused = toolbox.pan("up", 1)
    assert not refused.ok
    assert "≤ 768" in refused.text
    assert toolbox.pan("right", 0.25).box == Box(125, 0, 100, 80)


@pytest.mark.parametrize(("direction", "moved"), [("right", (201, 200)), ("up", (200, 199))])
def test_the_smallest_pan_moves_by_one_pixel(
    toolbox: Toolbox, direction: str, moved: tuple[int, int]
) -> None:
    toolbox.zoom(Box(200, 200, 20, 20), 0.5)
    assert toolbox.pan(direction, 0.01).box == Box(*moved, 20, 20)


def test_a_pan_asks_for_the_resolution_of_the_look_before(toolbox: Toolbox) -> None:
    assert toolbox.frame.max_px == 1000
    toolbox.frame = Frame(max_px=100)
    first, second = toolbox.zoom(Box(0, 0, 400, 300), 0.5), toolbox.pan("right")
    assert first.mpp == second.mpp == 2.0
    for look in (first, second):
        assert "0.5 µm/px was asked for, but a region's long side is at most 100 px" in look.text


def test_pan_needs_something_shown(toolbox: Toolbox) -> None:
    assert not toolbox.pan("left").ok
    toolbox.last_shown = (Box(400, 300, 100, 80), 2.0)  # as after resuming
    assert toolbox.pan("left", 1).box == Box(300, 300, 100, 80)


# --- retrieve ------------------------------------------------------------------------------------------


def colour_of(slide: Slide, hit: dict[str, Any]) -> str:
    red = np.asarray(slide.read(Box(*hit["box"]), 0.5))[..., 0].mean()
    return "pink" if red > 160 else "purple"


@pytest.mark.parametrize("colour", ["pink", "purple"])
def test_text_finds_the_tiles_it_names(toolbox: Toolbox, slide: Slide, colour: str) -> None:
    seen = toolbox.retrieve(text=colour, k=7)
    hits = seen.data["hits"]
    assert len(hits) == 7
    assert {colour_of(slide, hit) for hit in hits} == {colour}
    assert all(hit["score"] == pytest.approx(1.0) for hit in hits)
    assert str(tuple(hits[0]["box"])) in seen.text


def test_a_box_finds_tiles_like_it_outside_itself(toolbox: Toolbox, slide: Slide) -> None:
    box = Box(560, 200, 130, 130)
    seen = toolbox.retrieve(box=box, k=10)
    hits = seen.data["hits"]
    assert len(hits) == 10
    assert {colour_of(slide, hit) for hit in hits} == {"purple"}
    assert all(Box(*hit["box"]).intersect(box) is None for hit in hits)
    scores = [hit["score"] for hit in hits]
    assert scores == sorted(scores, reverse=True)


def test_a_box_smaller_than_a_tile_still_has_neighbours(toolbox: Toolbox) -> None:
    assert toolbox.retrieve(box=Box(200, 200, 10, 10)).ok


def test_a_box_without_tissue_has_none(toolbox: Toolbox) -> None:
    seen = toolbox.retrieve(box=GLASS)
    assert not seen.ok
    assert "No encoded tissue" in seen.text


def test_more_hits_than_tiles_gives_all_tiles(toolbox: Toolbox) -> None:
    assert len(toolbox.retrieve(text="pink", k=100).data["hits"]) == len(toolbox.features) == 96


# --- ask_region ----------------------------------------------------------------------------------------


def test_options_are_weighed_on_the_tiles_of_the_box(toolbox: Toolbox) -> None:
    seen = toolbox.ask_region(PURPLE, "colour?", ["pink", "purple"])
    assert seen.data["options"] == {"pink": 0.0, "purple": 1.0}
    assert seen.text == "purple (p=1.00)."
    assert seen.data["tiles"] == 48
    half = toolbox.ask_region(Box(320, 128, 384, 256), "colour?", ["pink", "purple"])
    assert half.data["options"] == pytest.approx({"pink": 0.5, "purple": 0.5})


def test_without_options_the_model_speaks(toolbox: Toolbox) -> None:
    seen = toolbox.ask_region(PINK, "colour?")
    assert (seen.data["answer"], seen.data["probability"]) == ("pink", 1.0)
    assert seen.text.startswith("pink")
    assert shown(toolbox, seen).shape[0] == 512, "the evidence can be looked at"


def test_the_whole_slide_asks_all_tiles(toolbox: Toolbox, slide: Slide) -> None:
    assert toolbox.ask_region(slide.box, "colour?").data["tiles"] == len(toolbox.features)


def test_asking_about_glass_is_refused(toolbox: Toolbox) -> None:
    seen = toolbox.ask_region(GLASS, "colour?", ["pink", "purple"])
    assert not seen.ok
    assert "No encoded tissue" in seen.text
    assert "options" not in seen.data


# --- calling by name -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "args", "says"),
    [
        ("fly", {}, "The tools are overview, zoom, pan, retrieve, ask_region"),
        ("zoom", {}, "box: Field required"),
        ("zoom", {"box": [1, 2, 3], "mpp": 1}, "box"),
        ("zoom", {"box": [1, 2, 0, 4], "mpp": 1}, "above 0"),
        ("zoom", {"box": [1, 2, 3, 4], "mpp": 0}, "mpp"),
        ("zoom", {"box": [1, 2, 3, 4], "mpp": "nan"}, "mpp"),
        ("zoom", {"box": [1, 2, 3, 4], "mpp": 1, "depth": 2}, "depth"),
        ("pan", {"direction": "north"}, "'left', 'right', 'up' or 'down'"),
        ("retrieve", {"k": 3}, "either a box or a text"),
        ("retrieve", {"text": "a", "box": [1, 2, 3, 4]}, "either a box or a text"),
        ("retrieve", {"text": "a", "k": 0}, "k"),
        ("ask_region", {"box": [1, 2, 3, 4], "question": ""}, "question"),
        ("ask_region", {"box": [1, 2, 3, 4], "question": "?", "options": ["a", "a"]}, "different"),
        ("ask_region", {"box": [1, 2, 3, 4], "question": "?", "options": ["a"]}, "two different"),
    ],
)
def test_a_mistake_of_the_caller_is_an_observation(
    toolbox: Toolbox, name: str, args: dict[str, Any], says: str
) -> None:
    seen = toolbox.call(name, args)
    assert not seen.ok
    assert says in seen.text
    assert "\n" not in seen.text


def test_json_arguments_work(toolbox: Toolbox) -> None:
    args = json.loads('{"box": [128, 128, 100, 100], "mpp": 2}')
    assert toolbox.call("zoom", args).ok


def test_a_bug_is_raised(slide: Slide, model: Any) -> None:
    model.generate = None
    with pytest.raises(TypeError):
        Toolbox(slide, model).ask_region(PINK, "colour?")


def test_observations_survive_json(toolbox: Toolbox) -> None:
    for seen in (toolbox.overview(), toolbox.retrieve(text="pink"), toolbox.ask_region(PINK, "colour?")):
        assert Observation.model_validate_json(seen.model_dump_json()) == seen


# --- what is kept and counted --------------------------------------------------------------------------


def test_features_are_computed_once(toolbox: Toolbox, model: Any) -> None:
    assert model.tile_encoder.seen == 0
    toolbox.ask_region(PINK, "colour?")
    toolbox.retrieve(text="pink")
    toolbox.retrieve(text="purple")
    assert model.tile_encoder.seen == len(toolbox.features) == model.embedded


def test_given_features_are_used(slide: Slide, model: Any, toolbox: Toolbox) -> None:
    given = toolbox.features
    seen = model.tile_encoder.seen
    assert Toolbox(slide, model, features=given).features is given
    assert model.tile_encoder.seen == seen


def test_text_vectors_are_stored_per_model(slide: Slide, model: Any, tmp_path: Path) -> None:
    model.folder = tmp_path / "model"
    model.folder.mkdir()
    (model.folder / "manifest.json").write_text("weights 1")
    store = FeatureStore(tmp_path / "store")
    first = Toolbox(slide, model, store=store).retrieve(text="pink")
    embedded = model.embedded
    assert Toolbox(slide, model, store=store).retrieve(text="pink") == first
    assert model.embedded == embedded
    (model.folder / "manifest.json").write_text("weights 2")
    assert Toolbox(slide, model, store=store).retrieve(text="pink") == first
    assert model.embedded == 2 * embedded, "vectors of other weights are not taken"


# --- damaged slides ------------------------------------------------------------------------------------


def toolbox_of_damaged(slide: Slide, model: Any, folder: Path) -> tuple[Toolbox, Any]:
    """A toolbox over tiles of 224 px, and the parts that its overview says cannot be read."""
    model.tile_encoder.tile_px, model.tile_encoder.tile_um = 224, 112.0
    toolbox = Toolbox(slide, model, folder=folder)
    whole = toolbox.overview()
    assert whole.ok
    assert "cannot be read" in whole.text
    return toolbox, whole.data["unreadable"]


def test_a_damaged_slide_says_what_it_cannot_show(shared: Path, model: Any, tmp_path: Path) -> None:
    damaged = shared / "data" / "malformed" / "cmu-1-small-region_corrupt_tiles.svs"
    with open_slide(damaged) as slide:
        toolbox, unreadable = toolbox_of_damaged(slide, model, tmp_path / "run")
        assert unreadable
        bad = toolbox.zoom(Box(1200, 1100, 100, 100), 0.5)
        assert not bad.ok
        assert bad.image is None
        assert "does not decode" in bad.text
        asked = toolbox.ask_region(slide.box, "colour?")
        assert asked.ok
        assert asked.data["unreadable_tiles"] == len(toolbox.features.failed) > 0
        assert "could not be read" in asked.text


def test_a_slide_that_decodes_nowhere_is_an_error(shared: Path, model: Any) -> None:
    with open_slide(shared / "data/malformed/unreadable.svs") as slide, pytest.raises(SlideError):
        Toolbox(slide, model).overview()


def test_a_damaged_aperio_file_says_what_it_cannot_show(model: Any, tmp_path: Path) -> None:
    path = damage(write_svs(tmp_path / "damaged.svs", stained(1500, 1300), mpp=0.5), [(1, 1), (3, 4)])
    with open_slide(path) as slide:
        toolbox, unreadable = toolbox_of_damaged(slide, model, tmp_path / "run")
        assert len(unreadable) == 2
        bad = toolbox.zoom(Box(300, 300, 100, 100), 0.5)
        assert (bad.ok, bad.image, bad.mpp) == (False, None, None)
        assert "does not decode" in bad.text
        assert toolbox.zoom(Box(500, 700, 100, 100), 0.5).ok, "other tiles are shown"
        answer = toolbox.ask_region(slide.box, "colour?")
        assert answer.ok
        assert answer.data["unreadable_tiles"] == len(toolbox.features.failed) > 0
        assert "could not be read" in answer.text


def test_an_aperio_file_that_decodes_nowhere_is_an_error(model: Any, tmp_path: Path) -> None:
    path = damage(write_svs(tmp_path / "damaged.svs", stained(480, 480)))
    with open_slide(path) as slide, pytest.raises(SlideError):
        Toolbox(slide, model).overview()
