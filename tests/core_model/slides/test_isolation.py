"""A child reads slides: the same pixels as without, and nothing that happens to it happens to the parent."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import misbehaving as bad
import numpy as np
import pytest
from multi_files import write_dicom, write_mirax, write_vms
from slide_files import damage, stained, write_svs

from core_model.errors import MppError, RegionUnreadable, SlideError
from core_model.slides.box import Box
from core_model.slides.isolation import process
from core_model.slides.isolation.source import IsolatedSource
from core_model.slides.isolation.wire import Limits
from core_model.slides.parts import NotASlide
from core_model.slides.slide import open_slide
from core_model.slides.sources import DecodeError

RGB = stained(512, 768)


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., IsolatedSource]]:
    """Opens a file whose child does what places stand for (`misbehaving`)."""
    monkeypatch.setattr(process, "CHILD", ("-P", str(Path(bad.__file__))))
    monkeypatch.chdir(tmp_path)
    opened: list[IsolatedSource] = []

    def open_it(does: int | str = "", limits: Limits | None = None) -> IsolatedSource:
        path = tmp_path / "slide.tiff"
        path.write_text(str(does) + "\n")
        opened.append(IsolatedSource(path, limits))
        return opened[-1]

    yield open_it
    for source in opened:
        source.close()


FORMATS: dict[str, Callable[[Path], Path]] = {
    "svs": lambda folder: write_svs(folder / "a.svs", RGB),
    "vms": lambda folder: write_vms(folder, RGB),
    "mrxs": lambda folder: write_mirax(folder, RGB),
    "dicom": lambda folder: write_dicom(folder, RGB)[0],
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_child_gives_the_same_slide_and_the_same_pixels(name: str, tmp_path: Path) -> None:
    path = FORMATS[name](tmp_path)
    with open_slide(path) as plain, open_slide(path, isolate=True) as isolated:
        for what in ("path", "id", "name", "vendor", "mpp", "mpp_source", "level_dimensions", "bounds"):
            assert getattr(plain, what) == getattr(isolated, what), what
        box = Box(plain.bounds.x + 3, plain.bounds.y + 5, 300, 200)
        for mpp in (0.5, 1.3):
            assert np.array_equal(np.asarray(plain.read(box, mpp)), np.asarray(isolated.read(box, mpp)))


def test_what_does_not_decode_is_told_as_without_a_child(tmp_path: Path) -> None:
    path = damage(write_svs(tmp_path / "a.svs", RGB), [(0, 0)])
    words = []
    for isolate in (False, True):
        with open_slide(path, isolate=isolate) as slide:
            with pytest.raises(RegionUnreadable) as caught:
                slide.read(Box(0, 0, 100, 100), 0.5)
            words.append(str(caught.value))
            assert slide.read(Box(300, 300, 100, 100), 0.5).size == (100, 100)
    assert words[0] == words[1]


REFUSED: dict[str, tuple[Callable[[Path], Path], type[SlideError]]] = {
    "nothing there": (lambda folder: folder / "missing.svs", SlideError),
    "no slide": (lambda folder: _written(folder / "a.svs", b"no slide at all"), SlideError),
    "a label": (lambda folder: _written(folder / "a_label.tiff", b"II*\0"), NotASlide),
    "no scale": (lambda folder: write_svs(folder / "a.svs", RGB, mpp=None), MppError),
}


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_refused_in_the_same_words(name: str, tmp_path: Path) -> None:
    make, kind = REFUSED[name]
    path, errors = make(tmp_path), []
    for isolate in (False, True):
        with pytest.raises(kind) as caught:
            open_slide(path, isolate=isolate)
        errors.append(caught.value)
    assert str(errors[0]) == str(errors[1])
    assert type(errors[0]) is type(errors[1])
    assert getattr(errors[0], "kind", None) == getattr(errors[1], "kind", None)


ENDS = {
    bad.CRASH: "ended with signal 11 and was stopped",
    bad.HUNGRY: "needed more than 1 GB of memory",
    bad.ABORT: "needed more than 1 GB of memory",
    bad.WRITES: "File too large",
    bad.GARBAGE: "SystemError: a library was confused",
    bad.CONFUSED: "gave 257 x 256 px in place of 256 x 256",
}


@pytest.mark.parametrize("place", ENDS)
def test_a_place_that_harms_the_reader_is_told_and_the_others_are_read(
    place: int, fake: Callable[..., IsolatedSource]
) -> None:
    source = fake(limits=Limits(memory=1 << 30))
    with pytest.raises(DecodeError, match=ENDS[place]):
        source.read_level(0, place, 0, 256, 256)
    image, _ = source.read_level(0, 512, 768, 256, 256)
    assert image.getpixel((0, 0)) == (2, 3, 7)
    assert not Path("written-by-a-slide").exists() or not Path("written-by-a-slide").read_bytes()


@pytest.mark.parametrize("place", [bad.CRASH, bad.HUNGRY, bad.GARBAGE])
def test_a_file_that_harms_the_reader_as_it_is_opened_is_refused_in_one_line(
    place: int, fake: Callable[..., IsolatedSource]
) -> None:
    with pytest.raises(SlideError, match=ENDS[place].removesuffix(" and was stopped")) as caught:
        fake(place, Limits(memory=1 << 30))
    assert "\n" not in str(caught.value)
    assert "slide.tiff" in str(caught.value)


def test_a_reader_that_hangs_is_stopped(fake: Callable[..., IsolatedSource]) -> None:
    source = fake()
    assert source._child is not None
    source._child.limits = Limits(seconds=0.2)  # once it is open, which may take its time
    with pytest.raises(DecodeError, match=r"needed more than 0\.2 s and was stopped"):
        source.read_level(0, bad.HANG, 0, 256, 256)
    assert source.read_level(0, 0, 0, 256, 256)[0].size == (256, 256)


def test_a_file_that_ends_the_reader_again_and_again_is_given_up(
    fake: Callable[..., IsolatedSource],
) -> None:
    source = fake()
    for _ in range(3):
        with pytest.raises(DecodeError, match="signal 11 and was stopped"):
            source.read_level(0, bad.CRASH, 0, 256, 256)
    with pytest.raises(DecodeError, match="after 3 of them none is started again"):
        source.read_level(0, 0, 0, 256, 256)


def test_of_many_reads_at_once_only_those_that_harm_fail(fake: Callable[..., IsolatedSource]) -> None:
    source = fake()
    places = [*range(0, 7680, 256), bad.CRASH]

    def read(x: int) -> tuple[int, ...] | str:
        try:
            return source.read_level(0, x, 256, 64, 64)[0].getpixel((5, 5))  # type: ignore[return-value]
        except DecodeError as error:
            return str(error)

    with ThreadPoolExecutor(12) as pool:
        found = dict(zip(places, pool.map(read, places), strict=True))
    assert "signal 11" in str(found.pop(bad.CRASH))
    assert found == {x: (x // 256 % 256, 1, 7) for x in found}


def test_no_child_is_left_when_a_slide_is_closed_or_refused(fake: Callable[..., IsolatedSource]) -> None:
    source = fake()
    assert source._child is not None
    number = source._child._process.pid
    source.close()
    with pytest.raises(ProcessLookupError):  # neither running nor waiting to be asked how it ended
        os.kill(number, 0)
    with pytest.raises(SlideError, match="closed"):
        source.read_level(0, 0, 0, 256, 256)


def test_a_child_ends_with_its_parent(tmp_path: Path) -> None:
    path = write_svs(tmp_path / "a.svs", RGB)
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from core_model.slides.isolation.source import IsolatedSource\n"
        "source = IsolatedSource(Path(sys.argv[1]))\n"
        "print(source._child._process.pid, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True)
    with parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        # The child holds the other end of no pipe of ours; its own end is seen by waiting for it.
        watched = os.pidfd_open(child)
    import select

    readable, _, _ = select.select([watched], [], [], 30)
    os.close(watched)
    assert readable, "the child outlived its parent"


def test_a_child_has_no_keys_of_ours_and_no_modules_of_the_folder_we_are_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('a module of the slide folder was run')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with open_slide(write_svs(tmp_path / "a.svs", RGB), isolate=True) as slide:
        child = slide._source._child  # type: ignore[attr-defined]
        assert b"sk-secret" not in Path(f"/proc/{child._process.pid}/environ").read_bytes()
        assert slide.read(Box(0, 0, 100, 100), 0.5).size == (100, 100)
