"""VSI and iSyntax: in a child alone, with a warning. No library writes either; the reader is a stand-in."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from slide_files import stained

from core_model.errors import SlideError
from core_model.slides import readers
from core_model.slides.formats import by_fastslide
from core_model.slides.slide import open_slide
from core_model.slides.sources import WARNING, DecodeError, NeedsChild

RGB = stained(600, 800)


@dataclass
class FakeImage:
    """An image of a file as fastslide shows it: two levels, read by level pixels."""

    rgb: np.ndarray
    z_count: int = 1
    t_count: int = 1
    num_channels: int = 3
    mpp: tuple[float, float] = (0.25, 0.26)

    @property
    def dimensions(self) -> tuple[int, int]:
        return self.level_dimensions[0]

    @property
    def level_dimensions(self) -> tuple[tuple[int, int], ...]:
        h, w = self.rgb.shape[:2]
        return (w, h), (w // 2, h // 2)

    def read_region(self, at: tuple[int, int], level: int, size: tuple[int, int]) -> Any:
        if at == (512, 512):
            raise RuntimeError(f"Failed to decode\n  at reader.cpp:1 of {'x' * 5000}")
        pixels = self.rgb[:: 2**level, :: 2**level][at[1] : at[1] + size[1], at[0] : at[0] + size[0]]
        return SimpleNamespace(to_interleaved=lambda: SimpleNamespace(numpy=lambda: pixels))


@dataclass
class FakeSlide:
    images: list[FakeImage]
    dtype: str = "uint8"
    opened: list[str] = field(default_factory=list)


def install(monkeypatch: pytest.MonkeyPatch, slide: FakeSlide, child: bool = True) -> None:
    def opened(path: str, **_: object) -> FakeSlide:
        slide.opened.append(path)
        return slide

    module = SimpleNamespace(__version__="9.9", FastSlide=SimpleNamespace(from_file_path=opened))
    monkeypatch.setitem(sys.modules, "fastslide", module)
    monkeypatch.setattr(by_fastslide, "in_child", lambda: child)


@pytest.fixture(params=["scan.vsi", "scan.isyntax"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    file = tmp_path / request.param
    file.write_bytes(b"x" * 100_000)
    return file


def test_pixels_levels_scale_and_the_warning(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeSlide([FakeImage(RGB[:100, :100]), FakeImage(RGB)]))
    source = readers.open_source(path)
    assert source.reader == "fastslide 9.9"
    assert source.level_dimensions == ((800, 600), (400, 300)), "the largest image"
    assert source.properties == {
        "openslide.mpp-x": "0.25", "openslide.mpp-y": "0.26", WARNING: by_fastslide.UNCHECKED,
    }  # fmt: skip
    assert np.array_equal(np.asarray(source.read_level(0, 100, 50, 450, 400)[0]), RGB[50:450, 100:550])
    assert np.array_equal(np.asarray(source.read_level(1, 0, 0, 400, 300)[0]), RGB[::2, ::2])
    with pytest.raises(DecodeError) as caught:
        source.read_level(0, 500, 500, 100, 100)
    assert len(str(caught.value)) < 300
    assert "\n" not in str(caught.value)


def test_this_process_never_reads_them_itself(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slide = FakeSlide([FakeImage(RGB)])
    install(monkeypatch, slide, child=False)
    with pytest.raises(NeedsChild, match="--isolate"):
        readers.open_source(path)
    asked: list[Path] = []

    def isolated(where: Path) -> Any:
        asked.append(where)
        raise SlideError("asked", where=where)

    monkeypatch.setattr("core_model.slides.isolation.source.open_isolated", isolated)
    with pytest.raises(SlideError, match="asked"):
        open_slide(path)
    assert (asked, slide.opened) == ([path], [])


def test_a_real_child_opens_them_and_says_what_is_wrong(path: Path) -> None:
    with pytest.raises(SlideError, match=r"fastslide cannot open it.*Convert") as caught:
        open_slide(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("slide", "says"),
    [
        (FakeSlide([FakeImage(RGB, z_count=5)]), "5 images of one size"),
        (FakeSlide([FakeImage(RGB, t_count=3)]), "3 images of one size"),
        (FakeSlide([FakeImage(RGB), FakeImage(RGB)]), "2 images of one size"),
        (FakeSlide([FakeImage(RGB)], dtype="uint16"), "3 channels of uint16"),
        (FakeSlide([FakeImage(RGB, num_channels=1)]), "1 channels of uint8"),
    ],
)
def test_what_is_no_plane_of_8_bit_rgb_is_refused(
    slide: FakeSlide, says: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, slide)
    with pytest.raises(SlideError, match=says):
        readers.open_source(path)
