"""Small slides in TIFFs of scanners that OpenSlide reads, a macro image or label and a patient in each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from multi_files import PATIENT, PLANTED, jpeg, label

CANVAS_UM = (1000, 900)
"""Size of the slide that a SCN file places its scan on."""
SCN_CORNER_UM = (200, 300)


def write_scn(path: Path, rgb: np.ndarray, mpp: float = 0.5) -> Path:
    """A Leica SCN: two levels of a scan that lies somewhere on the slide, and a macro image of all of it."""
    macro = np.asarray(label((128, 64)))
    images = (rgb, rgb[::2, ::2], macro)
    slide = f'<view sizeX="{CANVAS_UM[0]}000" sizeY="{CANVAS_UM[1]}000" offsetX="0" offsetY="0"/>'
    sizes = [f'sizeX="{image.shape[1]}" sizeY="{image.shape[0]}"' for image in images]
    scan = (
        f'<view sizeX="{round(rgb.shape[1] * mpp * 1000)}" sizeY="{round(rgb.shape[0] * mpp * 1000)}"'
        f' offsetX="{SCN_CORNER_UM[0]}000" offsetY="{SCN_CORNER_UM[1]}000"/>'
    )
    whole = f'<dimension {sizes[2]} ifd="2" r="0"/>'
    levels = "".join(f'<dimension {sizes[i]} ifd="{i}" r="{i}"/>' for i in range(2))
    xml = (
        '<?xml version="1.0"?><scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01">'
        f'<collection name="{PLANTED}" sizeX="{CANVAS_UM[0]}000" sizeY="{CANVAS_UM[1]}000">'
        f"{_scn_image(0.6, whole, sizes[2], slide)}"
        f"{_scn_image(20, levels, sizes[0], scan)}</collection></scn>"
    )
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        for number, image in enumerate(images):
            _write_tiles(
                tiff, image, description=xml if number == 0 else None, **_resolution(mpp * 2**number)
            )
    return path


def _scn_image(power: float, dimensions: str, size: str, view: str) -> str:
    return (
        f"<image><creationDate>1951-01-01T00:00:00Z</creationDate><device model='Leica SCN400' version='1'/>"
        f"<pixels {size}>{dimensions}</pixels>{view}<scanSettings>"
        f"<objectiveSettings><objective>{power}</objective></objectiveSettings>"
        "<illuminationSettings><numericalAperture>0.4</numericalAperture>"
        "<illuminationSource>brightfield</illuminationSource></illuminationSettings></scanSettings></image>"
    )


def write_ndpi(path: Path, rgb: np.ndarray, mpp: float = 0.5) -> Path:
    """A Hamamatsu NDPI: each level one JPEG, then a macro image."""
    with tifffile.TiffWriter(path) as tiff:
        for image, power in ((rgb, 10 / mpp), (rgb[::2, ::2], 5 / mpp), (np.asarray(label()), -1.0)):
            told = [(65420, 4, 1, 1, True), (65421, 11, 1, power, True)]
            told += [(tag, 9, 1, 0, True) for tag in (65422, 65423, 65424)]
            told += [(65427, 2, len(PATIENT) + 1, PATIENT, True)]
            code = jpeg(np.ascontiguousarray(image))
            tiff.write(
                iter([code]), shape=image.shape, dtype="u1", rowsperstrip=image.shape[0], photometric="ycbcr",
                subsampling=(1, 1), compression="jpeg", metadata=None, software=False, extratags=told,
                **_resolution(mpp),
            )  # fmt: skip
    return path


def write_bif(path: Path, rgb: np.ndarray, mpp: float = 0.5) -> Path:
    """A Ventana BIF of 2 x 2 tiles without overlap, behind the image of the whole slide with its label."""
    power = 10 / mpp
    scanner = (
        f'<Metadata><iScan Magnification="{power:g}" ScanRes="{mpp}" UnitNumber="1" ScanWhitePoint="255"'
        f' Z-layers="1" ScannerModel="VENTANA iScan HT" BarCode1D="{PLANTED}"/></Metadata>'
    )
    joints = "".join(
        f'<TileJointInfo FlagJoined="1" Confidence="99" Direction="{way}" Tile1="{a}" Tile2="{b}"'
        ' OverlapX="0" OverlapY="0"/>'
        for a, b, way in ((1, 2, "RIGHT"), (1, 4, "UP"), (2, 3, "UP"), (4, 3, "RIGHT"))
    )
    grid = f'Width="{rgb.shape[1] // 2}" Height="{rgb.shape[0] // 2}" NumRows="2" NumCols="2"'
    placed = (
        '<EncodeInfo Ver="2"><SlideStitchInfo><ImageInfo AOIScanned="1" AOIIndex="0" Pos-X="0" Pos-Y="0"'
        f" {grid}>{joints}</ImageInfo></SlideStitchInfo>"
        '<AoiOrigin><AOI0 OriginX="0" OriginY="0"/></AoiOrigin></EncodeInfo>'
    )
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        tiff.write(
            np.asarray(label((200, 96))), photometric="rgb", rowsperstrip=96, description="Label_Image",
            metadata=None, software=False, extratags=[_xmp(scanner)],
        )  # fmt: skip
        for number, image in enumerate((rgb, rgb[::2, ::2])):
            told = f"level={number} mag={power / 2**number:g} quality=95"
            _write_tiles(tiff, image, description=told, extratags=[_xmp(placed)] if number == 0 else [])
    return path


def _xmp(xml: str) -> tuple[int, int, int, bytes, bool]:
    data = f'<?xml version="1.0" encoding="utf-8"?>{xml}'.encode()
    return 700, 1, len(data), data, True


def _write_tiles(tiff: tifffile.TiffWriter, image: np.ndarray, **more: Any) -> None:
    """One level in JPEG tiles of 256 px."""
    padded = np.pad(image, ((0, -image.shape[0] % 256), (0, -image.shape[1] % 256), (0, 0)), mode="edge")

    def tiles() -> Iterator[bytes]:
        for y in range(0, padded.shape[0], 256):
            for x in range(0, padded.shape[1], 256):
                yield jpeg(np.ascontiguousarray(padded[y : y + 256, x : x + 256]))

    tiff.write(
        tiles(), shape=image.shape, dtype="u1", tile=(256, 256), photometric="ycbcr", subsampling=(1, 1),
        compression="jpeg", metadata=None, software=False, **more,
    )  # fmt: skip


def _resolution(mpp: float) -> dict[str, Any]:
    return {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"}


def overwrite_jpeg(path: Path, number: int) -> Path:
    """Zeros in place of the second half of one JPEG of a file, which hold neither a marker nor an end."""
    data = bytearray(path.read_bytes())
    start = 0
    for _ in range(number + 1):
        start = data.index(b"\xff\xd8\xff", start + 1)
    end = data.index(b"\xff\xd9", start) + 2
    middle = (start + end) // 2
    data[middle:end] = bytes(end - middle)
    path.write_bytes(data)
    return path
