"""The µm per pixel: from every place where a format keeps it, in its unit, along x and y."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from slide_files import stained

from core_model.errors import MppError
from core_model.slides.box import Box
from core_model.slides.scale import find_scale
from core_model.slides.slide import Slide, open_slide

WriteSlide = Callable[..., Path]
Stated = Mapping[str, str]


def ome(x: str, unit: str | None = None, y: str | None = None) -> str:
    units = f' PhysicalSizeXUnit="{unit}" PhysicalSizeYUnit="{unit}"' if unit else ""
    size = f'PhysicalSizeX="{x}" PhysicalSizeY="{y or x}"{units}'
    pixels = f'<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="64" SizeY="48" {size}'
    return (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        f'{pixels} SizeC="3" SizeZ="1" SizeT="1"><Channel ID="Channel:0:0" SamplesPerPixel="3"/></Pixels>'
        "</Image></OME>"
    )


QPTIFF = (
    '<?xml version="1.0" encoding="utf-16"?><PerkinElmer-QPI-ImageDescription><ScanProfile><root>'
    "<PixelSizeMicrons>0.4972</PixelSizeMicrons></root></ScanProfile></PerkinElmer-QPI-ImageDescription>"
)
PHILIPS = (
    '<DataObject ObjectType="DPUfsImport"><Attribute Name="DICOM_PIXEL_SPACING" Group="0x0028"'
    ' PMSVR="IDoubleArray">&quot;0.000227273&quot; &quot;0.00025&quot;</Attribute></DataObject>'
)

PROPERTIES: dict[str, tuple[Stated, tuple[float, float], str]] = {
    "a field of the format": ({"openslide.mpp-x": ".25", "openslide.mpp-y": ".25"}, (0.25, 0.25), "property"),
    "one side alone": ({"openslide.mpp-x": "0.25"}, (0.25, 0.25), "property"),
    "a field before a tag": (
        {"openslide.mpp-x": "0.25", "tiff.XResolution": "20000", "tiff.ResolutionUnit": "centimeter"},
        (0.25, 0.25),
        "property",
    ),
    "DICOM's imaged volume": (
        {
            "dicom.ImagedVolumeWidth": "10", "dicom.ImagedVolumeHeight": "5",
            "dicom.TotalPixelMatrixColumns": "20000", "dicom.TotalPixelMatrixRows": "10000",
        },
        (0.5, 0.5),
        "property",
    ),
    "Aperio, in a TIFF that nobody knows": (
        {"tiff.ImageDescription": "Aperio Image\r\n64x48|AppMag = 20|MPP = 0.4990|Left = 3"},
        (0.499, 0.499),
        "description",
    ),
    "Akoya's QPTIFF": ({"tiff.ImageDescription": QPTIFF}, (0.4972, 0.4972), "description"),
    "Philips, mm, y before x": ({"tiff.ImageDescription": PHILIPS}, (0.25, 0.227273), "description"),
    "TIFF, px per cm": (
        {"tiff.XResolution": "20000", "tiff.YResolution": "20000", "tiff.ResolutionUnit": "centimeter"},
        (0.5, 0.5),
        "tiff-resolution",
    ),
    "TIFF, px per inch": (
        {"tiff.XResolution": "101600", "tiff.YResolution": "101600", "tiff.ResolutionUnit": "inch"},
        (0.25, 0.25),
        "tiff-resolution",
    ),
    **{
        f"ImageJ, {unit}": (
            {
                "tiff.ImageDescription": f"ImageJ=1.54f\nunit={unit}\nspacing=1.0\n",
                "tiff.XResolution": str(per_unit), "tiff.YResolution": str(per_unit),
                "tiff.ResolutionUnit": "none",
            },
            (0.5, 0.5),
            "description",
        )
        for unit, per_unit in {
            "micron": 2, "\\u00B5m": 2, "um": 2, "mm": 2000, "nm": 0.002, "cm": 20000, "inch": 50800,
        }.items()
    },
}  # fmt: skip


@pytest.mark.parametrize("case", PROPERTIES)
def test_every_format_says_its_scale(case: str) -> None:
    properties, (x, y), source = PROPERTIES[case]
    scale = find_scale(properties, None, None, "a slide")
    assert (scale.mpp_x, scale.mpp_y) == pytest.approx((x, y), rel=0.02)
    assert scale.mpp == pytest.approx(math.sqrt(scale.mpp_x * scale.mpp_y))
    assert scale.source == source


@pytest.mark.parametrize(
    "properties",
    [
        {},
        {"tiff.XResolution": "2", "tiff.YResolution": "2", "tiff.ResolutionUnit": "none"},
        {"tiff.XResolution": "1", "tiff.ImageDescription": "ImageJ=1.54f\nunit=pixel\n"},
        {"tiff.ImageDescription": "ImageJ=1.54f\nunit=micron\n"},
        {"tiff.ImageDescription": "|MPP = none|"},
        {"tiff.ImageDescription": "<PixelSizeMicrons>0</PixelSizeMicrons>"},
        {"image.PixelsPerMetreX": "2834", "image.PixelsPerMetreY": "2834"},  # 72 px per inch
        {"dicom.ImagedVolumeWidth": "10"},
    ],
)
def test_what_is_no_length_is_no_scale(properties: Stated) -> None:
    with pytest.raises(MppError, match="does not say"):
        find_scale(properties, None, None, "a slide")


@pytest.mark.parametrize(
    ("x", "unit", "mpp"),
    [
        ("0.25", None, 0.25),
        ("0.25", "µm", 0.25),
        ("250", "nm", 0.25),
        ("0.00025", "mm", 0.25),
        ("2500", "Å", 0.25),
        ("0.000025", "cm", 0.25),
        ("0.25", "pixel", None),
        ("0.25", "reference frame", None),
    ],
)
def test_the_physical_size_of_an_ome_tiff_has_a_unit(
    x: str, unit: str | None, mpp: float | None, tmp_path: Path
) -> None:
    path = tmp_path / "a.ome.tiff"
    with tifffile.TiffWriter(path, ome=False) as tiff:
        tiff.write(stained(48, 64), photometric="rgb", description=ome(x, unit).encode(), metadata=None)
    if mpp is None:
        with pytest.raises(MppError):
            open_slide(path)
        return
    with open_slide(path) as slide:
        assert slide.mpp == pytest.approx(mpp)
        assert slide.mpp_source == "property"


def test_descriptions_count_in_every_kind_of_tiff(tmp_path: Path) -> None:
    """Untiled ones are held in memory, tiled ones read by their tiles or by OpenSlide."""
    text = "ImageJ=1.54f\nunit=micron\n"
    for name, more in {"plain.tif": {}, "tiled.tif": {"tile": (64, 64), "compression": "jpeg"}}.items():
        tifffile.imwrite(
            tmp_path / name, stained(128, 128), photometric="rgb", description=text, metadata=None,
            resolution=(4, 4), resolutionunit="NONE", **more,
        )  # fmt: skip
        with open_slide(tmp_path / name) as slide:
            assert (slide.mpp, slide.mpp_source) == (pytest.approx(0.25), "description")


@pytest.mark.parametrize(
    ("suffix", "dpi", "mpp"),
    [("png", 50800, 0.5), ("jpg", 50800, 0.5), ("png", 72, None), ("jpg", 300, None), ("jpg", None, None)],
)
def test_the_density_of_a_picture_counts_where_it_can_be_that_of_a_microscope(
    suffix: str, dpi: int | None, mpp: float | None, tmp_path: Path
) -> None:
    path = tmp_path / f"a.{suffix}"
    more = {"dpi": (dpi, dpi)} if dpi else {}
    Image.fromarray(stained(48, 64)).save(path, **more)
    if mpp is None:
        with pytest.raises(MppError, match="does not say"):
            open_slide(path)
        return
    with open_slide(path) as slide:
        assert (slide.mpp, slide.mpp_source) == (pytest.approx(mpp, rel=1e-3), "image-density")


def test_a_density_without_unit_is_a_ratio_of_sides(tmp_path: Path) -> None:
    data = io.BytesIO()
    Image.fromarray(stained(48, 64)).save(data, "JPEG", dpi=(50800, 50800))
    content = bytearray(data.getvalue())
    content[content.index(b"JFIF\0") + 7] = 0
    (tmp_path / "a.jpg").write_bytes(bytes(content))
    with pytest.raises(MppError, match="does not say"):
        open_slide(tmp_path / "a.jpg")


# --- pixels that are not square ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "y", "sides"),
    [
        (0.5, 0.51, (0.505, 0.505)),
        (0.5, 0.52, (0.5, 0.52)),
        (0.5, 0.6, (0.5, 0.6)),
        (0.5, 1.0, (0.5, 1.0)),
        (0.5, 1.01, None),
        (1.1, 0.5, None),
    ],
)
def test_both_sides_are_used_unless_they_differ_by_rounding(
    x: float, y: float, sides: tuple[float, float] | None
) -> None:
    stated = {"openslide.mpp-x": str(x), "openslide.mpp-y": str(y)}
    if sides is None:
        with pytest.raises(MppError, match="no pixels of a microscope"):
            find_scale(stated, None, None, "a slide")
        return
    scale = find_scale(stated, None, None, "a slide")
    assert (scale.mpp_x, scale.mpp_y) == pytest.approx(sides)
    assert scale.mpp == pytest.approx(math.sqrt(sides[0] * sides[1]))
    assert bool(scale.warnings) == (sides[0] != sides[1])


@pytest.fixture(scope="module")
def oblong(tmp_path_factory: pytest.TempPathFactory) -> Slide:
    """Red rises along x and green along y by one in 4 µm; pixels are 0.5 x 0.8 µm, levels at 1 and 2."""
    width, height = 1600, 1000
    x, y = np.meshgrid((np.arange(width) + 0.5) * 0.5 / 4, (np.arange(height) + 0.5) * 0.8 / 4)
    ramp = np.stack([x, y, np.zeros_like(x)], axis=2)
    half = ramp.reshape(height // 2, 2, width // 2, 2, 3).mean(axis=(1, 3))
    path = tmp_path_factory.mktemp("oblong") / "oblong.tiff"
    with tifffile.TiffWriter(path) as tiff:
        for level, image in enumerate((ramp, half)):
            tiff.write(
                np.round(image).astype(np.uint8), tile=(256, 256), photometric="rgb", compression="deflate",
                subfiletype=int(level > 0), resolution=(20000 / 2**level, 12500 / 2**level),
                resolutionunit="CENTIMETER", metadata=None,
            )  # fmt: skip
    return open_slide(path)


def test_an_oblong_slide_says_both_lengths(oblong: Slide) -> None:
    assert (oblong.mpp_x, oblong.mpp_y) == pytest.approx((0.5, 0.8))
    assert oblong.mpp == pytest.approx(math.sqrt(0.4))
    assert oblong.effective_mpp(0.1) == pytest.approx(0.8), "its longer side: nothing finer is made up"
    assert "not square" in oblong.warnings[0]
    assert oblong.um(Box(0, 0, 100, 100)) == pytest.approx((50, 80))


@given(
    x=st.integers(0, 900), y=st.integers(0, 500), w=st.integers(40, 600), h=st.integers(40, 480),
    mpp=st.floats(0.8, 6),
)  # fmt: skip
def test_images_of_oblong_pixels_are_square_and_stay_in_place(
    oblong: Slide, x: int, y: int, w: int, h: int, mpp: float
) -> None:
    image = np.asarray(oblong.read(Box(x, y, w, h), mpp)).astype(float)
    assert image.shape[:2] == (max(1, round(h * 0.8 / mpp)), max(1, round(w * 0.5 / mpp)))
    rows, columns = image.shape[:2]
    red = (x + (np.arange(columns) + 0.5) * w / columns) * 0.5 / 4
    green = (y + (np.arange(rows) + 0.5) * h / rows) * 0.8 / 4
    for shown, true in ((image[..., 0].mean(axis=0), red), (image[..., 1].mean(axis=1), green)):
        assert np.abs(shown - true).mean() < 0.8  # values are whole numbers
        assert np.abs(shown - true).max() < 1.6


def test_an_overview_of_oblong_pixels_fits_its_frame(oblong: Slide) -> None:
    image, mpp = oblong.overview(400)
    assert image.size == (400, 400)
    assert mpp == pytest.approx(2.0)
