"""Slides of several files, as scanners and archives leave them, with a patient planted in each."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit

PATIENT = "Mueller Erika"
PLANTED = "MUELLER_ERIKA_1951"
"""In names of files that belong to a slide, and in metadata; the slide's own name never holds it."""
LABEL_RGB = (10, 250, 20)
"""A colour that no slide has elsewhere."""
WHOLE_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"
ROOT = "1.2.826.0.1.3680043.8.498"


def label(size: tuple[int, int] = (300, 200)) -> Image.Image:
    """The label of a slide, with a patient on it."""
    image = Image.new("RGB", size, LABEL_RGB)
    ImageDraw.Draw(image).text((10, 10), PATIENT, fill=(0, 0, 0))
    return image


def jpeg(rgb: np.ndarray, restart: bool = False) -> bytes:
    """A baseline JPEG without chroma subsampling; with `restart`, a marker after each block row."""
    buffer = io.BytesIO()
    more = {"restart_marker_rows": 1} if restart else {}
    Image.fromarray(rgb).save(buffer, "JPEG", quality=95, subsampling=0, **more)
    return buffer.getvalue()


def write_vms(folder: Path, rgb: np.ndarray, name: str = "scan", mpp: float = 0.5) -> Path:
    """A Hamamatsu VMS: index, one JPEG of the slide, a map (a 16th), a macro image, an optimisation file."""
    folder.mkdir(parents=True, exist_ok=True)
    height, width = rgb.shape[:2]
    names = {
        "ImageFile": f"{PLANTED}_image.jpg",
        "MapFile": f"{PLANTED}_map2.jpg",
        "MacroImage": f"{PLANTED}.jpg",
        "OptimisationFile": f"{PLANTED}.opt",
    }
    (folder / names["ImageFile"]).write_bytes(jpeg(rgb, restart=True))
    (folder / names["MapFile"]).write_bytes(jpeg(np.ascontiguousarray(rgb[::16, ::16]), restart=True))
    label().save(folder / names["MacroImage"], quality=95)
    (folder / names["OptimisationFile"]).write_bytes(struct.pack("<Q", 0))
    lines = {
        "NoLayers": 1, "NoJpegColumns": 1, "NoJpegRows": 1, "SourceLens": round(10 / mpp), **names,
        "PhysicalWidth": round(width * mpp * 1000), "PhysicalHeight": round(height * mpp * 1000),
        "Reference": PATIENT, "MacroLabelText": PATIENT,
    }  # fmt: skip
    index = folder / f"{name}.vms"
    body = "".join(f"{key}={value}\n" for key, value in lines.items())
    index.write_text(f"[Virtual Microscope Specimen]\n{body}")
    return index


def write_mirax(
    folder: Path, rgb: np.ndarray, name: str = "scan", mpp: float = 0.5, at: tuple[int, int] = (2, 1)
) -> Path:
    """A MIRAX slide of 8 x 8 tiles of 256 px, of which those of `rgb` are scanned, from tile `at` on."""
    data = folder / name
    data.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.mrxs").write_bytes(jpeg(np.asarray(label())))
    tiles, places, side, count = bytearray(b"\0" * 100), [], 256, 8
    for row in range(rgb.shape[0] // side):
        for column in range(rgb.shape[1] // side):
            tile = rgb[row * side : (row + 1) * side, column * side : (column + 1) * side]
            code = jpeg(np.ascontiguousarray(tile))
            places.append(((at[1] + row) * count + at[0] + column, len(tiles), len(code)))
            tiles += code
    (data / "Data0000.dat").write_bytes(bytes(tiles))
    (data / "Index.dat").write_bytes(_mirax_index(places))
    (data / f"{PLANTED}.txt").write_text(PATIENT)
    (data / "Slidedat.ini").write_text("\ufeff" + _SLIDEDAT.format(count=count, mpp=mpp, patient=PLANTED))
    return folder / f"{name}.mrxs"


def _mirax_index(places: Sequence[tuple[int, int, int]]) -> bytes:
    """Version, slide id, two roots; one level with a list page of tiles; nothing beside the levels."""
    head = b"01.02" + SLIDE_ID.encode()
    hier, nonhier = len(head) + 8, len(head) + 12
    level = nonhier + 4
    page = level + 8
    body = struct.pack("<II", 0, page)  # the level: an empty list, then its first page
    body += struct.pack("<II", len(places), 0)
    body += b"".join(struct.pack("<IIII", image, offset, length, 0) for image, offset, length in places)
    return head + struct.pack("<II", hier, nonhier) + struct.pack("<II", level, level) + body


SLIDE_ID = "0123456789ABCDEF0123456789ABCDEF"
_SLIDEDAT = f"""[GENERAL]
SLIDE_VERSION = 01.02
SLIDE_ID = {SLIDE_ID}
SLIDE_NAME = {{patient}}
IMAGENUMBER_X = {{count}}
IMAGENUMBER_Y = {{count}}
OBJECTIVE_MAGNIFICATION = 20
[HIERARCHICAL]
INDEXFILE = Index.dat
HIER_COUNT = 1
NONHIER_COUNT = 0
HIER_0_NAME = Slide zoom level
HIER_0_COUNT = 1
HIER_0_VAL_0 = ZoomLevel_0
HIER_0_VAL_0_SECTION = LEVEL_0
[DATAFILE]
FILE_0 = Data0000.dat
FILE_COUNT = 1
[LEVEL_0]
OVERLAP_X = 0
OVERLAP_Y = 0
MICROMETER_PER_PIXEL_X = {{mpp}}
MICROMETER_PER_PIXEL_Y = {{mpp}}
IMAGE_FORMAT = JPEG
IMAGE_FILL_COLOR_BGR = 16777215
DIGITIZER_WIDTH = 256
DIGITIZER_HEIGHT = 256
IMAGE_CONCAT_FACTOR = 0
"""


def write_dicom(
    folder: Path, rgb: np.ndarray, series: int = 1, mpp: float = 0.5, levels: int = 2, prefix: str = "IM",
    suffix: str = ".dcm",
) -> list[Path]:  # fmt: skip
    """A DICOM series: levels of `rgb`, whose sides are multiples of 256, then label and overview."""
    folder.mkdir(parents=True, exist_ok=True)
    images = [(np.ascontiguousarray(rgb[:: 2**i, :: 2**i]), "VOLUME", mpp * 2**i) for i in range(levels)]
    images += [(np.asarray(label()), kind, 50.0) for kind in ("LABEL", "OVERVIEW")]
    paths = []
    for number, (image, kind, scale) in enumerate(images):
        path = folder / f"{prefix}{series}_{number}{suffix}"
        _instance(image, kind, scale, series, number).save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def _instance(rgb: np.ndarray, kind: str, mpp: float, series: int, number: int) -> Dataset:
    height, width = rgb.shape[:2]
    h, w = (128, 128) if kind == "VOLUME" else (height, width)
    frames = [
        jpeg(np.ascontiguousarray(rgb[y : y + h, x : x + w]))
        for y in range(0, height, h)
        for x in range(0, width, w)
    ]
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = WHOLE_SLIDE
    uid = f"{ROOT}.{series}.{number + 1}"
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = uid
    data.SeriesInstanceUID, data.StudyInstanceUID = f"{ROOT}.{series}", f"{ROOT}.99"
    data.FrameOfReferenceUID = f"{ROOT}.98.{series}"
    data.PatientName, data.PatientID, data.Modality = PATIENT.replace(" ", "^"), PLANTED, "SM"
    first = "ORIGINAL" if not number else "DERIVED"
    data.ImageType = [first, "PRIMARY", kind, "NONE" if kind != "VOLUME" or not number else "RESAMPLED"]
    data.Rows, data.Columns = h, w
    data.NumberOfFrames = len(frames)
    data.TotalPixelMatrixColumns, data.TotalPixelMatrixRows = width, height
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PlanarConfiguration = 3, "YBR_FULL_422", 0
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit, data.PixelRepresentation = 7, 0
    data.DimensionOrganizationType = "TILED_FULL"
    data.ImagedVolumeWidth, data.ImagedVolumeHeight, data.ImagedVolumeDepth = (
        *(side * mpp / 1000 for side in (width, height)), 0.001,
    )  # fmt: skip
    light = Dataset()
    light.OpticalPathIdentifier = "1"
    data.OpticalPathSequence = [light]
    measures, shared = Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [mpp / 1000, mpp / 1000], 0.001
    shared.PixelMeasuresSequence = [measures]
    data.SharedFunctionalGroupsSequence = [shared]
    data.ContainerIdentifier = PATIENT
    data.PixelData = encapsulate(frames)
    data["PixelData"].is_undefined_length = True
    return data


def write_dicom_object(path: Path) -> Path:
    """A DICOM file that is no image of a slide."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = f"{ROOT}.7"
    data.SeriesInstanceUID, data.PatientName = f"{ROOT}.77", PATIENT
    data.save_as(path, enforce_file_format=True)
    return path
