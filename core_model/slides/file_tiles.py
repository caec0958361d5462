"""Tiles of a TIFF page, decoded as the file holds them: where they lie, and how they become pixels.

A tile is right or it raises. libjpeg-turbo (by simplejpeg) is told to take its own warnings for errors, other
codecs must give exactly the bytes that a tile needs, and a tile that the file does not hold is none.

Letters: h rows and w columns of a tile.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from core_model.errors import SlideError
from core_model.slides.sources import DecodeError

MOST_TILE = 1 << 26
"""Pixels of the largest tile or strip that is decoded at once: 200 MB as RGB."""

MOST_BYTES = 1 << 28
"""Bytes that a tile may take in the file."""

JPEG, JPEG2000 = 7, 34712
"""Numbers of compressions. Aperio's own of JPEG 2000 are left to OpenSlide, which has the same library."""

FACTORS = (2, 4, 8)
"""Whole factors at which libjpeg decodes: it leaves the high frequencies out."""

GREY, RGB, YCBCR = 1, 2, 6
"""Photometric interpretations."""


class TileMissing(DecodeError):
    """A tile that the file does not hold."""


Decoder = Callable[[bytes, int, int, int], np.ndarray]
"""(bytes of a tile, h, w, factor) → uint8 (ceil(h / factor), ceil(w / factor), 3)."""


@dataclass(frozen=True)
class FileTiles:
    """The tiles of one page; strips are tiles as wide as the page."""

    size: tuple[int, int]
    """Width and height of the page, px."""
    tile: tuple[int, int]
    """Width and height of a tile, px."""
    offsets: np.ndarray
    """(tiles,) uint64: where each lies in the file."""
    counts: np.ndarray
    """(tiles,) uint64: bytes of each."""
    decode: Decoder
    codec: str
    factors: tuple[int, ...]
    """Factors at which a tile can be decoded, besides 1."""
    is_strip: bool = False
    """The last strip holds no more rows than the page."""
    planes: int = 1
    """3 where the colours of a tile lie apart, all of red first."""

    @property
    def across(self) -> int:
        """Tiles in a row."""
        return -(-self.size[0] // self.tile[0])

    def shape(self, number: int) -> tuple[int, int]:
        """h, w of the tile of that number as the file holds it; the last of a row reach beyond the page."""
        if not self.is_strip:
            return self.tile[1], self.tile[0]
        return min(self.tile[1], self.size[1] - number * self.tile[1]), self.tile[0]

    def read(self, file: PlacedFile, number: int, factor: int) -> np.ndarray:
        """Pixels (h, w, 3) uint8 of a tile at a factor. Raises `DecodeError`."""
        if self.planes == 1:
            return self._plane(file, number, number, factor)
        apart = len(self.offsets) // self.planes
        parts = [self._plane(file, number, number + i * apart, factor)[..., :1] for i in range(self.planes)]
        return np.concatenate(parts, axis=2)

    def _plane(self, file: PlacedFile, number: int, place: int, factor: int) -> np.ndarray:
        offset, count = int(self.offsets[place]), int(self.counts[place])
        if offset == 0 or count == 0:
            raise TileMissing("a tile of it is missing in the file")
        h, w = self.shape(number)
        pixels = self.decode(file.read(offset, count), h, w, factor)
        expected = (-(-h // factor), -(-w // factor), 3)
        if pixels.shape != expected or pixels.dtype != np.uint8:
            raise DecodeError(f"a tile of it holds {pixels.shape} where {expected} is needed")
        return pixels


class PlacedFile:
    """A file that threads read at places of their own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("rb", buffering=0)

    def read(self, offset: int, count: int) -> bytes:
        """`count` bytes from `offset`. Raises `DecodeError` where the file has fewer."""
        if count > MOST_BYTES:
            raise DecodeError(f"a tile of it claims {count:,} bytes")
        if self._file.closed:
            raise SlideError("the slide is closed", where=self._path)
        try:
            data = os.pread(self._file.fileno(), count, offset)
        except (OSError, OverflowError) as error:
            raise DecodeError(f"the file cannot be read there ({error})") from error
        if len(data) < count:
            raise DecodeError("the file ends within a tile of it")
        return data

    def close(self) -> None:
        """Free the file."""
        self._file.close()


def file_tiles(page: Any) -> FileTiles | None:
    """The tiles of a page of tifffile; None where its pixels are of a kind that is not decoded here."""
    planes = 3 if page.planarconfig == 2 and page.samplesperpixel == 3 else 1
    decoder = _decoder(page, planes)
    if decoder is None or page.imagedepth != 1 or (page.planarconfig != 1 and planes == 1):
        return None
    w, h = int(page.imagewidth), int(page.imagelength)
    if page.is_tiled:
        tile = (int(page.tilewidth), int(page.tilelength))
    else:
        tile = (w, min(h, int(page.rowsperstrip)))
    if min(w, h, *tile) < 1 or tile[0] * tile[1] > MOST_TILE:
        return None
    decode, codec, scales = decoder
    offsets = np.asarray(page.dataoffsets, dtype=np.uint64)
    counts = np.asarray(page.databytecounts, dtype=np.uint64)
    needed = -(-w // tile[0]) * -(-h // tile[1]) * planes
    if len(offsets) < needed or len(counts) < needed:
        return None
    one_column, one_row = tile[0] >= w, tile[1] >= h
    factors = tuple(
        f
        for f in FACTORS
        if scales and (one_column or tile[0] % f == 0) and (one_row or tile[1] % f == 0)
        if min(w, h) >= f
    )
    return FileTiles((w, h), tile, offsets, counts, decode, codec, factors, not page.is_tiled, planes)


def _decoder(page: Any, planes: int) -> tuple[Decoder, str, bool] | None:
    """How tiles of a page become pixels, by which codec, and whether it can decode at a factor."""
    samples, photometric = int(page.samplesperpixel), int(page.photometric)
    bits = page.bitspersample
    if bits != 8 or int(page.fillorder) != 1:
        return None
    compression = int(page.compression)
    if compression == JPEG and planes == 1:
        if (samples, photometric) not in ((3, RGB), (3, YCBCR), (1, GREY)):
            return None
        import simplejpeg

        codec = f"libjpeg-turbo by simplejpeg {simplejpeg.__version__}"
        return jpeg_decoder(page.jpegtables, as_stored=photometric == RGB), codec, True
    if (samples, photometric) not in ((3, RGB), (1, GREY)):
        return None
    if compression == JPEG2000 and planes == 1:
        return _jpeg2000(samples)
    return _packed(compression, int(page.predictor), samples // planes)


def jpeg_decoder(tables: bytes | None, as_stored: bool) -> Decoder:
    """A decoder of JPEG tiles that share `tables`. `as_stored`: their three components are R, G and B."""
    import simplejpeg

    between = bytes(tables[2:-2]) if tables else b""
    if as_stored:
        between = _ADOBE_RGB + between

    def decode(data: bytes, h: int, w: int, factor: int) -> np.ndarray:
        if data[:2] != b"\xff\xd8":
            raise DecodeError("a tile of it is no JPEG")
        height, width = _frame_size(data)
        if (height, width) != (h, w):
            raise DecodeError(f"a tile of it is {width} x {height} px in place of {w} x {h}")
        body = _without_jfif(data) if as_stored else data[2:]
        try:
            return simplejpeg.decode_jpeg(
                b"".join((b"\xff\xd8", between, body)),
                "RGB",
                min_height=-(-h // factor),
                min_width=-(-w // factor),
                strict=True,
            )
        except ValueError as error:
            raise DecodeError(f"a tile of it does not decode ({error})") from error

    return decode


_ADOBE_RGB = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00"
"""The marker by which a JPEG says that its components are not to be turned from YCbCr into RGB."""


def _frame_size(data: bytes) -> tuple[int, int]:
    """Height and width that a JPEG states. Raises `DecodeError`."""
    place = 2
    while place + 9 <= len(data):
        if data[place] != 0xFF:
            break
        marker = data[place + 1]
        if marker == 0xFF:
            place += 1
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return struct.unpack(">HH", data[place + 5 : place + 9])
        else:
            place += 2 + int(struct.unpack(">H", data[place + 2 : place + 4])[0])
    raise DecodeError("a tile of it is no whole JPEG")


def _without_jfif(data: bytes) -> bytes:
    """What follows the first marker, without a JFIF marker, which would say that the colours are YCbCr."""
    if data[2:4] == b"\xff\xe0":
        return data[4 + int(struct.unpack(">H", data[4:6])[0]) :]
    return data[2:]


def _jpeg2000(samples: int) -> tuple[Decoder, str, bool]:
    """A decoder of JPEG 2000. The format has no checksum: damage within a tile can go unseen."""
    import imagecodecs

    def decode(data: bytes, h: int, w: int, factor: int) -> np.ndarray:
        try:
            pixels = imagecodecs.jpeg2k_decode(data, numthreads=1)
        except (RuntimeError, ValueError, MemoryError) as error:
            raise DecodeError(f"a tile of it does not decode ({error})") from error
        return pixels if samples == 3 else np.repeat(pixels[..., None], 3, axis=2)

    return decode, f"OpenJPEG by imagecodecs {imagecodecs.__version__}", False


def _packed(compression: int, predictor: int, samples: int) -> tuple[Decoder, str, bool] | None:
    """A decoder of tiles whose bytes are packed without loss, or not at all."""
    import imagecodecs

    unpack: dict[int, Callable[..., Any]] = {
        1: lambda data, out: data,
        5: lambda data, out: imagecodecs.lzw_decode(data, out=out),
        8: lambda data, out: imagecodecs.zlib_decode(data, out=out),
        32946: lambda data, out: imagecodecs.zlib_decode(data, out=out),
        32773: lambda data, out: imagecodecs.packbits_decode(data, out=out),
        50000: lambda data, out: imagecodecs.zstd_decode(data, out=out),
    }
    if compression not in unpack or predictor not in (1, 2):
        return None

    def decode(data: bytes, h: int, w: int, factor: int) -> np.ndarray:
        needed = h * w * samples
        try:
            unpacked = unpack[compression](data, needed)
        except (RuntimeError, ValueError, MemoryError) as error:
            raise DecodeError(f"a tile of it does not unpack ({error})") from error
        if len(unpacked) < needed:
            raise DecodeError(f"a tile of it unpacks to {len(unpacked):,} bytes where {needed:,} are needed")
        pixels = np.frombuffer(unpacked, np.uint8, needed).reshape(h, w, samples)
        if predictor == 2:
            pixels = np.cumsum(pixels, axis=1, dtype=np.uint8)
        return pixels if samples == 3 else np.repeat(pixels, 3, axis=2)

    return decode, f"imagecodecs {imagecodecs.__version__}", False
