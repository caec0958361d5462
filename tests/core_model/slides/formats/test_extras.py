"""A format whose library is not installed says which extra brings it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import format_files as formats
import imagecodecs
import pytest
from pydicom.uid import JPEGLSLossless
from slide_files import stained

from core_model.errors import SlideError
from core_model.slides.slide import open_slide

RGB = stained(256, 256)
JPEG_LS = str(JPEGLSLossless)


def empty(path: Path) -> Path:
    path.write_bytes(b"x")
    return path


MAKERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "zarr": ("zarr", lambda folder: formats.write_zarr(folder, RGB)),
    "czi": ("pylibCZIrw.czi", lambda folder: formats.write_czi(folder / "a.czi", RGB)),
    "dicom": (
        "wsidicom",
        lambda folder: formats.write_packed_dicom(
            folder, RGB, str(JPEGLSLossless), imagecodecs.jpegls_encode
        ),
    ),
    "fastslide": ("fastslide", lambda folder: empty(folder / "a.isyntax")),
}


@pytest.mark.parametrize("extra", MAKERS)
def test_the_extra_is_named(extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module, write = MAKERS[extra]
    write(tmp_path)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SlideError, match=rf"pip install 'giant-pathology\[{extra}\]'"):
        open_slide(tmp_path, mpp=0.5)


def test_a_slide_on_a_server_needs_one_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wsidicom", None)
    with pytest.raises(SlideError, match=r"giant-pathology\[dicom\]"):
        open_slide("https://server.example/studies/1.2/series/3.4")
