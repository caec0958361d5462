"""DICOM that OpenSlide does not read, by wsidicom: codecs, sparse tiling, concatenations, lost frames."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import format_files as formats
import imagecodecs
import numpy as np
import pytest
from multi_files import ROOT, jpeg, write_dicom
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import HTJ2KLossless, JPEGLSLossless
from slide_files import stained

from core_model.errors import RegionUnreadable, SlideError
from core_model.slides.box import Box
from core_model.slides.formats.dicom import open_dicom
from core_model.slides.slide import open_slide
from core_model.slides.sources import DecodeError

RGB = stained(512, 512)
SYNTAXES: dict[str, tuple[str, formats.Packed]] = {
    "JPEG-LS": (str(JPEGLSLossless), imagecodecs.jpegls_encode),
    "HTJ2K": (str(HTJ2KLossless), imagecodecs.htj2k_encode),
}


@pytest.mark.parametrize("name", SYNTAXES)
def test_codecs_that_openslide_lacks_are_read_without_loss(name: str, tmp_path: Path) -> None:
    with open_slide(formats.write_packed_dicom(tmp_path, RGB, *SYNTAXES[name])) as slide:
        assert slide.reader.startswith("wsidicom ")
        assert (slide.level_dimensions, slide.mpp) == (((512, 512), (256, 256)), 0.5)
        assert np.array_equal(np.asarray(slide.read(slide.box, 0.5)), RGB)
        assert np.array_equal(np.asarray(slide.read(Box(100, 30, 200, 300), 0.5)), RGB[30:330, 100:300])


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda frame: frame[: len(frame) // 2],
    "zeros": lambda frame: bytes(len(frame)),
    "half zeros": lambda frame: frame[: len(frame) // 2] + bytes(len(frame) - len(frame) // 2),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", [*SYNTAXES, "JPEG"])
def test_a_damaged_frame_does_not_decode(name: str, damage: str, tmp_path: Path) -> None:
    """JPEG too, as frames of servers come in it; of a file OpenSlide reads it."""
    if name == "JPEG":
        path = write_dicom(tmp_path, RGB)[0]
    else:
        path = formats.write_packed_dicom(tmp_path, RGB, *SYNTAXES[name])
    formats.change_frames(path, lambda frames: [*frames[:5], DAMAGES[damage](frames[5]), *frames[6:]])
    source = open_dicom(path)
    with pytest.raises(DecodeError):
        source.read_level(0, 128, 128, 128, 128)
    assert source.read_level(0, 256, 256, 128, 128)[0].size == (128, 128)
    source.close()


def test_a_frame_that_is_not_there_does_not_decode(tmp_path: Path) -> None:
    path = formats.write_packed_dicom(tmp_path, RGB, *SYNTAXES["JPEG-LS"])
    path.write_bytes(path.read_bytes()[:-30_000])
    with open_slide(path) as slide, pytest.raises(RegionUnreadable):
        slide.read(Box(0, 0, 512, 512), 0.5)


@pytest.mark.parametrize("reader", ["OpenSlide", "wsidicom"])
def test_what_a_sparse_instance_does_not_list_was_not_scanned(reader: str, tmp_path: Path) -> None:
    if reader == "OpenSlide":
        path = write_dicom(tmp_path, RGB)[0]
    else:
        path = formats.write_packed_dicom(tmp_path, RGB, *SYNTAXES["JPEG-LS"])
    formats.make_sparse(path, dropped=[5, 6])
    with open_slide(path) as slide:
        assert slide.reader.startswith(reader)
        seen = np.asarray(slide.read(slide.box, 0.5)).astype(int)
    assert (seen[128:256, 128:384] == 255).all()
    assert np.abs(seen[256:] - RGB[256:]).mean() < 1


def concatenated(path: Path) -> None:
    """Split a file into two parts, as scanners do where one would be larger than 4 GB."""
    data = dcmread(path)
    frames = list(generate_frames(data.PixelData, number_of_frames=int(data.NumberOfFrames)))
    for part in range(2):
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = f"{ROOT}.55.{part}"
        data.ConcatenationUID, data.SOPInstanceUIDOfConcatenationSource = f"{ROOT}.56", f"{ROOT}.57"
        data.InConcatenationNumber, data.InConcatenationTotalNumber = part + 1, 2
        data.ConcatenationFrameOffsetNumber = part * len(frames) // 2
        own = frames[part * len(frames) // 2 : (part + 1) * len(frames) // 2]
        data.PixelData, data.NumberOfFrames = encapsulate(own), len(own)
        data["PixelData"].is_undefined_length = True
        data.save_as(path.with_name(f"part{part}.dcm"), enforce_file_format=True)
    path.unlink()


def test_the_parts_of_a_concatenation_are_one_level(tmp_path: Path) -> None:
    concatenated(write_dicom(tmp_path, RGB)[0])
    with open_slide(tmp_path) as slide:
        assert slide.level_dimensions == ((512, 512), (256, 256))
        seen = np.asarray(slide.read(slide.box, 0.5)).astype(int)
    assert np.abs(seen - RGB).mean() < 1


def changed(folder: Path, **values: object) -> Path:
    """A series that OpenSlide does not read, with other values in the headers of its levels."""
    path = formats.write_packed_dicom(folder, RGB, *SYNTAXES["JPEG-LS"])
    for file in sorted(folder.glob("*.dcm"))[:2]:
        data = dcmread(file)
        for name, value in values.items():
            setattr(data, name, value)
        data.save_as(file, enforce_file_format=True)
    return path


def test_focal_planes_are_not_chosen_between(tmp_path: Path) -> None:
    path = formats.write_packed_dicom(tmp_path, RGB, *SYNTAXES["JPEG-LS"])
    for file in sorted(tmp_path.glob("*.dcm"))[:2]:
        formats.change_frames(file, lambda frames: frames * 2)
        data = dcmread(file)
        data.TotalPixelMatrixFocalPlanes, data.NumberOfFrames = 2, int(data.NumberOfFrames) * 2
        data.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices = 0.001
        data.save_as(file, enforce_file_format=True)
    with pytest.raises(SlideError, match="2 images of one size"):
        open_slide(path)


def test_epifluorescence_is_refused(tmp_path: Path) -> None:
    code, light = Dataset(), Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "111743", "DCM", "Epifluorescence"
    light.OpticalPathIdentifier, light.IlluminationTypeCodeSequence = "1", [code]
    with pytest.raises(SlideError, match="of fluorescence"):
        open_slide(changed(tmp_path, OpticalPathSequence=[light]))


def test_grey_is_refused(tmp_path: Path) -> None:
    path = changed(tmp_path, SamplesPerPixel=1, PhotometricInterpretation="MONOCHROME2")
    with pytest.raises(SlideError, match="grey"):
        open_slide(path)


def test_a_level_that_cannot_be_read_is_not_left_out(tmp_path: Path) -> None:
    """wsidicom itself goes on without it: the next one would pass for level 0."""
    path = formats.write_packed_dicom(tmp_path, RGB, *SYNTAXES["JPEG-LS"])
    data = dcmread(path)
    del data.PhotometricInterpretation
    data.save_as(path, enforce_file_format=True)
    with pytest.raises(SlideError, match="a level of it cannot be read"):
        open_slide(path)


def test_jpeg_frames_that_hold_rgb_keep_their_colours(tmp_path: Path) -> None:
    """With YCbCr declared they would be turned; with RGB they are as they are."""
    colours = {}
    for kind in ("RGB", "YBR_FULL_422"):
        path = formats.write_packed_dicom(tmp_path / kind, RGB, "1.2.840.10008.1.2.4.50", as_is(kind), kind)
        source = open_dicom(path)
        colours[kind] = np.asarray(source.read_level(0, 0, 0, 512, 512)[0]).astype(int)
        source.close()
    assert np.abs(colours["RGB"] - RGB).mean() < 2
    assert np.abs(colours["YBR_FULL_422"] - RGB).mean() < 2


def as_is(kind: str) -> formats.Packed:
    if kind != "RGB":
        return jpeg
    return lambda tile: imagecodecs.jpeg8_encode(tile, level=95, colorspace="RGB", outcolorspace="RGB")
