"""CZI: tiles on a canvas, in JPEG XR too; what is no 8-bit RGB plane is refused."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import format_files as formats
import numpy as np
import pytest
from slide_files import stained

from core_model.errors import RegionUnreadable, SlideError
from core_model.slides.box import Box
from core_model.slides.formats.czi import UNCHECKED
from core_model.slides.slide import open_slide

RGB = stained(768, 1024)


@pytest.mark.parametrize("jpeg_xr", [False, True], ids=["unpacked", "JPEG XR"])
def test_pixels_levels_and_scale_are_those_of_the_file(jpeg_xr: bool, tmp_path: Path) -> None:
    with open_slide(formats.write_czi(tmp_path / "a.czi", RGB, jpeg_xr=jpeg_xr)) as slide:
        assert (slide.level_dimensions, slide.mpp, slide.vendor) == (((1024, 768), (256, 192)), 0.5, "zeiss")
        assert slide.reader.startswith("pylibCZIrw ")
        assert slide.warnings == ((UNCHECKED,) if jpeg_xr else ())
        for box in (slide.box, Box(101, 57, 700, 511), Box(1000, 700, 24, 68)):
            seen = np.asarray(slide.read(box, 0.5)).astype(int)
            assert np.abs(seen - RGB[box.y : box.bottom, box.x : box.right]).mean() <= (2 if jpeg_xr else 0)
        coarse = np.asarray(slide.read(slide.box, 2.0)).astype(int)
        assert np.abs(coarse - RGB[::4, ::4]).mean() <= (2 if jpeg_xr else 0)


def test_threads_read_what_one_reads(tmp_path: Path) -> None:
    boxes = [Box(x, y, 130, 90) for x in range(0, 800, 97) for y in range(0, 600, 83)]
    with open_slide(formats.write_czi(tmp_path / "a.czi", RGB, jpeg_xr=True)) as slide:
        alone = [slide.read(box, 0.5).tobytes() for box in boxes]
    with open_slide(tmp_path / "a.czi") as slide, ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda box: slide.read(box, 0.5).tobytes(), boxes)) == alone


@pytest.mark.parametrize("jpeg_xr", [False, True], ids=["unpacked", "JPEG XR"])
def test_a_tile_that_is_overwritten_does_not_decode(jpeg_xr: bool, tmp_path: Path) -> None:
    path = formats.write_czi(tmp_path / "a.czi", RGB, jpeg_xr=jpeg_xr)
    start, length = formats.czi_data(path)[0]
    head = 32 + 256 if not jpeg_xr else 0  # zeros where pixels are unpacked are pixels; its header is not
    with path.open("r+b") as file:
        file.seek(start - 95 - head)
        file.write(bytes(length // 2 + head))
    with open_slide(path) as slide:
        with pytest.raises(RegionUnreadable):
            slide.read(Box(10, 10, 100, 100), 0.5)
        assert slide.read(Box(600, 300, 100, 100), 0.5).size == (100, 100)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_file_is_told(share: float, tmp_path: Path) -> None:
    path = formats.write_czi(tmp_path / "a.czi", RGB)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(SlideError) as caught:
        open_slide(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("pixels", "says"),
    [
        (np.zeros((64, 64, 1), np.uint8), "one channel of grey"),
        (np.zeros((64, 64, 1), np.uint16), "16-bit samples"),
        (np.zeros((64, 64, 3), np.uint16), "16-bit samples"),
    ],
)
def test_what_is_no_8_bit_rgb_is_refused(pixels: np.ndarray, says: str, tmp_path: Path) -> None:
    from pylibCZIrw import czi

    with czi.create_czi(str(tmp_path / "a.czi")) as file:
        file.write(pixels, plane={"C": 0})
    with pytest.raises(SlideError, match=says):
        open_slide(tmp_path / "a.czi", mpp=0.5)


def test_channels_that_are_called_by_dyes_are_no_rgb(tmp_path: Path) -> None:
    from pylibCZIrw import czi

    with czi.create_czi(str(tmp_path / "a.czi")) as file:
        file.write(np.zeros((64, 64, 3), np.uint8), plane={"C": 0})
        file.write_metadata("a", channel_names={0: "DAPI"})
    with pytest.raises(SlideError, match="of fluorescence"):
        open_slide(tmp_path / "a.czi", mpp=0.5)


@pytest.mark.parametrize("axis", ["Z", "C", "T"])
def test_one_of_several_planes_is_not_shown_alone(axis: str, tmp_path: Path) -> None:
    from pylibCZIrw import czi

    with czi.create_czi(str(tmp_path / "a.czi")) as file:
        for place in range(3):
            file.write(np.zeros((64, 64, 3), np.uint8), plane={axis: place})
    with pytest.raises(SlideError, match="3 images of one size"):
        open_slide(tmp_path / "a.czi", mpp=0.5)


def test_scenes_lie_on_one_canvas_and_what_was_not_scanned_is_white(tmp_path: Path) -> None:
    from pylibCZIrw import czi

    with czi.create_czi(str(tmp_path / "a.czi")) as file:
        for scene, corner in enumerate([(0, 0), (300, 200)]):
            part = np.ascontiguousarray(RGB[:100, :150, ::-1])
            file.write(part, location=corner, scene=scene)
    with open_slide(tmp_path / "a.czi", mpp=0.5) as slide:
        assert (slide.width, slide.height) == (450, 300)
        seen = np.asarray(slide.read(slide.box, 0.5))
    assert np.array_equal(seen[:100, :150], RGB[:100, :150])
    assert np.array_equal(seen[200:, 300:], RGB[:100, :150])
    assert (seen[110:190] == 255).all()
