"""OME-Zarr: both versions are read as they are, and whatever is lost, damaged or absurd is refused."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import format_files as formats
import numcodecs
import numpy as np
import pytest
import zarr
from slide_files import stained

from core_model.errors import RegionUnreadable, SlideError
from core_model.slides.box import Box
from core_model.slides.slide import open_slide

RGB = stained(384, 512)
WHOLE = Box(0, 0, 512, 384)


def pixels(path: Path, box: Box = WHOLE, mpp: float = 0.5) -> np.ndarray:
    with open_slide(path) as slide:
        return np.asarray(slide.read(box, mpp))


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("apart", [False, True], ids=["together", "channels apart"])
def test_pixels_levels_and_scale_are_those_of_the_store(version: int, apart: bool, tmp_path: Path) -> None:
    store = formats.write_zarr(tmp_path, RGB, version, apart=apart)
    with open_slide(store) as slide:
        assert (slide.level_dimensions, slide.mpp, slide.mpp_source) == (
            ((512, 384), (256, 192)),
            0.5,
            "property",
        )
        assert (slide.vendor, slide.reader) == ("ome-zarr", f"zarr {zarr.__version__}")
        assert np.array_equal(np.asarray(slide.read(WHOLE, 0.5)), RGB)
        assert np.array_equal(np.asarray(slide.read(Box(101, 57, 300, 211), 0.5)), RGB[57:268, 101:401])
        assert np.array_equal(np.asarray(slide.read(WHOLE, 1.0)), RGB[::2, ::2])
        assert slide.overview(128)[0].size == (128, 96)


@pytest.mark.parametrize(
    ("unit", "size", "mpp"),
    [("nanometer", 500, 0.5), ("millimeter", 0.0005, 0.5), ("micrometer", 0.25, 0.25), ("inch", 1e-5, 0.254)],
)
def test_the_unit_of_the_axes_counts(unit: str, size: float, mpp: float, tmp_path: Path) -> None:
    axes = [{"name": name} | ({"unit": unit} if name in "zyx" else {}) for name in "tczyx"]
    store = formats.write_zarr(tmp_path, RGB, mpp=size, about={"multiscales": {"axes": axes}})
    with open_slide(store) as slide:
        assert slide.mpp == pytest.approx(mpp)


def test_without_a_unit_the_scale_is_not_known(tmp_path: Path) -> None:
    about = {"multiscales": {"axes": [{"name": name} for name in "tczyx"]}}
    with pytest.raises(SlideError, match="micrometres per pixel"):
        open_slide(formats.write_zarr(tmp_path, RGB, about=about))


def test_the_scan_of_a_converted_slide_is_opened_and_no_label(tmp_path: Path) -> None:
    store = formats.write_zarr(tmp_path, RGB[:128, :128], series=("a.svs", "label image", "macro image"))
    with open_slide(store) as slide:
        assert (slide.width, slide.height) == (128, 128), "the label and the macro image are larger"
        assert np.array_equal(np.asarray(slide.read(slide.box, 0.5)), RGB[:128, :128])


def folder_in_place(path: Path) -> None:
    path.unlink()
    path.mkdir()


def damages() -> dict[str, Callable[[Path], object]]:
    def change(change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
        return lambda path: path.write_bytes(change(path.read_bytes()))

    return {
        "missing": Path.unlink,
        "empty": change(lambda data: b""),
        "truncated": change(lambda data: data[:-9]),
        "zeros": change(lambda data: bytes(len(data))),
        "overwritten": change(lambda data: data[:20] + bytes(byte ^ 255 for byte in data[20:60]) + data[60:]),
        "longer": change(lambda data: data + bytes(1 << 20)),
        "a folder": folder_in_place,
    }


PACKED = {
    "zstd 3": (3, "auto"), "blosc 3": (3, zarr.codecs.BloscCodec()),
    "blosc 2": (2, numcodecs.Blosc()), "zlib 2": (2, numcodecs.Zlib()),
    "none 2": (2, None), "none 3": (3, None),
}  # fmt: skip


@pytest.mark.parametrize("packed", PACKED)
def test_a_chunk_that_is_lost_or_damaged_does_not_decode(packed: str, tmp_path: Path) -> None:
    """Zarr itself gives the fill value for one that is missing."""
    version, codec = PACKED[packed]
    whole = formats.write_zarr(tmp_path, RGB, version, packed=codec)
    for name, damage in damages().items():
        if codec is None and name in ("zeros", "overwritten"):
            continue  # such bytes are pixels like any others
        store = Path(shutil.copytree(whole, tmp_path / f"{name}.zarr"))
        damage(formats.chunk_files(store)[0])
        with open_slide(store) as slide:
            with pytest.raises(RegionUnreadable):
                slide.read(Box(0, 0, 100, 100), 0.5)
            assert np.array_equal(np.asarray(slide.read(Box(128, 128, 384, 256), 0.5)), RGB[128:, 128:])
            survey = slide.survey(mpp=0.5)
        assert survey.unknown[:128, :128].all(), name
        assert not survey.unknown[130:, 130:].any(), name


def edited(store: Path, change: Callable[[dict[str, Any]], object], table: str = "0/zarr.json") -> Path:
    about = json.loads((store / table).read_text())
    change(about)
    (store / table).write_text(json.dumps(about))
    return store


def of_group(**changes: Any) -> tuple[Callable[[dict[str, Any]], object], str]:
    return lambda about: about["attributes"]["ome"]["multiscales"][0].update(changes), "zarr.json"


def of_array(**changes: Any) -> tuple[Callable[[dict[str, Any]], object], str]:
    return lambda about: about.update(changes), "0/zarr.json"


def chunks(*shape: int) -> dict[str, Any]:
    return {"name": "regular", "configuration": {"chunk_shape": list(shape)}}


ELSEWHERE = [{"path": "../other/0", "coordinateTransformations": []}]
REFUSED: dict[str, tuple[tuple[Callable[[dict[str, Any]], object], str], str]] = {
    "16 bits": (of_array(data_type="uint16"), r"samples of type uint16.*faithfully"),
    "bool": (of_array(data_type=True), "samples of type True"),
    "one channel": (of_array(shape=[1, 1, 1, 384, 512]), "one channel of grey"),
    "fluorescence": (of_array(shape=[1, 5, 1, 384, 512]), "5 channels"),
    "focal planes": (of_array(shape=[1, 3, 9, 384, 512]), "9 images of one size"),
    "time points": (of_array(shape=[4, 3, 1, 384, 512]), "4 images of one size"),
    "absurd size": (of_array(shape=[1, 3, 1, 10**12, 10**12]), "without sense"),
    "negative size": (of_array(shape=[1, 3, 1, -384, 512]), "without sense"),
    "a side of text": (of_array(shape=[1, 3, 1, "384", 512]), "without sense"),
    "dimensions": (of_array(shape=[1] * 40), "without sense"),
    "huge chunks": (
        of_array(chunk_grid=chunks(1, 3, 1, 1 << 20, 1 << 20)),
        "no size for a slide",
    ),
    "tiny chunks": (
        of_array(chunk_grid=chunks(1, 1, 1, 1, 1)),
        "no size for a slide",
    ),
    "pickled": (of_array(codecs=[{"name": "bytes"}, {"name": "numcodecs.pickle"}]), r"numcodecs\.pickle"),
    "shards": (of_array(codecs=[{"name": "sharding_indexed"}]), "shards"),
    "elsewhere": (of_group(datasets=ELSEWHERE), "outside of it"),
    "absolute": (of_group(datasets=[{"path": "/etc"}]), "outside of it"),
    "no levels": (of_group(datasets=[]), "no OME-Zarr"),
    "a level that is not there": (of_group(datasets=[{"path": "7"}]), "is missing"),
    "axes": (of_group(axes=[{"name": "q"}] * 5), "no OME-Zarr"),
    "other levels": (of_group(datasets=[{"path": "0"}, {"path": "0"}]), "different pictures"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_shown_or_makes_no_sense_is_refused(what: str, tmp_path: Path) -> None:
    (change, table), says = REFUSED[what]
    store = edited(formats.write_zarr(tmp_path, RGB), change, table)
    with pytest.raises(SlideError, match=says):
        open_slide(store, mpp=0.5)


@pytest.mark.parametrize(
    ("colours", "fluorescent"),
    [
        (("FF0000", "00FF00", "0000FF"), False),
        (("0000FF", "00FF00", "FF0000"), True),
        (("FF00FF",) * 3, True),
    ],
)
def test_three_stains_are_no_rgb(colours: tuple[str, ...], fluorescent: bool, tmp_path: Path) -> None:
    more = {"omero": {"channels": [{"color": colour} for colour in colours]}}
    store = formats.write_zarr(tmp_path, RGB, about={"more": more})
    if not fluorescent:
        assert pixels(store).shape == (384, 512, 3)
        return
    with pytest.raises(SlideError, match="fluorescence"):
        open_slide(store)


def test_channels_that_are_called_by_dyes_are_no_rgb(tmp_path: Path) -> None:
    more = {"omero": {"channels": [{"label": label} for label in ("DAPI", "FITC", "Cy5")]}}
    with pytest.raises(SlideError, match="of fluorescence"):
        open_slide(formats.write_zarr(tmp_path, RGB, about={"more": more}))


@pytest.mark.parametrize("table", ["zarr.json", "0/zarr.json"])
@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": ' * 100_000], ids=["empty", "list", "cut", "deep"])
def test_a_damaged_table_is_told(table: str, text: str, tmp_path: Path) -> None:
    store = formats.write_zarr(tmp_path, RGB)
    (store / table).write_text(text)
    with pytest.raises(SlideError) as caught:
        open_slide(store)
    assert "\n" not in str(caught.value)


def test_a_store_that_claims_more_than_its_bytes_hold_is_refused(tmp_path: Path) -> None:
    store = edited(
        formats.write_zarr(tmp_path, RGB, levels=1), lambda about: about.update(shape=[1, 3, 1, 10**6, 10**6])
    )
    with pytest.raises(SlideError, match="cannot hold"):
        open_slide(store)


def test_links_out_of_a_store_are_not_followed_where_the_slide_is_not_trusted(tmp_path: Path) -> None:
    from core_model.slides.claims import check_links

    store = formats.write_zarr(tmp_path / "a", RGB)
    check_links(store)
    secret = tmp_path / "secret"
    secret.mkdir()
    os.symlink(secret, store / "more")
    with pytest.raises(SlideError, match="out of its folder"):
        check_links(store)


def test_a_store_of_labels_alone_or_of_wells_is_no_slide(tmp_path: Path) -> None:
    with pytest.raises(SlideError, match="no image of a slide"):
        open_slide(formats.write_zarr(tmp_path, RGB, name="a.zarr", series=("label image",)))
    plate = formats.write_zarr(tmp_path, RGB, name="b.zarr", about={"more": {"plate": {}}})
    with pytest.raises(SlideError, match="plate"):
        open_slide(plate)


def test_two_scans_of_one_size_are_not_chosen_between(tmp_path: Path) -> None:
    rgb = np.full((128, 256, 3), 200, dtype=np.uint8)
    with pytest.raises(SlideError, match="2 images of one size"):
        open_slide(formats.write_zarr(tmp_path, rgb, series=("one", "two")))
