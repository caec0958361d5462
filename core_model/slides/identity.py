"""Which slide it is: the file that opens it, its printable name, and a digest that tells it from others.

The identity of a slide (`slide_id`) is a digest of what is read of it, wherever it lies and whenever it was
copied. It covers every file of the slide (`parts_of`) by size and content, the sizes of its levels, and the
id that the format gives itself. A slide of up to 64 MiB counts whole. Of a larger one 512 places of 64 KiB
are read, evenly spaced, 32 MiB; of a TIFF also 16 places of each page, so that no small level, label or macro
lies between them. So a slide costs at most 64 MiB of reading (more only with hundreds of files), and damage
to a large slide that is shorter than a 512th of it may go unseen. Of a store with a file for each tile
(OME-Zarr) the names and sizes of all files count, and the content of 128 of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from core_model.errors import SlideError
from core_model.slides.claims import check_links, check_names, check_packing, check_size
from core_model.slides.formats.bright import check_properties
from core_model.slides.parts import is_store_table, is_zarr, main_file, parts_of, slide_name
from core_model.slides.tiff import is_tiff, read_pages

if TYPE_CHECKING:
    from core_model.slides.sources import PixelSource

SCHEME = "giant-slide-2"
"""Changes when the same slide would get another identity."""

WHOLE = 64 << 20
"""Bytes up to which all files of a slide together are read whole."""

CHUNK, CHUNKS = 1 << 16, 512
"""Bytes of a place, and places in all; each file has at least `LEAST` of them."""

LEAST = 4

PAGE_CHUNK = 4096
"""Bytes of a place in a page."""


class Opened(NamedTuple):
    """A slide that is open: what it is, and where its pixels come from."""

    path: Path
    """The file by which it is opened."""
    name: str
    source: PixelSource
    identity: str


def opened(path: Path, follow_links: bool = True) -> Opened:
    """Open the slide that `path` names, once what its files claim has been checked. Raises `SlideError`."""
    from core_model.slides.readers import open_source

    try:
        path = _main_file(path)
        name = slide_name(path)
        check_names(path)
        check_packing(path)
        if not follow_links:
            check_links(path)
        source = open_source(path)
        try:
            check_size(path, source)
            check_properties(source.properties, path)
            return Opened(path, name, source, slide_id(path, source))
        except BaseException:
            source.close()
            raise
    except OSError as error:
        raise SlideError(f"it cannot be read ({error.strerror or error})", where=path) from error


def _main_file(path: Path) -> Path:
    if not path.is_dir() or is_zarr(path):
        return main_file(path)
    from core_model.slides.discover import slide_in

    return slide_in(path)


def slide_id(path: Path, source: PixelSource) -> str:
    """Hex digest of the slide that `path` opens. Raises `OSError` where a file of it cannot be read."""
    parts = parts_of(path)
    total = sum(part.stat().st_size for part in parts)
    if path.is_dir():
        shares = [_store_digest(path, parts, total)]
    else:
        shares = [_part_digest(part, total) for part in parts]
    facts = (SCHEME, source.properties.get("openslide.quickhash-1", ""), repr(source.level_dimensions))
    # Sorted: names of files, and so their order, are no part of what a slide is.
    return hashlib.sha256("\n".join([*facts, *sorted(shares)]).encode()).hexdigest()


def _store_digest(store: Path, parts: Sequence[Path], total: int) -> str:
    """Digest of a folder with a file for each tile: names and sizes of all, content of evenly spaced ones."""
    step = 1 if total <= WHOLE else -(-len(parts) * LEAST // CHUNKS)
    digest = hashlib.sha256()
    for number, part in enumerate(parts):
        # Here names count: by its name a tile has its place.
        facts = [part.relative_to(store).as_posix(), str(part.stat().st_size)]
        if number % step == 0 or is_store_table(part):
            facts.append(_part_digest(part, total))
        digest.update(("\0".join(facts) + "\n").encode(errors="surrogateescape"))
    return digest.hexdigest()


def _part_digest(path: Path, total: int) -> str:
    """Digest of one file of a slide whose files have `total` bytes: of the whole, or of samples."""
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for place, length in _places(path, size, total):
            file.seek(place)
            digest.update(file.read(length))
    return digest.hexdigest()


def _places(path: Path, size: int, total: int) -> Iterable[tuple[int, int]]:
    if total <= WHOLE:
        return ((place, 1 << 20) for place in range(0, size, 1 << 20))
    count = max(LEAST, round(CHUNKS * size / total))
    if size <= count * CHUNK:
        return [(0, size)]
    places = [(round(i * (size - CHUNK) / (count - 1)), CHUNK) for i in range(count)]
    return places + (_page_places(path) if is_tiff(path) else [])


def _page_places(path: Path) -> list[tuple[int, int]]:
    return [(offset, min(length, PAGE_CHUNK)) for page in read_pages(path) for offset, length in page.places]
