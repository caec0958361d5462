"""Files made to do harm, written by hand: each small on disk, and none what it claims to be."""

from __future__ import annotations

import io
import json
import os
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from multi_files import write_dicom, write_mirax, write_vms
from PIL import Image
from slide_files import stained

RGB = stained(512, 512)
SHORT, LONG, LONG8 = 3, 4, 16
Value = int | bytes | Sequence[int]


def jpeg(side: int = 256) -> bytes:
    """A JPEG tile."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(RGB[:side, :side])).save(buffer, "JPEG")
    return buffer.getvalue()


TILE = jpeg()
"""A tile that decodes."""


def directory(tags: Mapping[int, Value], at: int, after: int = 0, big: bool = False) -> bytes:
    """A TIFF directory that lies at a place, its values behind it, and the place of the next."""
    head, entry, room = ("<Q", "<HHQ", 8) if big else ("<H", "<HHI", 4)
    kind, width = (LONG8, "Q") if big else (LONG, "I")
    base = at + struct.calcsize(head) + len(tags) * (struct.calcsize(entry) + room) + room
    entries, rest = b"", b""
    for tag, value in sorted(tags.items()):
        if isinstance(value, bytes):
            code, count, packed = 2, len(value), value
        else:
            values = [value] if isinstance(value, int) else list(value)
            code, count, packed = kind, len(values), struct.pack(f"<{len(values)}{width}", *values)
        if len(packed) > room:
            packed, rest = struct.pack(f"<{width}", base + len(rest)), rest + packed
        entries += struct.pack(entry, tag, code, count) + packed.ljust(room, b"\0")
    return struct.pack(head, len(tags)) + entries + struct.pack(f"<{width}", after) + rest


def tags(
    width: int = 512, height: int = 512, tile: int = 256, count: int = 4, place: int = 0, **more: Value
) -> dict[int, Value]:
    """The tags of an RGB page whose tiles all lie at `place`; `more` as `t270=b"words"`."""
    own: dict[int, Value] = {
        254: 0, 256: width, 257: height, 258: (8, 8, 8), 259: 7, 262: 6, 277: 3, 284: 1,
        322: tile, 323: tile, 324: [place] * count, 325: [len(TILE)] * count,
    }  # fmt: skip
    return own | {int(name[1:]): value for name, value in more.items()}


def tiff(path: Path, *, after: int = 0, big: bool = False, tail: bytes = b"", **change: Value) -> Path:
    """A TIFF of one page: head, a tile that decodes, the directory, then `tail`."""
    start = 16 if big else 8
    at = start + len(TILE) + len(TILE) % 2
    head = struct.pack("<2sHHHQ", b"II", 43, 8, 0, at) if big else struct.pack("<2sHI", b"II", 42, at)
    body = directory(tags(place=start) | _tags(change), at, after, big)
    path.write_bytes(head + TILE.ljust(at - start, b"\0") + body + tail)
    return path


def _tags(change: Mapping[str, Value]) -> dict[int, Value]:
    return {int(name[1:]): value for name, value in change.items()}


def cyclic(path: Path) -> Path:
    """A directory that is followed by itself."""
    return tiff(path, after=8 + len(TILE) + len(TILE) % 2)


def counting(path: Path, tag: int, count: int, **change: Value) -> Path:
    """A TIFF in which a tag says that it has `count` values, which would lie behind the file's end."""
    tiff(path, **change)
    data = bytearray(path.read_bytes())
    entry = data.index(struct.pack("<HH", tag, LONG), 8 + len(TILE))
    data[entry + 4 : entry + 12] = struct.pack("<II", count, len(data))
    path.write_bytes(data)
    return path


def sharing(path: Path, side: int) -> Path:
    """A TIFF of side x side px all of whose tiles are one and the same."""
    count = (side // 256) ** 2
    at = 8 + len(TILE) + len(TILE) % 2
    page = tags(side, side, count=count, place=8)
    path.write_bytes(struct.pack("<2sHI", b"II", 42, at) + TILE.ljust(at - 8, b"\0") + directory(page, at))
    return path


def laughs(depth: int = 12) -> bytes:
    """OME-XML whose entities would grow to 10 to the power of `depth` words."""
    lines = [f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, depth)]
    text = '<?xml version="1.0"?><!DOCTYPE OME [<!ENTITY a0 "ha">' + "".join(lines)
    return (text + f"]><OME><Image><Pixels>&a{depth - 1};</Pixels></Image></OME>\0").encode()


def nested(depth: int = 200_000) -> bytes:
    """OME-XML of elements in elements."""
    return b"<OME>" + b"<a>" * depth + b"</a>" * depth + b"</OME>\0"


def deflated(path: Path, size: int = 1 << 26) -> Path:
    """A tile of 256 px that unpacks to 64 MB."""
    packer = zlib.compressobj(1)
    packed = b"".join(packer.compress(bytes(1 << 24)) for _ in range(size >> 24)) + packer.flush()
    at = 8 + len(TILE) + len(TILE) % 2
    page = tags(256, 256, count=1) | {259: 8, 262: 2}
    empty = directory(page, at)
    page |= {324: at + len(empty), 325: len(packed)}
    path.write_bytes(
        struct.pack("<2sHI", b"II", 42, at) + TILE.ljust(at - 8, b"\0") + directory(page, at) + packed
    )
    return path


def png(path: Path, width: int, height: int) -> Path:
    """A PNG that claims a size and holds a line."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(999))) + chunk(b"IEND", b"")
    )
    return path


def large_jpeg(width: int, height: int) -> bytes:
    """A JPEG that claims another size than it has."""
    data = bytearray(TILE)
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def written(path: Path, content: bytes) -> Path:
    """A file of some content."""
    path.write_bytes(content)
    return path


def index_naming(folder: Path, name: str, key: str = "ImageFile") -> Path:
    """A Hamamatsu index that names a file elsewhere."""
    path = write_vms(folder, RGB)
    lines = path.read_text().splitlines()
    path.write_text("\n".join(f"{key}={name}" if line.startswith(f"{key}=") else line for line in lines))
    return path


def mirax_naming(folder: Path, name: str, key: str = "FILE_0") -> Path:
    """A MIRAX slide whose Slidedat.ini names a file elsewhere."""
    path = write_mirax(folder, RGB)
    ini = folder / "scan" / "Slidedat.ini"
    lines = ini.read_text().splitlines()
    ini.write_text("\n".join(f"{key} = {name}" if line.startswith(f"{key} ") else line for line in lines))
    return path


def mirax_linking(folder: Path) -> Path:
    """A MIRAX slide whose data file is a link out of its folder."""
    path = write_mirax(folder / "slide", RGB)
    data = folder / "slide" / "scan" / "Data0000.dat"
    data.rename(folder / "elsewhere.dat")
    data.symlink_to(folder / "elsewhere.dat")
    return path


def dicom(folder: Path, change: Callable[[Any], None]) -> Path:
    """A DICOM slide whose header is changed."""
    import pydicom

    path = write_dicom(folder, RGB, levels=1)[0]
    data = pydicom.dcmread(path)
    change(data)
    data.save_as(path, enforce_file_format=True)
    return path


def deflated_dicom(path: Path) -> Path:
    """A DICOM file whose data set unpacks to 64 MB."""
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    packer = zlib.compressobj(1, zlib.DEFLATED, -15)
    element = struct.pack("<HH2sHI", 0x0008, 0x0001, b"UN", 0, 1 << 26)
    packed = packer.compress(element)
    packed += b"".join(packer.compress(bytes(1 << 24)) for _ in range(4)) + packer.flush()
    syntax = str(DeflatedExplicitVRLittleEndian).encode() + b"\0" * (len(DeflatedExplicitVRLittleEndian) % 2)
    meta = struct.pack("<HH2sH", 2, 0x10, b"UI", len(syntax)) + syntax
    length = struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(meta))
    return written(path, bytes(128) + b"DICM" + length + meta + packed)


def nested_dicom(path: Path, depth: int = 20_000) -> Path:
    """A DICOM file of sequences in sequences."""
    from pydicom.uid import ExplicitVRLittleEndian

    syntax = str(ExplicitVRLittleEndian).encode() + b"\0" * (len(ExplicitVRLittleEndian) % 2)
    meta = struct.pack("<HH2sH", 2, 0x10, b"UI", len(syntax)) + syntax
    length = struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(meta))
    sequence = struct.pack("<HH2sHI", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF)
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    return written(path, bytes(128) + b"DICM" + length + meta + (sequence + item) * depth)


def zarr(folder: Path, array: dict[str, object], attributes: str | None = None) -> Path:
    """An OME-Zarr store of one level, with a chunk of one byte."""
    store = folder / "a.zarr"
    (store / "0").mkdir(parents=True)
    axes = [{"name": name, "type": "channel" if name == "c" else "space"} for name in "cyx"]
    scale = [{"type": "scale", "scale": [1, 0.5, 0.5]}]
    images = [
        {"version": "0.4", "axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}
    ]
    (store / ".zgroup").write_text('{"zarr_format": 2}')
    (store / ".zattrs").write_text(attributes or json.dumps({"multiscales": images}))
    known = {
        "zarr_format": 2, "shape": [3, 512, 512], "chunks": [1, 256, 256], "dtype": "|u1", "fill_value": 0,
        "compressor": {"id": "zlib", "level": 1}, "order": "C", "filters": None,
    }  # fmt: skip
    (store / "0" / ".zarray").write_text(json.dumps(known | array))
    (store / "0" / "0.0.0").write_bytes(b"x")
    return store


def sparse(path: Path, size: int = 5 << 30) -> Path:
    """A file of gigabytes of nothing."""
    path.write_bytes(b"II*\0")
    os.truncate(path, size)
    return path
