"""What the first look at a slide says of its tissue."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import multi_files as many
import numpy as np
from PIL import Image
from slide_files import stained

from core_model.slides.slide import open_slide
from tools import Toolbox
from tools.render import pixels_sha256, read_again


def test_many_pieces_are_all_recorded_and_the_largest_named(model: Any, tmp_path: Path) -> None:
    rgb = np.full((100, 620, 3), 243, dtype=np.uint8)
    for i in range(10):
        rgb[20 : 40 + i, 20 + 60 * i : 40 + 60 * i] = (215, 120, 170)  # each is larger than the one before
    Image.fromarray(rgb).save(tmp_path / "pieces.png")
    with open_slide(tmp_path / "pieces.png", mpp=8.0) as slide:
        overview = Toolbox(slide, model).overview()
    pieces = [tuple(box) for box in overview.data["pieces"]]
    assert len(pieces) == 10
    assert "in 10 pieces" in overview.text
    assert all(str(box) in overview.text for box in pieces[:8])
    told, _, sections = overview.text.partition(" It forms 10 sections")
    assert not any(str(box) in told for box in pieces[8:])
    assert "1 (20, 20, 20, 20); 2 (80, 20, 20, 21)" in sections, "those in reading order"
    assert "; and 2 smaller." in overview.text
    heights = [height for *_, height in pieces]
    assert heights == sorted(heights, reverse=True), "largest first"


def test_of_a_slide_that_is_scanned_in_part_the_overview_shows_that_part(model: Any, tmp_path: Path) -> None:
    """512 of 2048 px: seen whole it would be shown at a quarter of the resolution that fits."""
    path = many.write_mirax(tmp_path, stained(512, 512), at=(2, 1))
    with open_slide(path) as slide:
        assert slide.bounds == (512, 256, 512, 512) != slide.box
        look = Toolbox(slide, model, folder=tmp_path / "run").overview()
        assert (look.box, look.mpp) == (slide.bounds, 0.5)
        assert f"scanned is {tuple(slide.bounds)}, shown at 0.5 µm/px" in look.text
        assert pixels_sha256(read_again(slide, look)) == look.pixels_sha256
        assert slide.overview(256)[0].size == (256, 256)
        assert slide.overview(256)[1] == 1.0
