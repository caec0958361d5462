"""What the tools say of sections and of tissue that is out of focus."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from drawn_tissue import two_sections

from core_model.slides.box import Box
from core_model.slides.slide import Slide, open_slide
from tools import Toolbox

LEFT, RIGHT = Box(300, 400, 500, 500), Box(1800, 400, 500, 500)


@pytest.fixture(scope="module")
def sectioned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slide]:
    """Two sections, the right one out of focus."""
    with open_slide(two_sections(tmp_path_factory.mktemp("slides") / "two.tiff")) as slide:
        yield slide


@pytest.fixture
def toolbox(sectioned: Slide, model: Any, tmp_path: Path) -> Toolbox:
    return Toolbox(sectioned, model, folder=tmp_path / "run")


def test_the_overview_names_sections_and_what_is_out_of_focus(toolbox: Toolbox) -> None:
    seen = toolbox.overview()
    assert "It forms 2 sections, in reading order: 1 (" in seen.text
    assert "of the tissue is out of focus: (" in seen.text
    assert [part["section"] for part in seen.data["parts"]] == ["1", "2"]
    assert all(Box(*box).x > 1400 for box in seen.data["out_of_focus"])


def test_looks_say_their_section_and_how_much_is_blurred(toolbox: Toolbox) -> None:
    left, right = toolbox.zoom(LEFT, 1.0), toolbox.zoom(RIGHT, 1.0)
    assert "in section 1 of 2," in left.text
    assert "focus" not in left.text
    assert left.data["part"] == "section 1 of 2"
    assert "in section 2 of 2," in right.text
    assert right.text.endswith("100% of that is out of focus.")
    assert toolbox.pan("right", 0.1).data["part"] == "section 2 of 2"


def test_a_blurred_region_is_not_asked_about(toolbox: Toolbox, model: Any) -> None:
    asked = toolbox.ask_region(LEFT, "What is it?", ["pink", "purple"])
    assert asked.ok
    assert asked.text.endswith(" It lies in section 1 of 2.")
    refused = toolbox.ask_region(RIGHT, "What is it?", ["pink", "purple"])
    assert not refused.ok
    assert refused.text == f"Not asked: 100% of the tissue in box {tuple(RIGHT)} is out of focus."


def test_of_the_whole_slide_only_what_is_sharp_has_a_say(toolbox: Toolbox, sectioned: Slide) -> None:
    whole = toolbox.ask_region(sectioned.box, "What is it?", ["pink", "purple"])
    assert whole.ok
    assert "of its tissue is out of focus and had no say." in whole.text
    tiles = toolbox.tiles_in(sectioned.box)
    assert whole.data["tiles"] == len(tiles) < len(toolbox.features)
    assert (tiles.coords[:, 0] < 1400).all()


def test_tiles_found_have_their_section(toolbox: Toolbox) -> None:
    seen = toolbox.retrieve(LEFT, k=40)
    assert {hit["part"] for hit in seen.data["hits"]} == {"section 1 of 2", "section 2 of 2"}
    assert " in section " in seen.text


def test_one_sharp_section_is_told_of_by_no_word(slide: Slide, model: Any, tmp_path: Path) -> None:
    toolbox = Toolbox(slide, model, folder=tmp_path / "run")
    box = Box(200, 200, 300, 300)
    seen = [toolbox.overview(), toolbox.zoom(box, 1.0), toolbox.retrieve(box), toolbox.ask_region(box, "?")]
    for one in seen:
        assert one.ok
        assert not any(word in one.text for word in ("section", "core", "focus"))
        assert not {"part", "parts", "out_of_focus"} & set(one.data)
