"""The identity of a slide: every file of it counts; where it lies, and when it was written, do not."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import format_files as formats
import imagecodecs
import multi_files as many
import numpy as np
import pytest
import scanner_files as scanners
import tifffile
from pydicom.uid import JPEGLSLossless
from slide_files import ColourEncoder, damage, stained, write_svs

from core_model.features.extract import extract
from core_model.features.store import FeatureStore
from core_model.slides import identity
from core_model.slides.parts import is_store_table
from core_model.slides.slide import open_slide

RGB = stained(512, 512)
FORMATS: dict[str, Callable[[Path], object]] = {
    "SVS": lambda folder: write_svs(folder / "scan.svs", RGB),
    "VMS": lambda folder: many.write_vms(folder, RGB),
    "MIRAX": lambda folder: many.write_mirax(folder, RGB),
    "DICOM": lambda folder: many.write_dicom(folder, RGB),
    "DICOM by wsidicom": lambda folder: formats.write_packed_dicom(
        folder, RGB, str(JPEGLSLossless), imagecodecs.jpegls_encode
    ),
    "Zarr": lambda folder: formats.write_zarr(folder, RGB, levels=1),
    "Zarr 2": lambda folder: formats.write_zarr(folder, RGB, version=2, levels=1),
    "CZI": lambda folder: formats.write_czi(folder / "scan.czi", RGB),
    "SCN": lambda folder: scanners.write_scn(folder / "scan.scn", RGB),
    "NDPI": lambda folder: scanners.write_ndpi(folder / "scan.ndpi", RGB),
    "BIF": lambda folder: scanners.write_bif(folder / "scan.bif", RGB),
}


def id_of(folder: Path) -> str:
    with open_slide(folder) as slide:
        return slide.id


def written(kind: str, folder: Path) -> Path:
    folder.mkdir()
    FORMATS[kind](folder)
    return folder


@pytest.mark.parametrize("kind", FORMATS)
def test_a_copy_elsewhere_and_later_is_the_same_slide(kind: str, tmp_path: Path) -> None:
    one = written(kind, tmp_path / "one")
    other = Path(shutil.copytree(one, tmp_path / "deep" / "other"))
    for path in other.rglob("*"):
        os.utime(path, (1, 1))
    assert id_of(one) == id_of(other)


def test_instances_under_other_names_are_the_same_slide(tmp_path: Path) -> None:
    many.write_dicom(tmp_path / "one", RGB)
    many.write_dicom(tmp_path / "other", RGB, prefix="zz", suffix="")
    assert id_of(tmp_path / "one") == id_of(tmp_path / "other")


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("small", [True, False], ids=["whole", "sampled"])
def test_a_change_in_any_file_makes_another_slide(
    kind: str, small: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One byte where a file is read whole; elsewhere a thirtieth of it."""
    if not small:
        monkeypatch.setattr(identity, "WHOLE", 0)
        monkeypatch.setattr(identity, "CHUNK", 64)
    folder = written(kind, tmp_path / "one")
    before = id_of(folder)
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        content = path.read_bytes()
        if path.suffix in (".vms", ".ini", ".opt") or path.name == "Index.dat" or is_store_table(path):
            continue  # tables without which nothing opens
        length = 1 if small else max(64, len(content) // 30)
        start = len(content) * 3 // 4
        changed = bytes(byte ^ 1 for byte in content[start : start + length])
        path.write_bytes(content[:start] + changed + content[start + length :])
        assert id_of(folder) != before, path.name
        path.write_bytes(content)
    assert id_of(folder) == before


def test_a_redacted_label_makes_another_slide(tmp_path: Path) -> None:
    """Also where the file is so large that it is sampled: its small pages are sampled by themselves."""
    path = tmp_path / "a.tiff"
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(RGB, tile=(128, 128), photometric="rgb", compression="jpeg", metadata=None)
        tiff.write(
            np.asarray(many.label()), photometric="rgb", metadata=None, description="label", subfiletype=1
        )
    with tifffile.TiffFile(path) as tiff_file:
        page = tiff_file.pages[1]
        place, size = page.dataoffsets[0], page.databytecounts[0]
    before = path.read_bytes()
    ids = []
    for content in (before, before[:place] + bytes(size) + before[place + size :]):
        path.write_bytes(content)
        ids.append(identity._part_digest(path, 10 * identity.WHOLE))
    assert ids[0] != ids[1]


def test_reading_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "large.svs"
    with path.open("wb") as file:
        file.truncate(20 << 30)  # a hole: it takes no room
    places = list(identity._places(path, 20 << 30, 20 << 30))
    assert sum(length for _, length in places) == identity.CHUNKS * identity.CHUNK == 32 << 20
    assert places[0][0] == 0
    assert places[-1][0] == (20 << 30) - identity.CHUNK


def test_a_damaged_slide_copied_anew_does_not_get_the_broken_ones_features(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = write_svs(tmp_path / "whole.svs", stained(960, 960))
    scan = damage(Path(shutil.copy(whole, tmp_path / "scan.svs")), [(1, 1), (2, 2)])
    encoder, store = ColourEncoder(), FeatureStore(tmp_path / "store")
    with open_slide(scan) as broken:
        assert len(extract(broken, encoder, store).failed) > 0
        quickhash = broken._source.properties["openslide.quickhash-1"]
    shutil.copy(whole, scan)
    with open_slide(scan) as mended, caplog.at_level(logging.WARNING):
        assert mended._source.properties["openslide.quickhash-1"] == quickhash, "which sees no difference"
        assert extract(mended, encoder, store).failed == ()
    assert "earlier version" in caplog.text
    assert "another slide" in caplog.text
