"""Formats that OpenSlide reads, each from a small file made here: pixels, scale, the scanned part, damage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import multi_files as many
import numpy as np
import pytest
import scanner_files as scanners
from slide_files import stained

from core_model.errors import RegionUnreadable
from core_model.slides.box import Box
from core_model.slides.slide import open_slide

RGB = stained(512, 512)


class Format(NamedTuple):
    write: Callable[[Path], Path]
    vendor: str
    corner: tuple[int, int] = (0, 0)
    """Where the scanned part begins."""
    is_tiff: bool = True


SCN_CORNER = (scanners.SCN_CORNER_UM[0] * 2, scanners.SCN_CORNER_UM[1] * 2)
FORMATS = {
    "VMS": Format(lambda folder: many.write_vms(folder, RGB), "hamamatsu", is_tiff=False),
    "MRXS": Format(lambda folder: many.write_mirax(folder, RGB), "mirax", (512, 256), False),
    "SCN": Format(lambda folder: scanners.write_scn(folder / "scan.scn", RGB), "leica", SCN_CORNER),
    "NDPI": Format(lambda folder: scanners.write_ndpi(folder / "scan.ndpi", RGB), "hamamatsu"),
    "BIF": Format(lambda folder: scanners.write_bif(folder / "scan.bif", RGB), "ventana"),
}


@pytest.mark.parametrize("name", FORMATS)
def test_pixels_scale_and_scanned_part(name: str, tmp_path: Path) -> None:
    made = FORMATS[name]
    with open_slide(made.write(tmp_path)) as slide:
        assert (slide.vendor, slide.mpp) == (made.vendor, pytest.approx(0.5, rel=1e-3))
        assert slide.reader.startswith("OpenSlide ")
        assert slide.bounds == (*made.corner, 512, 512)
        seen = np.asarray(slide.read(slide.bounds, 0.5)).astype(int)
        assert np.abs(seen - RGB).mean() < 2
        overview, mpp = slide.overview(256)
    assert (overview.size, mpp) == ((256, 256), pytest.approx(1.0, rel=1e-3)), "the scanned part alone"
    assert np.abs(np.asarray(overview).astype(int) - RGB[::2, ::2]).mean() < 4, "and neither label nor macro"


@pytest.mark.parametrize("name", [name for name in FORMATS if FORMATS[name].is_tiff])
def test_a_damaged_tile_does_not_decode(name: str, tmp_path: Path) -> None:
    made = FORMATS[name]
    path = made.write(tmp_path)
    scanners.overwrite_jpeg(path, 0)
    with open_slide(path) as slide, pytest.raises(RegionUnreadable):
        slide.read(Box(*made.corner, 100, 100), 0.5)
