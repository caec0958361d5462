"""What in a slide's files could identify a patient: counted by kind and place, never shown.

Pixels are not searched: words burnt into the tissue's own picture are found by nobody here.
"""

from __future__ import annotations

import json
import os
import struct
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image

from core_model.errors import SlideError
from core_model.privacy.kinds import Kind, in_xml, is_telling, kind_of
from core_model.records import Record
from core_model.slides.parts import CZI, is_dicom, is_zarr, parts_of, read_instance
from core_model.slides.readers import open_source
from core_model.slides.tiff import MOST_PAGES, is_tiff, read_pages

Found = Iterator[tuple[Kind, str]]
"""Kinds, each with the place: the name of a tag, property or image."""

IMAGES = ("label", "macro", "overview", "slidepreview")
"""Names of images that may show a label."""

DOUBLES = ("openslide.comment", "tiff.", "dicom.", "openslide.level[", "openslide.associated.")
"""Beginnings of properties that repeat what a tag says, which is counted itself."""

LARGEST_XML = 64 << 20
"""Bytes of metadata that are read."""


class Trace(Record):
    """One kind of hint at a patient in one place."""

    kind: Kind
    where: str
    """Name of the tag, property, image or file kind; never its value."""
    count: int


def traces_of(path: Path) -> list[Trace]:
    """Every hint at a patient in the files of the slide that `path` opens, ordered by kind and place.

    Raises `SlideError` where it cannot be opened.
    """
    try:
        counts = Counter(_found(path))
    except OSError as error:
        raise SlideError(f"it cannot be read ({error.strerror or error})", where=path) from error
    return [Trace(kind=kind, where=where, count=n) for (kind, where), n in sorted(counts.items())]


def _found(path: Path) -> Found:
    with closing(open_source(path)) as source:
        for name, value in source.properties.items():
            kind = None if name.startswith(DOUBLES) else kind_of(name, value)
            if kind is not None:
                yield kind, name
    yield from _names(path)
    if is_zarr(path):
        yield from _in_zarr(path)
    elif is_dicom(path):
        yield from _in_dicom(path)
    elif is_tiff(path):
        yield from _in_tiff(path)
    elif path.suffix.lower() == CZI:
        yield from _in_czi(path)
    else:
        yield from _in_images(path)
        yield from _in_picture(path)


def _names(path: Path) -> Found:
    """Names of the slide's files and of the two folders above them."""
    if is_telling(path.stem):
        yield "name of a file", "the slide's own name"
    for part in parts_of(path):
        if part != path and is_telling(part.stem):
            yield "name of a file", "names of its other files"
    for folder in path.absolute().parents[:2]:
        if is_telling(folder.name):
            yield "name of a file", "names of its folders"


def images_beside(path: Path) -> set[str]:
    """Names, in small letters, of images beside the scan: as OpenSlide and the pages of a TIFF say it."""
    import openslide

    names: set[str] = set()
    if not path.is_file():
        return names  # a store, or a slide on a server
    if openslide.OpenSlide.detect_format(os.fspath(path)) is not None:
        # A format that it knows in part, as CZI and DICOM, is none of its slides.
        with suppress(openslide.OpenSlideError), openslide.OpenSlide(os.fspath(path)) as slide:
            names |= {name.lower() for name in slide.associated_images}
    if is_tiff(path):
        names |= {page.associated.lower() for page in read_pages(path) if page.associated}
    return names


def _in_images(path: Path) -> Found:
    for name in images_beside(path):
        if name in IMAGES:
            yield "label or macro image", f"image '{name}'"


def _in_tiff(path: Path) -> Found:
    import tifffile

    yield from _in_images(path)
    with tifffile.TiffFile(path) as tiff:
        for page in islice(tiff.pages, MOST_PAGES):
            for tag in getattr(page, "tags", ()):
                yield from _in_tag(tag.name or str(tag.code), tag.value)


def _in_tag(name: str, value: Any) -> Found:
    if name.startswith(("Exif", "GPS")):
        yield ("place or device" if name.startswith("GPS") else "free text"), f"tag {name}"
        return
    text = value.decode(errors="replace") if isinstance(value, bytes) else value
    if not isinstance(text, str):
        return
    kind = kind_of(name, text)
    if kind is not None:
        yield kind, f"tag {name}"
    if name == "ImageDescription":
        for inner, said in in_xml(text):
            kind = kind_of(inner, said)
            if kind is not None:
                yield kind, f"tag {name}: {inner}"


def _in_dicom(path: Path) -> Found:
    from pydicom import dcmread

    for file in parts_of(path):
        instance = read_instance(file)
        if instance is not None and instance.kind in ("LABEL", "OVERVIEW"):
            yield "label or macro image", f"instance {instance.kind}"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data = dcmread(file, stop_before_pixels=True, defer_size=1 << 16)
            for element in _elements(data):
                kind = _dicom_kind(element)
                if kind is not None:
                    yield kind, f"DICOM {element.keyword or 'private element'}"


def _elements(data: Any) -> Iterator[Any]:
    """Every element but tables of frames, which have thousands and name nobody."""
    for element in data:
        if element.VR != "SQ":
            yield element
        elif element.keyword != "PerFrameFunctionalGroupsSequence":
            for item in element.value:
                yield from _elements(item)


def _dicom_kind(element: Any) -> Kind | None:
    """The kind of an element: by its group and type, and else by its name."""
    value = "" if element.value is None else str(element.value)
    if not value.strip() or element.VR in ("OB", "OW", "UN"):
        return None
    if element.VR == "PN" or element.tag.group == 0x0010:
        return "person"
    if element.VR in ("DA", "TM", "DT"):
        return "date or time"
    if element.tag.is_private:
        return "free text"
    if element.VR in ("ST", "LT", "UT"):
        return kind_of(element.keyword, value) or "free text"
    return kind_of(element.keyword, value)


def _in_czi(path: Path) -> Found:
    """Metadata and attachments, found by the positions in the file's header."""
    with path.open("rb") as file:
        header = file.read(112)
        if len(header) < 112:
            return
        metadata, attachments = (struct.unpack_from("<q", header, at)[0] for at in (92, 104))
        if metadata > 0:
            file.seek(metadata + 32)
            size = struct.unpack("<i", file.read(4).ljust(4, b"\0"))[0]
            file.seek(metadata + 288)
            for name, value in in_xml(file.read(max(0, min(size, LARGEST_XML))).decode(errors="replace")):
                kind = kind_of(name, value)
                if kind is not None:
                    yield kind, f"metadata {name}"
        if attachments > 0:
            file.seek(attachments + 288)
            while len(entry := file.read(128)) == 128 and entry[:2] == b"A1":
                name = entry[48:128].split(b"\0")[0].decode(errors="replace")
                if name.lower() in IMAGES:
                    yield "label or macro image", f"attachment {name}"


def _in_zarr(path: Path) -> Found:
    for file in sorted(path.rglob("*")):
        if file.name in (".zattrs", "zarr.json") and file.stat().st_size < LARGEST_XML:
            for name, value in _in_json(json.loads(file.read_bytes()), ""):
                kind = kind_of(name, value)
                if kind is not None:
                    yield kind, f"attribute {name}"
        elif file.suffix.lower() == ".xml" and file.stat().st_size < LARGEST_XML:
            for name, value in in_xml(file.read_text(errors="replace")):
                kind = kind_of(name, value)
                if kind is not None:
                    yield kind, f"metadata {name}"
        elif file.is_dir() and file.name.lower() in IMAGES:
            yield "label or macro image", f"folder {file.name}"


def _in_json(value: Any, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _in_json(item, str(key))
    elif isinstance(value, list):
        for item in value:
            yield from _in_json(item, name)
    elif isinstance(value, str):
        yield name, value


def _in_picture(path: Path) -> Found:
    """Texts and EXIF of a PNG or JPEG."""
    try:
        with Image.open(path, formats=("PNG", "JPEG")) as image:
            info, exif = dict(image.info), dict(image.getexif())
    except (OSError, ValueError, SyntaxError):
        return  # a scanner's file
    from PIL.ExifTags import TAGS

    for name, value in info.items():
        text = value.decode(errors="replace") if isinstance(value, bytes) else value
        if name in ("exif", "icc_profile") or not isinstance(text, str) or not text.strip():
            continue
        yield kind_of(str(name), text) or "free text", f"text {name}" if str(name).isalnum() else "text"
    for code, value in exif.items():
        kind = kind_of(TAGS.get(code, "Exif"), str(value))
        if kind is not None:
            yield kind, f"EXIF {TAGS.get(code, code)}"
