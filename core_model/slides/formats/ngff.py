"""OME-Zarr (NGFF 0.1 to 0.5): which image of a store is the scan, its levels, axes and scale.

Read from the JSON files alone, before any library opens anything: what they claim is checked, and no name in
them leads out of the store.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

from core_model.errors import SlideError
from core_model.slides.formats.bright import check_bright_field
from core_model.slides.parts import is_file_name

MOST_JSON = 1 << 22
"""Bytes of a metadata file; real ones have a few thousand."""

MOST_SERIES = 200
"""Images of a store that are looked at."""

MOST_AXIS = 1 << 24
"""Pixels of a side, or chunks in a row; the longest scans have some 300,000 px."""

MOST_CHUNK, LEAST_CHUNK = 1 << 27, 1 << 10
"""Bytes of a chunk that is decoded at once, and px below which a slide has no use for chunks."""

COMPRESSORS = ("blosc", "zlib", "gzip", "zstd", "lz4")
"""Codecs of version 2. Others may do more than decompress (one of them unpickles)."""

CODECS = ("bytes", "transpose", "blosc", "gzip", "zstd", "crc32c")
"""Codecs of version 3."""

UNIT_UM = {"angstrom": 1e-4, "nanometer": 1e-3, "micrometer": 1.0, "micron": 1.0, "millimeter": 1e3,
           "centimeter": 1e4, "meter": 1e6, "inch": 25400.0}  # fmt: skip

RGB_COLOURS = ("FF0000", "00FF00", "0000FF")
"""Colours of the channels of an RGB image, in order."""

CONVERT = "Write an 8-bit RGB image, for example with bioformats2raw from the scanner's own file"

_ASSOCIATED = re.compile(r"\b(label|macro|overview|thumbnail)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Level:
    """One array of a pyramid."""

    folder: Path
    version: int
    """Zarr format, 2 or 3."""
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    codecs: tuple[str, ...]
    """Names of the compressors and other codecs, the outermost last."""


@dataclass(frozen=True)
class Picture:
    """One image of a store."""

    levels: tuple[Level, ...]
    """Level 0 first."""
    axes: tuple[str, ...]
    """Names of the axes, one for each dimension: t, c, z, y, x."""
    mpp: tuple[float, float] | None
    """µm/px in x and y; None where the store does not say it, or not the unit."""
    associated: str | None
    """"label", "macro" …, where its name says that it is one."""

    def size(self, level: int = 0) -> tuple[int, int]:
        """Width and height of a level, px."""
        shape = self.levels[level].shape
        return shape[self.axes.index("x")], shape[self.axes.index("y")]


def read_scan(store: Path) -> Picture:
    """The largest image of a store that is no label or macro. Raises `SlideError`, `OSError`."""
    pictures = [_picture(image, store) for image in _images(store)]
    scans = [picture for picture in pictures if picture.associated is None]
    if not scans:
        raise SlideError("this store holds no image of a slide", where=store)
    areas = [picture.size()[0] * picture.size()[1] for picture in scans]
    if areas.count(max(areas)) > 1:
        raise SlideError(
            f"it holds {areas.count(max(areas))} images of one size, of which one alone would be shown",
            where=store,
            fix="Write the one to look at into a store of its own",
        )
    return scans[areas.index(max(areas))]


class _Image(NamedTuple):
    folder: Path
    metadata: dict[str, Any]
    name: str


def _images(store: Path) -> list[_Image]:
    """The images of a store: it is one itself, or has a folder for each series (bioformats2raw)."""
    metadata = _attributes(store, store)
    if "plate" in metadata or "well" in metadata:
        raise SlideError("this store holds a plate of wells, and no slide", where=store)
    if "multiscales" in metadata:
        return [_Image(store, metadata, "")]
    listed = _attributes(store / "OME", store).get("series")
    series = listed if isinstance(listed, list) else [str(number) for number in range(MOST_SERIES)]
    names = _names(store)
    images = []
    for number, place in enumerate(series[:MOST_SERIES]):
        folder = _inside(store, place, store)
        metadata = _attributes(folder, store)
        if "multiscales" in metadata:
            images.append(_Image(folder, metadata, names[number] if number < len(names) else ""))
        elif isinstance(listed, list):
            raise SlideError("an image that its metadata names is missing", where=store)
        else:
            break
    return images


def _names(store: Path) -> list[str]:
    """Names of the series by the OME-XML beside them; empty where there is none that can be read."""
    path = store / "OME" / "METADATA.ome.xml"
    if not path.is_file() or path.stat().st_size > MOST_JSON:
        return []
    text = path.read_text(encoding="utf-8", errors="replace")
    check_bright_field(text, store, rgb=True)
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError):
        return []
    return [element.get("Name", "") for element in root if element.tag.rsplit("}")[-1] == "Image"]


def _picture(image: _Image, store: Path) -> Picture:
    try:
        scales = image.metadata["multiscales"][0]
        datasets = scales["datasets"]
        levels = tuple(_level(_inside(image.folder, item["path"], store), store) for item in datasets)
        axes, units = _axes(scales, len(levels[0].shape))
        match = _ASSOCIATED.search(f"{image.name} {scales.get('name', '')}")
        picture = Picture(
            levels,
            axes,
            _mpp(axes, units, _scales(scales, datasets[0], len(axes))),
            match[1].lower() if match else None,
        )
        if picture.associated is None:
            _check_planes(picture, store)
            _check_colours(image.metadata, store)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise SlideError(
            f"its metadata is no OME-Zarr ({type(error).__name__}: {error})"[:300],
            where=store,
            fix="Copy it again from its source",
        ) from error
    return picture


def _axes(scales: dict[str, Any], dimensions: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names and units of the axes. Version 0.3 has names alone, earlier ones always t, c, z, y, x."""
    entries = scales.get("axes", list("tczyx"))
    items = [axis if isinstance(axis, dict) else {"name": axis} for axis in entries]
    axes = tuple(str(item["name"]) for item in items)
    if len(set(axes)) != dimensions or not {"x", "y"} <= set(axes) <= set("tczyx"):
        raise ValueError(f"axes {', '.join(axes)} of {dimensions} dimensions")
    return axes, tuple(str(item.get("unit", "")) for item in items)


def _scales(scales: dict[str, Any], dataset: dict[str, Any], dimensions: int) -> list[float]:
    """Size of a pixel of level 0 along each axis, in the axis's unit; none where it is not said."""
    sizes, is_stated = [1.0] * dimensions, False
    for owner in (scales, dataset):
        for change in owner.get("coordinateTransformations", ()):
            if change["type"] == "scale" and len(change["scale"]) == dimensions:
                sizes = [a * float(b) for a, b in zip(sizes, change["scale"], strict=True)]
                is_stated = True
    return sizes if is_stated else []


def _mpp(axes: Sequence[str], units: Sequence[str], sizes: Sequence[float]) -> tuple[float, float] | None:
    places = [axes.index(name) for name in "xy"]
    factors = [UNIT_UM.get(units[place]) for place in places]
    if not sizes or factors[0] is None or factors[1] is None:
        return None
    return sizes[places[0]] * factors[0], sizes[places[1]] * factors[1]


def _check_planes(picture: Picture, store: Path) -> None:
    """Raise where it is no single RGB picture: several planes, grey, fluorescence."""
    for level in picture.levels:
        counts = dict(zip(picture.axes, level.shape, strict=True))
        planes = counts.get("z", 1) * counts.get("t", 1)
        if planes > 1:
            raise SlideError(
                f"it holds {planes} images of one size (focal planes or time points), of which one alone"
                " would be shown",
                where=store,
                fix="Write the one to look at into a store of its own",
            )
        channels = counts.get("c", 1)
        if channels != 3:
            kind = "one channel of grey" if channels == 1 else f"{channels} channels"
            raise SlideError(
                f"it holds {kind}, which 8-bit RGB cannot show faithfully", where=store, fix=CONVERT
            )


def _check_colours(metadata: dict[str, Any], store: Path) -> None:
    """Raise where the colours of three channels say that they are stains of fluorescence."""
    channels = metadata.get("omero", {}).get("channels", [])
    labels = [str(channel.get("label", "")) for channel in channels]
    check_bright_field("".join(f'<Channel Name="{label}"/>' for label in labels), store, rgb=True)
    colours = tuple(str(channel.get("color", "")).upper()[-6:] for channel in channels)
    if len(colours) == 3 and all(colours) and colours not in (RGB_COLOURS, ("FFFFFF",) * 3):
        raise SlideError(
            f"it holds channels of the colours {', '.join(colours)}, as fluorescence has, and no RGB",
            where=store,
            fix=CONVERT,
        )


def _level(folder: Path, store: Path) -> Level:
    """An array's metadata, which claims nothing absurd. Raises `SlideError`."""
    path = folder / "zarr.json"
    metadata = _json(path, store) if path.is_file() else {}
    if metadata:
        level, kind = _of_version_3(folder, metadata, store), metadata["data_type"]
    else:
        metadata = _json(folder / ".zarray", store)
        compressor = metadata["compressor"]
        codecs = tuple(item["id"] for item in [*(metadata.get("filters") or []), compressor] if item)
        _check_codecs(codecs, COMPRESSORS, store)
        level = Level(folder, 2, tuple(metadata["shape"]), tuple(metadata["chunks"]), codecs)
        kind = metadata["dtype"]
    if kind not in ("uint8", "|u1"):
        raise SlideError(
            f"it holds samples of type {str(kind)[:20]}, which 8-bit RGB cannot show faithfully",
            where=store,
            fix=CONVERT,
        )
    _check_sizes(level, store)
    return level


def _of_version_3(folder: Path, metadata: dict[str, Any], store: Path) -> Level:
    codecs = tuple(codec["name"] for codec in metadata["codecs"])
    if "sharding_indexed" in codecs:
        raise SlideError(
            "its chunks lie in shards, which are not read here", where=store, fix="Write it without shards"
        )
    _check_codecs(codecs, CODECS, store)
    if metadata["node_type"] != "array" or metadata["chunk_grid"]["name"] != "regular":
        raise ValueError("no array of regular chunks")
    chunks = metadata["chunk_grid"]["configuration"]["chunk_shape"]
    return Level(folder, 3, tuple(metadata["shape"]), tuple(chunks), codecs)


def _check_codecs(codecs: Sequence[str], known: Sequence[str], store: Path) -> None:
    if strange := [str(codec)[:30] for codec in codecs if codec not in known]:
        raise SlideError(
            f"its chunks are packed with {', '.join(strange)}, which is not read here",
            where=store,
            fix=f"Write it with one of {', '.join(known)}",
        )


def _check_sizes(level: Level, store: Path) -> None:
    numbers = (*level.shape, *level.chunks)
    whole = all(type(number) is int and 0 < number <= MOST_AXIS for number in numbers)
    if not whole or len(level.shape) != len(level.chunks) or not 2 <= len(level.shape) <= 5:
        raise SlideError("its metadata claims an array without sense", where=store)
    size = 1
    for number in level.chunks:
        size *= number
    across = [-(-side // chunk) for side, chunk in zip(level.shape, level.chunks, strict=True)]
    count = 1
    for number in across:
        count *= number
    if size > MOST_CHUNK or (size < LEAST_CHUNK and count > LEAST_CHUNK):
        raise SlideError(
            f"its chunks of {' x '.join(map(str, level.chunks))} are no size for a slide",
            where=store,
            fix="Write it with chunks of 256 to 2048 px",
        )


def _inside(folder: Path, name: object, store: Path) -> Path:
    """A folder below, by a name from the metadata, which must not lead elsewhere."""
    parts = str(name).split("/")
    if not isinstance(name, str) or len(parts) > 8 or not all(is_file_name(part) for part in parts):
        raise SlideError("its metadata names a place outside of it, which is not followed", where=store)
    return folder.joinpath(*parts)


def _attributes(folder: Path, store: Path) -> dict[str, Any]:
    """The metadata of a group of either version; empty where there is none."""
    if (folder / "zarr.json").is_file():
        metadata = _json(folder / "zarr.json", store).get("attributes", {})
        metadata = metadata.get("ome", metadata) if isinstance(metadata, dict) else metadata
    elif (folder / ".zattrs").is_file():
        metadata = _json(folder / ".zattrs", store)
    else:
        return {}
    if not isinstance(metadata, dict):
        raise SlideError("its metadata is no OME-Zarr", where=store)
    return metadata


def _json(path: Path, store: Path) -> dict[str, Any]:
    if not path.is_file():
        raise SlideError("a level that its metadata names is missing", where=store)
    with path.open("rb") as file:
        text = file.read(MOST_JSON + 1)
    try:
        value = json.loads(text) if len(text) <= MOST_JSON else None
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise SlideError(
            "a metadata file of it is damaged or too long", where=store, fix="Copy it again from its source"
        )
    return value
