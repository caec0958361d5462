"""What could identify a patient is found in every format, by kind and place, and never repeated."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import multi_files as many
import numpy as np
import pytest
import tifffile
from PIL import Image, PngImagePlugin
from slide_files import stained

from core_model.errors import SlideError
from core_model.privacy.kinds import is_telling, kind_of
from core_model.privacy.traces import traces_of

RGB = stained(512, 512)
SECRET = "S51-0042"


def svs(folder: Path) -> Path:
    path = folder / "scan.svs"
    head = "Aperio Image Library v11\r\n512x512 [0,0 512x512] (256x256) JPEG/RGB Q=95|AppMag = 20|MPP = 0.5"
    text = f"{head}|User = {many.PATIENT}|Date = 12/29/09|Time = 09:59:15|Filename = {SECRET}"
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(
            RGB, tile=(256, 256), photometric="rgb", compression="jpeg", description=text, metadata=None,
            datetime="2009:12:29 09:59:15", extratags=[(315, 2, 0, many.PATIENT, True)],
        )  # fmt: skip
        tiff.write(np.asarray(many.label()), photometric="rgb", description=f"{head}\r\nlabel 300x200",
                   metadata=None, subfiletype=1)  # fmt: skip
    return path


def ome(folder: Path) -> Path:
    path = folder / "scan.ome.tiff"
    xml = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        f'<Experimenter ID="Experimenter:0" LastName="{many.PATIENT}"/><Image ID="Image:0">'
        "<AcquisitionDate>2009-12-29T09:59:15</AcquisitionDate>"
        f"<Description>{many.PATIENT}</Description>"
        '<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="512" SizeY="512" SizeC="3"'
        ' SizeZ="1" SizeT="1" PhysicalSizeX="0.5" PhysicalSizeY="0.5"/></Image></OME>'
    )
    with tifffile.TiffWriter(path, ome=False) as tiff:
        tiff.write(RGB, photometric="rgb", description=xml, metadata=None)
    return path


def png(folder: Path) -> Path:
    info = PngImagePlugin.PngInfo()
    info.add_text("Author", many.PATIENT)
    info.add_text("Comment", SECRET)
    Image.fromarray(RGB).save(folder / "scan.png", pnginfo=info)
    return folder / "scan.png"


def jpeg(folder: Path) -> Path:
    exif = Image.Exif()
    exif[315], exif[306] = many.PATIENT, "2009:12:29 09:59:15"
    Image.fromarray(RGB).save(folder / "scan.jpg", exif=exif, comment=SECRET.encode())
    return folder / "scan.jpg"


def vms(folder: Path) -> Path:
    return many.write_vms(folder, RGB)


def mirax(folder: Path) -> Path:
    return many.write_mirax(folder, RGB)


def dicom(folder: Path) -> Path:
    return many.write_dicom(folder / "series", RGB)[0]


KINDS: dict[Callable[[Path], Path], set[tuple[str, str]]] = {
    svs: {
        ("label or macro image", "image 'label'"), ("person", "aperio.User"), ("date or time", "aperio.Date"),
        ("free text", "aperio.Filename"), ("free text", "tag ImageDescription"), ("person", "tag Artist"),
        ("date or time", "tag DateTime"),
    },
    ome: {
        ("person", "tag ImageDescription: Experimenter LastName"),
        ("date or time", "tag ImageDescription: AcquisitionDate"),
        ("free text", "tag ImageDescription: Description"), ("free text", "tag ImageDescription"),
    },
    vms: {
        ("label or macro image", "image 'macro'"), ("case", "hamamatsu.Reference"),
        ("free text", "hamamatsu.MacroLabelText"), ("name of a file", "names of its other files"),
    },
    mirax: {("case", "mirax.GENERAL.SLIDE_NAME"), ("name of a file", "names of its other files")},
    dicom: {
        ("person", "DICOM PatientName"), ("person", "DICOM PatientID"),
        ("case", "DICOM ContainerIdentifier"), ("label or macro image", "instance LABEL"),
    },
    png: {("person", "text Author"), ("free text", "text Comment")},
    jpeg: {("person", "EXIF Artist"), ("date or time", "EXIF DateTime"), ("free text", "text comment")},
}  # fmt: skip


@pytest.mark.parametrize("write", KINDS, ids=lambda write: write.__name__)
def test_every_format_is_searched(write: Callable[[Path], Path], tmp_path: Path) -> None:
    traces = traces_of(write(tmp_path))
    found = {(trace.kind, trace.where) for trace in traces}
    assert KINDS[write] <= found
    said = json.dumps([trace.model_dump() for trace in traces]).lower()
    for value in (*many.PATIENT.split(), many.PLANTED, SECRET, "2009", "12/29"):
        assert value.lower() not in said


def test_counts_add_up_over_files_and_pages(tmp_path: Path) -> None:
    traces = {trace.where: trace.count for trace in traces_of(dicom(tmp_path))}
    assert traces["DICOM PatientName"] == 4, "two levels, a label and an overview"
    assert traces["instance LABEL"] == 1


def test_a_slide_that_says_nothing_has_no_traces(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "scan.png")
    traces = [trace for trace in traces_of(tmp_path / "scan.png") if trace.where != "names of its folders"]
    assert traces == []


def test_what_cannot_be_opened_is_not_called_clean(tmp_path: Path) -> None:
    (tmp_path / "scan.svs").write_text("no slide")
    with pytest.raises(SlideError):
        traces_of(tmp_path / "scan.svs")


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("aperio.Barcode", "123", "barcode"),
        ("openslide.barcode", " ", None),
        ("PatientBirthDate", "19510203", "person"),
        ("Exposure Time", "109", None),
        ("aperio.Time Zone", "GMT-05:00", None),
        ("AnyThing", "2009-12-29", "date or time"),
        ("AnyThing", "12/29/09", "date or time"),
        ("SOPClassUID", "1.2.840.10008.5.1.4.1.1.77.1.6", None),
        ("SOPInstanceUID", "1.2.3", "identifier"),
        ("InstitutionName", "General", "place or device"),
        ("AppMag", "20", None),
        ("MPP", "0.4990", None),
    ],
)
def test_a_name_says_the_kind(name: str, value: str, kind: str | None) -> None:
    assert kind_of(name, value) == kind


@pytest.mark.parametrize(
    ("name", "telling"),
    [
        ("S23-12345", True), ("12345678", True), ("Mueller_Erika", True), ("Mueller, Erika", True),
        ("2009-12-29", True), ("scan", False), ("a1", False), ("block-3", False),
    ],
)  # fmt: skip
def test_names_of_the_form_of_a_case_are_telling(name: str, telling: bool) -> None:
    assert is_telling(name) == telling
