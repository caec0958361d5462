"""What holds for every format with its own library: threads, and a child process, read the same pixels."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import format_files as formats
import imagecodecs
import pytest
from pydicom.uid import JPEGLSLossless
from slide_files import stained

from core_model.errors import SlideError
from core_model.slides.box import Box
from core_model.slides.slide import open_slide

RGB = stained(512, 768)
JPEG_LS = str(JPEGLSLossless)
MAKERS: dict[str, Callable[[Path], Path]] = {
    "Zarr": lambda folder: formats.write_zarr(folder, RGB),
    "CZI": lambda folder: formats.write_czi(folder / "scan.czi", RGB, jpeg_xr=True),
    "DICOM": lambda folder: formats.write_packed_dicom(folder, RGB, JPEG_LS, imagecodecs.jpegls_encode),
}
BOXES = [
    (Box(x, y, 130, 90), mpp) for x in range(0, 600, 211) for y in range(0, 400, 177) for mpp in (0.5, 1.3)
]


@pytest.mark.parametrize("name", MAKERS)
def test_threads_and_a_child_read_what_one_thread_reads(name: str, tmp_path: Path) -> None:
    path = MAKERS[name](tmp_path)
    with open_slide(path) as slide:
        alone = [slide.read(box, mpp).tobytes() for box, mpp in BOXES]
        identity, reader, warnings = slide.id, slide.reader, slide.warnings
    for isolate in (False, True):
        with open_slide(path, isolate=isolate) as slide, ThreadPoolExecutor(4) as pool:
            assert list(pool.map(lambda place: slide.read(*place).tobytes(), BOXES)) == alone
            assert (slide.id, slide.reader, slide.warnings) == (identity, reader, warnings)


@pytest.mark.parametrize("name", MAKERS)
def test_a_closed_slide_says_so(name: str, tmp_path: Path) -> None:
    slide = open_slide(MAKERS[name](tmp_path))
    slide.close()
    with pytest.raises(SlideError, match="closed"):
        slide.read(Box(0, 0, 10, 10), 0.5)
