"""Files made to do harm end as one clear line, in bounded memory; no name or link in them is followed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import hostile_files as files
import numpy as np
import pytest
import tifffile
from multi_files import write_dicom, write_mirax, write_vms
from slide_files import stained

from core_model.errors import RegionUnreadable, SlideError
from core_model.slides.box import Box
from core_model.slides.discover import slides_under
from core_model.slides.isolation.process import Child
from core_model.slides.isolation.source import IsolatedSource
from core_model.slides.isolation.wire import Limits
from core_model.slides.slide import Slide, open_slide

Make = Callable[[Path], Path]
MOST = 600 << 20
"""Bytes that the child may have had at most; its limit is a GB."""


@pytest.fixture(scope="module")
def child() -> Iterator[Child]:
    """One child for all: what it cannot bear ends it, and the next test says so."""
    made = Child(Limits(memory=1 << 30, seconds=120))
    yield made
    made.close()


def tiff(**change: Any) -> Make:
    return lambda folder: files.tiff(folder / "a.tiff", **change)


def headed(**change: Any) -> Make:
    """A DICOM slide with other values in its header."""

    def make(folder: Path) -> Path:
        def apply(data: Any) -> None:
            for name, value in change.items():
                setattr(data, name, value)

        return files.dicom(folder, apply)

    return make


MANY = 2_560_000
"""Px of a side that has 10,000 tiles."""

REFUSED: dict[str, tuple[Make, str]] = {
    "directories in a circle": (lambda f: files.cyclic(f / "a.tiff"), "lead in a circle"),
    "100 million tiles": (tiff(t256=MANY, t257=MANY), "cannot open it|which no slide is"),
    "100 million tiles, said so": (
        lambda f: files.counting(f / "a.tiff", 324, 100_000_000, t256=MANY, t257=MANY),
        "cannot open it|cannot be read|which no slide is",
    ),
    "absurd size": (tiff(t256=2**32 - 1, t257=2**32 - 1), "cannot open it|which no slide is"),
    "absurd size, BigTIFF": (tiff(big=True, t256=2**62, t257=2**62), "cannot open it|which no slide is"),
    "more than its bytes hold": (tiff(t256=60_000, t257=60_000), "2,986 bytes cannot hold"),
    "one tile for all": (lambda f: files.sharing(f / "a.tiff", 65536), "tiles claim 182,386,688 bytes"),
    "negative offsets": (tiff(t324=[2**32 - 1] * 4), "cannot open it"),
    "negative offsets, BigTIFF": (tiff(big=True, t324=[2**64 - 8] * 4), "cannot open it"),
    "tiles of no size": (tiff(t322=0, t323=0), "cannot open it"),
    "tiles of absurd size": (tiff(t322=1 << 30, t323=1 << 30), "tiles claim to be 1,073,741,824"),
    "60,000 channels": (tiff(t277=60_000), "60000 channels"),
    "PNG bomb": (lambda f: files.png(f / "a.png", 60_000, 60_000), "too large to decode"),
    "PNG of absurd size": (lambda f: files.png(f / "a.png", 2**31 - 1, 2**31 - 1), "too large to decode"),
    "JPEG bomb": (lambda f: files.written(f / "a.jpg", files.large_jpeg(65_000, 65_000)), "too large"),
    "gigabytes of nothing": (lambda f: files.sparse(f / "a.svs"), "no slide that OpenSlide reads"),
    "index naming a parent": (lambda f: files.index_naming(f, "../x.jpg"), "not beside it"),
    "index naming the root": (lambda f: files.index_naming(f, "/etc/passwd"), "not beside it"),
    "index naming a folder": (lambda f: files.index_naming(f, ".."), "not beside it"),
    "index naming by backslash": (
        lambda f: files.index_naming(f, "..\\x.opt", "OptimisationFile"), "not beside it"
    ),
    "index under another suffix": (
        lambda f: files.index_naming(f, "x.jpg").rename(f / "a.tif"), "under another suffix"
    ),
    "index without end": (
        lambda f: files.written(f / "a.vms", b"[Virtual Microscope Specimen]\n" + b"a=b\n" * 300_000),
        "too long",
    ),
    "Slidedat naming a parent": (lambda f: files.mirax_naming(f, "../../x.dat"), "not beside it"),
    "Slidedat naming the root": (
        lambda f: files.mirax_naming(f, "/etc/passwd", "INDEXFILE"), "not beside it"
    ),
    "link out of the folder": (files.mirax_linking, "a link that leads out of its folder"),
    "DICOM of absurd size": (
        headed(TotalPixelMatrixColumns=2**32 - 1, TotalPixelMatrixRows=2**32 - 1), "which no slide is"
    ),
    "DICOM of 100 million frames": (
        headed(TotalPixelMatrixColumns=MANY, TotalPixelMatrixRows=MANY, NumberOfFrames=100_000_000),
        "which no slide is",
    ),
    "DICOM frames of absurd size": (headed(Rows=65_535, Columns=65_535), "tiles claim to be"),
    "deflated DICOM": (lambda f: files.deflated_dicom(f / "a.dcm"), "deflated as a whole"),
    "nested DICOM": (lambda f: files.nested_dicom(f / "a.dcm"), "cannot open it|no slide|not installed"),
    "Zarr chunk bomb": (
        lambda f: files.zarr(f, {"chunks": [3, 1 << 20, 1 << 20], "shape": [3, 1 << 20, 1 << 20]}), "chunks"
    ),
    "Zarr of absurd size": (lambda f: files.zarr(f, {"shape": [3, 2**60, 2**60]}), "without sense"),
    "nested Zarr": (
        lambda f: files.zarr(f, {}, '{"multiscales":' + "[" * 200_000 + "]" * 200_000 + "}"), "damaged"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_file_claims_against_reason_is_refused_in_one_line(
    name: str, child: Child, tmp_path: Path
) -> None:
    make, words = REFUSED[name]
    path = make(tmp_path)
    with pytest.raises(SlideError, match=words) as caught:
        IsolatedSource(path, child=child).close()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    assert not child.is_dead, "it took a whole process to refuse it"
    assert child.peak() < MOST


UNREAD: dict[str, tuple[Make, str]] = {
    "deflate bomb": (lambda f: files.deflated(f / "a.tiff"), "does not unpack"),
    "tiles of gigabytes": (tiff(t325=[2**31 - 1] * 4), "claims 2,147,483,647 bytes"),
    "DICOM with too many frames": (headed(NumberOfFrames=2**31 - 1), "does not decode"),
}


@pytest.mark.parametrize("name", UNREAD)
def test_what_a_tile_claims_against_reason_is_unreadable(name: str, child: Child, tmp_path: Path) -> None:
    make, words = UNREAD[name]
    source = IsolatedSource(make(tmp_path), child=child)
    with Slide(source.path, source, source.identity, 0.5, "user") as slide:
        with pytest.raises(RegionUnreadable, match=words):
            slide.read(Box(0, 0, 100, 100), 0.5)
        with pytest.raises(SlideError, match="no part of it decodes"):
            slide.overview()
    assert not child.is_dead
    assert child.peak() < MOST


HARMLESS: dict[str, Make] = {
    "as it should be": tiff(),
    "BigTIFF": tiff(big=True),
    "next directory beyond the end": tiff(after=1 << 30),
    "entities that would fill the memory": lambda f: files.tiff(f / "a.ome.tiff", t270=files.laughs()),
    "names that are no UTF-8": lambda f: files.tiff(
        f / "a.svs", t270=b"Aperio Image Library v12.2.2 \r\n512x512|\xff\xfe = 1|MPP = 0.5\0"
    ),
    "elements in elements": lambda f: files.tiff(f / "a.ome.tiff", t270=files.nested(50_000)),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_what_does_no_harm_is_read(name: str, child: Child, tmp_path: Path) -> None:
    source = IsolatedSource(HARMLESS[name](tmp_path), child=child)
    with Slide(source.path, source, source.identity, 0.5, "user") as slide:
        assert slide.read(Box(0, 0, 100, 100), 0.5).size == (100, 100)
        assert slide.overview()[0].size == (512, 512)
    assert child.peak() < MOST


@pytest.mark.parametrize(
    "make",
    [partial(files.index_naming, name="../x.jpg"), partial(files.mirax_naming, name="../../x.dat")],
)
def test_names_that_leave_the_folder_are_not_followed_without_a_child_either(
    make: Make, tmp_path: Path
) -> None:
    folder = tmp_path / "slide"
    folder.mkdir()
    with pytest.raises(SlideError, match="not beside it"):
        open_slide(make(folder))


def test_links_are_followed_where_the_user_vouches_for_the_slide(tmp_path: Path) -> None:
    path = files.mirax_linking(tmp_path)
    with open_slide(path) as slide:
        assert slide.read(Box(600, 400, 50, 50), 0.5).size == (50, 50)


@pytest.mark.parametrize("write", [write_vms, write_mirax, lambda *a: write_dicom(*a)[0]])
def test_a_slide_that_is_itself_a_link_and_a_folder_that_is_one_are_read(
    write: Callable[[Path, np.ndarray], Path], tmp_path: Path
) -> None:
    path = write(tmp_path / "store", stained(512, 512))
    (tmp_path / "archive").symlink_to(tmp_path / "store")
    with open_slide(tmp_path / "archive" / path.name, isolate=True) as slide:
        assert slide.read(Box(600 % slide.width, 400, 50, 50), 0.5).size == (50, 50)


def test_looking_through_a_folder_unpacks_nothing(tmp_path: Path) -> None:
    files.deflated_dicom(tmp_path / "a.dcm")
    files.nested_dicom(tmp_path / "b.dcm")
    shutil.copy(write_dicom(tmp_path / "c", stained(512, 512))[0], tmp_path / "c.dcm")
    shutil.rmtree(tmp_path / "c")
    assert slides_under([tmp_path]).paths == [tmp_path / "c.dcm"]


def test_a_tile_that_an_aperio_file_lacks_is_told_also_where_openslide_reads_it(tmp_path: Path) -> None:
    path, rgb = tmp_path / "a.svs", stained(480, 480)
    words = "Aperio Image Library v11.2.1 \r\n480x480 [0,0 480x480] (240x240) J2K/KDU Q=70|MPP = 0.4990"
    tifffile.imwrite(
        path, rgb, tile=(240, 240), photometric="rgb", compression=33005, metadata=None, description=words
    )
    with tifffile.TiffFile(path) as tiff_file:
        place = tiff_file.pages[0].tags["TileByteCounts"].valueoffset
    data = bytearray(path.read_bytes())
    data[place : place + 4] = bytes(4)
    path.write_bytes(data)
    with open_slide(path) as slide:
        assert slide.read(Box(240, 0, 240, 240), 0.499).size == (240, 240)
        with pytest.raises(RegionUnreadable, match="missing"):
            slide.read(Box(0, 0, 240, 240), 0.499)
