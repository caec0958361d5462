"""Small slides in formats that OpenSlide does not read, each written with its own library."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import zarr
from multi_files import PATIENT, PLANTED, write_dicom
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pylibCZIrw import czi

CORNER = (3000, -200)
"""Where the canvas of a CZI begins."""

CZI_TILE = 256


def write_zarr(
    folder: Path,
    rgb: np.ndarray,
    version: int = 3,
    name: str = "scan.ome.zarr",
    mpp: float = 0.5,
    levels: int = 2,
    apart: bool = False,
    packed: Any = "auto",
    series: Sequence[str] = (),
    about: dict[str, Any] | None = None,
) -> Path:
    """An OME-Zarr store of NGFF 0.4 (Zarr 2) or 0.5 (Zarr 3), chunks of 128 px, a patient in its metadata.

    `apart`: each channel has chunks of its own. `series`: names of images, laid out as bioformats2raw does,
    of which the first is `rgb` and the others small. `about` changes entries of `multiscales` and `omero`.
    """
    store = folder / name
    root = zarr.open_group(store, mode="w", zarr_format=version)
    if not series:
        _write_image(root, rgb, version, mpp, levels, apart, packed, about or {})
        return store
    _tell(root, version, {"bioformats2raw.layout": 3})
    _tell(root.create_group("OME"), version, {"series": [str(i) for i in range(len(series))]})
    for number in range(len(series)):
        image = rgb if number == 0 else np.full((128, 256, 3), (10, 250, 20), dtype=np.uint8)
        _write_image(root.create_group(str(number)), image, version, mpp, 1, apart, packed, about or {})
    names = "".join(f'<Image ID="Image:{i}" Name="{name}"/>' for i, name in enumerate(series))
    (store / "OME" / "METADATA.ome.xml").write_text(f'<OME xmlns="http://www.ome.org">{names}</OME>')
    return store


def _write_image(
    group: Any, rgb: np.ndarray, version: int, mpp: float, levels: int, apart: bool, packed: Any,
    about: dict[str, Any],
) -> None:  # fmt: skip
    datasets = []
    for level in range(levels):
        pixels = rgb[:: 2**level, :: 2**level].transpose(2, 0, 1)[None, :, None]  # t, c, z, y, x
        more = {"chunk_key_encoding": {"name": "v2", "separator": "/"}} if version == 2 else {}
        chunks = (1, 1 if apart else 3, 1, 128, 128)
        array = group.create_array(
            str(level), shape=pixels.shape, chunks=chunks, dtype="u1", compressors=packed, **more
        )
        array[:] = pixels
        scale = [1, 1, 1, mpp * 2**level, mpp * 2**level]
        datasets.append(
            {"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": scale}]}
        )
    kinds = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}
    axes = [{"name": axis, "type": kind} for axis, kind in kinds.items()]
    axes = [axis | ({"unit": "micrometer"} if axis["type"] == "space" else {}) for axis in axes]
    scales = {"version": "0.4", "axes": axes, "datasets": datasets, "metadata": {"patient": PATIENT}}
    _tell(group, version, {"multiscales": [scales | about.get("multiscales", {})], **about.get("more", {})})


def _tell(group: Any, version: int, about: dict[str, Any]) -> None:
    group.attrs.update(about if version == 2 else {"ome": {"version": "0.5", **about}})


def chunk_files(store: Path) -> list[Path]:
    """The chunks of level 0, sorted."""
    tables = ("zarr.json", ".zarray", ".zattrs")
    return sorted(p for p in (store / "0").rglob("*") if p.is_file() and p.name not in tables)


def write_czi(
    path: Path, rgb: np.ndarray, mpp: float = 0.5, coarse: int = 4, jpeg_xr: bool = False, planes: int = 1
) -> Path:
    """A CZI of tiles of 256 px, with a coarser level of one tile; pylibCZIrw writes neither that nor JPEG XR.

    So the tile of the coarser level is written elsewhere, and its place in the directory changed. What is
    packed lies where the unpacked tile was.
    """
    height, width = rgb.shape[:2]
    with czi.create_czi(str(path), compression_options="uncompressed:") as file:
        for plane in range(planes):
            for x, y in czi_tiles(rgb):
                tile = rgb[y : y + CZI_TILE, x : x + CZI_TILE, ::-1]
                file.write(
                    np.ascontiguousarray(tile), location=(CORNER[0] + x, CORNER[1] + y), plane={"Z": plane}
                )
        if coarse > 1:
            small = np.ascontiguousarray(rgb[::coarse, ::coarse, ::-1])
            file.write(small, location=(90_000, 90_000), plane={"Z": 0})
        file.write_metadata(PLANTED, scale_x=mpp * 1e-6, scale_y=mpp * 1e-6)
    raw, packed = bytearray(path.read_bytes()), set[int]()
    for entry, place in _czi_entries(raw):
        if struct.unpack_from("<i", raw, entry + 36)[0] == 90_000:
            struct.pack_into("<B", raw, entry + 22, 2)  # a tile of a pyramid
            struct.pack_into("<ii", raw, entry + 36, CORNER[0], width)
            struct.pack_into("<ii", raw, entry + 56, CORNER[1], height)
        if jpeg_xr:
            struct.pack_into("<i", raw, entry + 18, 4)
            if place not in packed:
                packed.add(place)
                _pack(raw, entry, place)
    path.write_bytes(bytes(raw))
    return path


def czi_tiles(rgb: np.ndarray) -> Iterator[tuple[int, int]]:
    """Corners of the tiles of level 0."""
    for y in range(0, rgb.shape[0], CZI_TILE):
        for x in range(0, rgb.shape[1], CZI_TILE):
            yield x, y


def czi_data(path: Path) -> list[tuple[int, int]]:
    """Offset and length of the data of each tile, in order."""
    raw = bytearray(path.read_bytes())
    places = sorted({place for _, place in _czi_entries(raw)})
    return [(_data_of(raw, place), struct.unpack_from("<q", raw, place + 40)[0]) for place in places]


def _czi_entries(raw: bytearray) -> Iterator[tuple[int, int]]:
    """Offsets of the entries of tiles, in their own headers and in the directory, and of the tiles."""
    entry = 0
    while (entry := raw.find(b"DV", entry)) >= 0:
        place = struct.unpack_from("<q", raw, entry + 6)[0]
        if 0 <= place < len(raw) and raw[place : place + 14] == b"ZISRAWSUBBLOCK":
            yield entry, place
        entry += 2


def _data_of(raw: bytearray, place: int) -> int:
    return place + 32 + 256 + int(struct.unpack_from("<i", raw, place + 32)[0])


def _pack(raw: bytearray, entry: int, place: int) -> None:
    w, h = struct.unpack_from("<i", raw, entry + 48)[0], struct.unpack_from("<i", raw, entry + 68)[0]
    data = _data_of(raw, place)
    bgr = np.frombuffer(bytes(raw[data : data + w * h * 3]), np.uint8).reshape(h, w, 3)
    code = imagecodecs.jpegxr_encode(np.ascontiguousarray(bgr[..., ::-1]), level=0.95, photometric="rgb")
    as_rgb = bytes.fromhex("24C3DD6F034EFE4BB1853D77768DC90D")
    code = code.replace(as_rgb, as_rgb[:-1] + b"\x0c")  # CZI has BGR
    raw[data : data + len(code)] = code
    struct.pack_into("<q", raw, place + 40, len(code))


Packed = Callable[[np.ndarray], bytes]


def write_packed_dicom(
    folder: Path,
    rgb: np.ndarray,
    syntax: str,
    pack: Packed,
    colours: str = "RGB",
    mpp: float = 0.5,
    series: int = 1,
) -> Path:
    """A DICOM series of another transfer syntax; its first file."""
    paths = write_dicom(folder, rgb, series, mpp)
    for number, path in enumerate(paths[:2]):
        data = dcmread(path)
        image = np.ascontiguousarray(rgb[:: 2**number, :: 2**number])
        side = int(data.Rows)
        frames = [
            pack(np.ascontiguousarray(image[y : y + side, x : x + side]))
            for y in range(0, image.shape[0], side)
            for x in range(0, image.shape[1], side)
        ]
        data.file_meta.TransferSyntaxUID, data.PhotometricInterpretation = syntax, colours
        _put_frames(data, frames)
        data.save_as(path, enforce_file_format=True)
    return paths[0]


def change_frames(path: Path, change: Callable[[list[bytes]], list[bytes]]) -> None:
    """Write the frames of a DICOM file anew; their number in its header stays."""
    data = dcmread(path)
    count = int(data.NumberOfFrames)
    _put_frames(data, change(list(generate_frames(data.PixelData, number_of_frames=count))))
    data.NumberOfFrames = count
    data.save_as(path, enforce_file_format=True)


def make_sparse(path: Path, dropped: Sequence[int]) -> None:
    """Turn a DICOM file into TILED_SPARSE, without some of its frames."""
    data = dcmread(path)
    count, side = int(data.NumberOfFrames), int(data.Rows)
    frames = list(generate_frames(data.PixelData, number_of_frames=count))
    across = -(-int(data.TotalPixelMatrixColumns) // side)
    kept = [number for number in range(count) if number not in dropped]
    _put_frames(data, [frames[number] for number in kept])
    data.DimensionOrganizationType = "TILED_SPARSE"
    groups = []
    for number in kept:
        group, place, light = Dataset(), Dataset(), Dataset()
        place.ColumnPositionInTotalImagePixelMatrix = number % across * side + 1
        place.RowPositionInTotalImagePixelMatrix = number // across * side + 1
        place.XOffsetInSlideCoordinateSystem = place.YOffsetInSlideCoordinateSystem = 0
        place.ZOffsetInSlideCoordinateSystem = 0
        light.OpticalPathIdentifier = "1"
        group.PlanePositionSlideSequence, group.OpticalPathIdentificationSequence = [place], [light]
        groups.append(group)
    data.PerFrameFunctionalGroupsSequence = groups
    data.save_as(path, enforce_file_format=True)


def _put_frames(data: Dataset, frames: Sequence[bytes]) -> None:
    data.PixelData = encapsulate(list(frames))
    data["PixelData"].is_undefined_length = True
    data.NumberOfFrames = len(frames)
