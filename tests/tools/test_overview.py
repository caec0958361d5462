"""What the first look at a slide says of its tissue."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from core_model.slides.slide import open_slide
from tools import Toolbox


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
    assert not any(str(box) in overview.text for box in pieces[8:])
    assert "; and 2 smaller." in overview.text
    heights = [height for *_, height in pieces]
    assert heights == sorted(heights, reverse=True), "largest first"
