"""Pixels are shown as the file holds them, or the file is refused in one line that says what it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from slide_files import stained

from core_model.errors import MppError, RegionUnreadable, SlideError
from core_model.slides.slide import open_slide

RGB = stained(256, 384)
SCALE: dict[str, Any] = {"resolution": (20000, 20000), "resolutionunit": "CENTIMETER"}
TILED: dict[str, Any] = {"tile": (128, 128), **SCALE}


def write(path: Path, *images: np.ndarray, description: str | None = None, **options: Any) -> Path:
    given: dict[str, Any] = {"photometric": "rgb", "metadata": None} | options
    with tifffile.TiffWriter(path) as tiff:
        for image in images:
            tiff.write(image, description=description, **given)
            description = None
    return path


def pixels(path: Path) -> np.ndarray:
    with open_slide(path, mpp=0.5) as slide:
        return np.asarray(slide.read(slide.box, slide.mpp))


def turned(orientation: int) -> dict[str, Any]:
    return {"extratags": [(274, "H", 1, orientation, True)]}


@pytest.mark.parametrize("orientation", [2, 3, 6, 8])
def test_orientation_is_ignored_as_qupath_does_or_the_file_is_refused(
    tmp_path: Path, orientation: int
) -> None:
    """One rule: pixels as they are stored. OpenSlide would turn each tile of a tiled file that is no JPEG."""
    strip = write(tmp_path / "strip.tif", RGB, **SCALE, **turned(orientation))
    assert np.array_equal(pixels(strip), RGB)
    compressed = write(tmp_path / "jpeg.tiff", RGB, compression="jpeg", **TILED, **turned(orientation))
    assert np.abs(pixels(compressed).astype(int) - RGB).mean() < 3
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(RGB).save(tmp_path / "photo.jpg", exif=exif, quality=95)
    assert np.abs(pixels(tmp_path / "photo.jpg").astype(int) - RGB).mean() < 3
    for compression in (None, "lzw", "zlib"):
        tiles = write(tmp_path / "tiles.tiff", RGB, compression=compression, **TILED, **turned(orientation))
        with pytest.raises(SlideError, match=f"Orientation tag is {orientation}"):
            open_slide(tiles)


def test_orientation_1_is_no_turn(tmp_path: Path) -> None:
    assert np.array_equal(pixels(write(tmp_path / "a.tiff", RGB, **TILED, **turned(1))), RGB)


GREY = RGB[..., 0]
CMYK = np.dstack([RGB, GREY])
OME = '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image><Pixels {} /></Image></OME>'
ODDITIES: dict[str, tuple[tuple[np.ndarray, ...], dict[str, Any], str]] = {
    "12 bits in 16": ((RGB.astype(np.uint16) << 4,), {}, "16-bit samples"),
    "float": ((GREY.astype(np.float32),), {"photometric": "minisblack"}, "32-bit floating-point"),
    "signed": ((GREY.astype(np.int8),), {"photometric": "minisblack"}, "signed integers"),
    "CMYK": ((CMYK,), {"photometric": "separated"}, "CMYK"),
    "five channels": (
        (np.dstack([CMYK, GREY]),), {"photometric": "minisblack", "planarconfig": "contig"}, "5 channels",
    ),
    "an unnamed fourth": ((CMYK,), {"extrasamples": ["unspecified"]}, "not said to be transparency"),
    "YCbCr without JPEG": ((RGB,), {"photometric": "ycbcr", "compression": "zlib"}, "YCbCr"),
    "channels as pages": ((GREY, GREY, GREY), {"photometric": "minisblack"}, "3 images of one size"),
    "planes as pages": ((RGB, RGB), {}, "2 images of one size"),
    "an OME channel": (
        (GREY,), {"photometric": "minisblack", "description": OME.format('SizeC="3" SizeZ="1" SizeT="1"')},
        "3 images of one size",
    ),
}  # fmt: skip


@pytest.mark.parametrize("tiled", [True, False])
@pytest.mark.parametrize("kind", ODDITIES)
def test_what_cannot_be_shown_faithfully_is_refused(tmp_path: Path, kind: str, tiled: bool) -> None:
    images, options, says = ODDITIES[kind]
    path = write(tmp_path / "a.tiff", *images, **(TILED if tiled else SCALE), **options)
    with pytest.raises(SlideError, match=says) as caught:
        open_slide(path, mpp=0.5)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("tiled", [True, False])
def test_grey_files_are_refused_and_transparent_ones_open(tmp_path: Path, tiled: bool) -> None:
    layout = TILED if tiled else SCALE
    grey = write(tmp_path / "grey.tiff", GREY, photometric="minisblack", **layout)
    with pytest.raises(SlideError, match="one channel of grey, without the colours of a stain"):
        open_slide(grey)
    solid = np.dstack([RGB, np.full_like(GREY, 255)])
    assert np.array_equal(
        pixels(write(tmp_path / "a.tiff", solid, extrasamples=["unassalpha"], **layout)), RGB
    )


def test_the_three_samples_of_an_ome_image_are_no_channels_of_their_own(tmp_path: Path) -> None:
    described = OME.format('SizeC="3" SizeZ="1" SizeT="1"')
    assert np.array_equal(pixels(write(tmp_path / "a.tiff", RGB, description=described, **TILED)), RGB)


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_grey_pictures_are_refused(tmp_path: Path, name: str) -> None:
    Image.fromarray(GREY).save(tmp_path / name)
    with pytest.raises(SlideError, match="one channel of grey, without the colours of a stain"):
        open_slide(tmp_path / name, mpp=0.5)


CHANNELS = '<Channel ID="Channel:0:0" Name="{}" SamplesPerPixel="{}" {}/>'


def with_channels(count: int, channels: str) -> str:
    sizes = f'SizeC="{count}" SizeZ="1" SizeT="1"'
    return OME.format(sizes).replace(" /></Image>", f">{channels}</Pixels></Image>")


@pytest.mark.parametrize(
    ("images", "channel"),
    [
        ((RGB,), CHANNELS.format("DAPI", 3, "")),
        ((RGB,), CHANNELS.format("", 3, 'IlluminationType="Epifluorescence"')),
        ((GREY,), CHANNELS.format("0", 1, 'EmissionWavelength="455"')),
        ((GREY,) * 3, "".join(CHANNELS.format(name, 1, "") for name in ("DAPI", "Cy3", "Alexa Fluor 488"))),
    ],
)
@pytest.mark.parametrize("tiled", [True, False])
def test_fluorescence_is_told_by_its_channels(
    tmp_path: Path, images: tuple[np.ndarray, ...], channel: str, tiled: bool
) -> None:
    count = sum(1 if image.ndim == 2 else 3 for image in images)
    kind = "rgb" if images[0].ndim == 3 else "minisblack"
    options = (TILED if tiled else SCALE) | {"photometric": kind}
    path = write(tmp_path / "a.ome.tiff", *images, description=with_channels(count, channel), **options)
    with pytest.raises(SlideError, match="of fluorescence, as the file says"):
        open_slide(path, mpp=0.5)


def test_akoyas_fluorescence_is_told_by_its_markers(tmp_path: Path) -> None:
    names = "<Name>DAPI</Name><Biomarker>CD8</Biomarker>"
    text = f"<PerkinElmer-QPI-ImageDescription>{names}</PerkinElmer-QPI-ImageDescription>"
    options = TILED | {"photometric": "minisblack"}
    path = write(tmp_path / "a.tiff", GREY, GREY, description=text, **options)
    with pytest.raises(SlideError, match="of fluorescence, as the file says"):
        open_slide(path, mpp=0.5)


def test_the_wavelengths_of_a_colour_camera_are_no_fluorescence(tmp_path: Path) -> None:
    channel = CHANNELS.format("TL Brightfield", 3, 'EmissionWavelength="500"')
    path = write(tmp_path / "a.tiff", RGB, description=with_channels(3, channel), **TILED)
    assert np.array_equal(pixels(path), RGB)


def test_dicoms_code_of_fluorescence_is_known() -> None:
    from core_model.slides.formats.bright import check_properties

    name = "dicom.OpticalPathSequence[0].IlluminationTypeCodeSequence[0].CodeValue"
    check_properties({name: "111744"}, "a slide")
    with pytest.raises(SlideError, match="fluorescence"):
        check_properties({name: "111743"}, "a slide")


def test_sixteen_bits_in_a_png_are_refused(tmp_path: Path) -> None:
    import imagecodecs

    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(RGB.astype(np.uint16) << 4))
    with pytest.raises(SlideError, match="16 bits"):
        open_slide(tmp_path / "a.png", mpp=0.5)


def test_a_preview_as_first_page_is_not_taken_for_the_slide(tmp_path: Path) -> None:
    preview = np.ascontiguousarray(RGB[::8, ::8])
    strip = write(tmp_path / "strip.tif", preview, RGB, **SCALE)
    assert np.array_equal(pixels(strip), RGB), "the largest page is the scan"
    tiles = write(tmp_path / "tiles.tiff", preview, RGB, tile=(16, 16), **SCALE)
    assert np.array_equal(pixels(tiles), RGB), "also where its pages are tiled"


@pytest.mark.parametrize("tiled", [True, False])
def test_a_page_that_says_it_is_a_label_is_no_slide(tmp_path: Path, tiled: bool) -> None:
    path = write(tmp_path / "a.tiff", RGB, description="Aperio\nlabel 384x256", **(TILED if tiled else SCALE))
    with pytest.raises(SlideError, match="label image"):
        open_slide(path)


def test_a_pyramid_whose_levels_are_no_previews_opens(tmp_path: Path) -> None:
    path = tmp_path / "a.tiff"
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(RGB, photometric="rgb", metadata=None, **TILED)
        tiff.write(
            np.ascontiguousarray(RGB[::2, ::2]), photometric="rgb", metadata=None, subfiletype=1, **TILED
        )
    with open_slide(path) as slide:
        assert len(slide.level_dimensions) == 2


@pytest.mark.parametrize("how", [{}, {"compression": "zlib"}, {"compression": "jpeg"}, {"tile": (64, 64)}])
def test_tags_of_any_type_are_one_line_or_the_slide(tmp_path: Path, how: dict[str, object]) -> None:
    """Every tag of the first directory, given every type that TIFF knows and one that it does not."""
    whole = write(tmp_path / "a.tif", RGB[:64, :96], **how, **SCALE).read_bytes()
    start = int.from_bytes(whole[4:8], "little")
    outcomes = set()
    for entry in range(int.from_bytes(whole[start : start + 2], "little")):
        for kind in range(1, 14):
            damaged = bytearray(whole)
            place = start + 2 + 12 * entry + 2
            damaged[place : place + 2] = kind.to_bytes(2, "little")
            (tmp_path / "a.tif").write_bytes(damaged)
            outcomes.add(outcome(tmp_path / "a.tif"))
    assert outcomes == {"told in one line", "read"}


def outcome(path: Path) -> str:
    """What becomes of a slide that may be damaged; any error that is not ours is raised."""
    try:
        with open_slide(path, mpp=0.5) as slide:
            slide.read(slide.box, 0.5)
    except (SlideError, RegionUnreadable, MppError) as error:
        return "told in several lines" if "\n" in str(error) else "told in one line"
    return "read"
