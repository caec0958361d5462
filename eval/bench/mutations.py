"""Ways to damage a file: by chance, and where it hurts, in the directories and the tile tables of a TIFF."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

Rng = np.random.Generator

BLOCKS = (16, 512, 4096, 65536)
"""Bytes of a block that is overwritten."""

HEADER = 4096
"""Bytes at the start, where most formats keep what they say of themselves."""

ABSURD = (0, 1, 2, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 100_000_000)


@dataclass(frozen=True)
class Tile:
    """A tile of a TIFF: where its bytes lie, and where its pixels are."""

    size: tuple[int, int]
    """Of the page, px."""
    number: int
    """In its page."""
    box: tuple[int, int, int, int]
    """x, y, w, h in px of the page, cropped to it."""
    offset: int
    count: int


@dataclass
class Anatomy:
    """Where a TIFF keeps what: all places are bytes of the file; empty for other files."""

    order: str = "<"
    big: bool = False
    entries: list[int] = field(default_factory=list)
    """Entries of directories."""
    links: list[int] = field(default_factory=list)
    """Where a directory says at which place the next is."""
    directories: list[int] = field(default_factory=list)
    tables: list[list[int]] = field(default_factory=list)
    """Per page, the places of its tiles' offsets, each 4 or 8 bytes."""
    counts: list[list[int]] = field(default_factory=list)
    """Likewise of their lengths."""
    widths: dict[int, int] = field(default_factory=dict)
    """Bytes of the number at a place of `tables` or `counts`."""
    tiles: list[list[Tile]] = field(default_factory=list)
    """Per page, in order."""
    raw: bool = False
    """Whether pixels lie there as they are, so that nobody could tell that some were overwritten."""


@dataclass
class Mutant:
    """A damaged file."""

    kind: str
    data: bytearray
    touched: list[Tile]
    """Tiles whose bytes, or whose places, were changed."""


def anatomy_of(path: Path) -> Anatomy:
    """The anatomy of a file that tifffile can read; empty where it is no TIFF, or too damaged."""
    import tifffile

    found = Anatomy()
    try:
        with tifffile.TiffFile(path) as tiff:
            found.order, found.big = tiff.byteorder, tiff.is_bigtiff
            for page in tiff.pages:
                _add_page(found, page)
    except Exception:  # of a file that is damaged already: it is damaged further without its anatomy
        return Anatomy()
    return found


def _add_page(found: Anatomy, page: Any) -> None:
    head, each, width = (8, 20, 8) if found.big else (2, 12, 4)
    found.directories.append(page.offset)
    found.links.append(page.offset + head + each * len(page.tags))
    found.entries += [tag.offset for tag in page.tags]
    found.raw = found.raw or int(page.compression) == 1
    places: list[list[int]] = [[], []]
    for kind, names in enumerate((("TileOffsets", "StripOffsets"), ("TileByteCounts", "StripByteCounts"))):
        tag = next((page.tags[name] for name in names if name in page.tags), None)
        if tag is None:
            continue
        step = {3: 2, 4: 4, 16: 8}.get(int(tag.dtype), width)
        places[kind] = [tag.valueoffset + i * step for i in range(tag.count)]
        found.widths |= dict.fromkeys(places[kind], step)
    found.tables.append(places[0])
    found.counts.append(places[1])
    w, h = int(page.imagewidth), int(page.imagelength)
    tile_w, tile_h = (int(page.tilewidth), int(page.tilelength)) if page.is_tiled else (w, page.rowsperstrip)
    across = -(-w // tile_w)
    found.tiles.append(
        [
            Tile((w, h), i, _box(i, across, (tile_w, int(tile_h)), (w, h)), int(offset), int(count))
            for i, (offset, count) in enumerate(zip(page.dataoffsets, page.databytecounts, strict=False))
        ]
    )


def _box(number: int, across: int, tile: tuple[int, int], size: tuple[int, int]) -> tuple[int, int, int, int]:
    x, y = number % across * tile[0], number // across * tile[1]
    return x, y, min(tile[0], size[0] - x), min(tile[1], size[1] - y)


def mutant(original: bytes, anatomy: Anatomy, rng: Rng) -> Mutant:
    """A copy of a file, damaged in one way chosen at random."""
    ways = [*ANYWHERE, *(IN_A_TIFF if anatomy.entries else {})]
    kind = ways[int(rng.integers(len(ways)))]
    data = bytearray(original)
    spans = {**ANYWHERE, **IN_A_TIFF}[kind](data, anatomy, rng)
    touched = [tile for page in anatomy.tiles for tile in page if _is_touched(tile, page, anatomy, spans)]
    return Mutant(kind, data, touched)


Span = tuple[int, int]
"""First byte that was changed, and the one after the last."""


def _is_touched(tile: Tile, page: list[Tile], anatomy: Anatomy, spans: list[Span]) -> bool:
    number = anatomy.tiles.index(page) if anatomy.tiles else 0
    own = [(tile.offset, tile.offset + tile.count)]
    for places in (anatomy.tables[number], anatomy.counts[number]):
        if tile.number < len(places):
            own.append((places[tile.number], places[tile.number] + anatomy.widths[places[tile.number]]))
    return any(a < end and start < b for a, b in own for start, end in spans)


def _flip_bits(data: bytearray, anatomy: Anatomy, rng: Rng) -> list[Span]:
    return _flipped(data, rng, len(data))


def _flip_header(data: bytearray, anatomy: Anatomy, rng: Rng) -> list[Span]:
    return _flipped(data, rng, min(HEADER, len(data)))


def _flipped(data: bytearray, rng: Rng, most: int) -> list[Span]:
    places = [int(place) for place in rng.integers(most, size=int(rng.integers(1, 33)))]
    for place in places:
        data[place] ^= 1 << int(rng.integers(8))
    return [(place, place + 1) for place in places]


def _truncate(data: bytearray, anatomy: Anatomy, rng: Rng) -> list[Span]:
    before, at = len(data), int(rng.integers(len(data)))
    del data[at:]
    return [(at, before)]


def _zero_block(data: bytearray, anatomy: Anatomy, rng: Rng) -> list[Span]:
    return _overwritten(data, anatomy, rng, lambda length: bytes(length))


def _ones_block(data: bytearray, anatomy: Anatomy, rng: Rng) -> list[Span]:
    return _overwritten(data, anatomy, rng, lambda length: b"\xff" * length)


def _random_block(data: bytearray, anatomy: Anatomy, rng: Rng) -> list[Span]:
    return _overwritten(data, anatomy, rng, rng.bytes)


def _copied_block(data: bytearray, anatomy: Anatomy, rng: Rng) -> list[Span]:
    source = int(rng.integers(len(data)))
    return _overwritten(data, anatomy, rng, lambda length: bytes(data[source : source + length]))


def _overwritten(data: bytearray, anatomy: Anatomy, rng: Rng, content: Callable[[int], bytes]) -> list[Span]:
    most = BLOCKS[:2] if anatomy.raw else BLOCKS
    start = int(rng.integers(len(data)))
    block = content(min(int(rng.choice(most)), len(data) - start))
    data[start : start + len(block)] = block
    return [(start, start + len(block))]


def _zero_tile(data: bytearray, anatomy: Anatomy, rng: Rng) -> list[Span]:
    """From some place of a tile to its end; of raw pixels only a part, which nobody could tell."""
    tile = _one_of([tile for page in anatomy.tiles for tile in page if tile.count], rng)
    if tile is None:
        return []
    start = tile.offset + int(rng.integers(max(1, tile.count)))
    end = min(tile.offset + tile.count, len(data), *([start + 512] if anatomy.raw else []))
    data[start:end] = bytes(max(0, end - start))
    return [(start, end)]


def _change_offset(data: bytearray, anatomy: Anatomy, rng: Rng) -> list[Span]:
    return _renumbered(data, anatomy, anatomy.tables, rng)


def _change_count(data: bytearray, anatomy: Anatomy, rng: Rng) -> list[Span]:
    return _renumbered(data, anatomy, anatomy.counts, rng)


def _renumbered(data: bytearray, anatomy: Anatomy, tables: list[list[int]], rng: Rng) -> list[Span]:
    places = [place for table in tables for place in table]
    spans = []
    for _ in range(int(rng.integers(1, 5))):
        place = _one_of(places, rng)
        if place is not None:
            width = anatomy.widths[place]
            _put(data, anatomy, place, width, int(rng.choice([*ABSURD, len(data) - 1, len(data) + 1000])))
            spans.append((place, place + width))
    return spans


def _splice_directories(data: bytearray, anatomy: Anatomy, rng: Rng) -> list[Span]:
    """Let a directory be followed by another, by itself, or by something that is none."""
    link = _one_of(anatomy.links, rng)
    if link is None:
        return []
    goals = [*anatomy.directories, int(rng.integers(len(data))), len(data) - 2, *anatomy.entries[:3]]
    width = 8 if anatomy.big else 4
    _put(data, anatomy, link, width, int(rng.choice(goals)))
    return [(link, link + width)]


def _change_entries(data: bytearray, anatomy: Anatomy, rng: Rng) -> list[Span]:
    """Change tag, type, count or value of some entries of directories."""
    spans = []
    for _ in range(int(rng.integers(1, 4))):
        entry = _one_of(anatomy.entries, rng)
        if entry is None:
            continue
        parts = ((0, 2), (2, 2), (4, 8), (12, 8)) if anatomy.big else ((0, 2), (2, 2), (4, 4), (8, 4))
        at, width = parts[int(rng.choice([0, 1, 2, 3, 3, 3]))]
        _put(data, anatomy, entry + at, width, int(rng.choice([*ABSURD, *rng.integers(1 << 16, size=4)])))
        spans.append((entry + at, entry + at + width))
    return spans


def _put(data: bytearray, anatomy: Anatomy, place: int, width: int, number: int) -> None:
    if place + width > len(data):
        return
    packed = struct.pack(anatomy.order + "Q", number & (1 << 64) - 1)
    data[place : place + width] = packed[:width] if anatomy.order == "<" else packed[8 - width :]


def _one_of(things: list[Any], rng: Rng) -> Any:
    return things[int(rng.integers(len(things)))] if things else None


Way = Callable[[bytearray, Anatomy, Rng], list[Span]]
ANYWHERE: dict[str, Way] = {
    "bits": _flip_bits,
    "bits of the header": _flip_header,
    "truncated": _truncate,
    "block of zeros": _zero_block,
    "block of ones": _ones_block,
    "random block": _random_block,
    "block from elsewhere": _copied_block,
}
IN_A_TIFF: dict[str, Way] = {
    "end of a tile zeroed": _zero_tile,
    "offsets of tiles": _change_offset,
    "lengths of tiles": _change_count,
    "directories spliced": _splice_directories,
    "entries of directories": _change_entries,
}
