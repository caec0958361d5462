"""Where pixels come from: OpenSlide for whole-slide formats, Pillow for plain images.

Both give the same small interface, `PixelSource`; everything above works on level pixels of it.
"""

from __future__ import annotations

import os
import queue
import struct
import threading
import warnings
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Protocol

import openslide
import PIL
from PIL import Image, UnidentifiedImageError

from core_model.errors import SlideError
from core_model.slides.parts import parts_of
from core_model.slides.scale import DENSITY_X, DENSITY_Y
from core_model.slides.tiff import (
    COLOUR,
    GREY,
    check_tiled,
    is_tiff,
    ome_mpp,
    read_pages,
    scale_properties,
    scan_page,
)

PLAIN_FORMATS = ("TIFF", "PNG", "JPEG")
"""Pillow is kept to these: its other readers are not worth their risk here."""

DAMAGED = (OSError, ValueError, SyntaxError, EOFError, TypeError, LookupError, ArithmeticError, struct.error)
"""What Pillow raises for a damaged image: tags of another type than they should have end in any of these."""

PLAIN_MODES = {"RGB", "RGBA", "L", "LA", "P", "YCbCr"}
"""8-bit modes whose conversion to RGB shows the image as it is."""

TURN_BACK = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""What undoes the turn that Pillow gives a TIFF (and no JPEG) by its Orientation tag."""


class PlainSource:
    """A plain image, decoded once and held in memory; Pillow's decompression-bomb limit bounds its size."""

    def __init__(self, path: Path) -> None:
        self.properties: Mapping[str, str]
        self.reader = f"Pillow {PIL.__version__}"
        pages = read_pages(path) if is_tiff(path) else []
        page = scan_page(path, pages) if is_tiff(path) else None
        image = _load_plain(path, page.number if page is not None else 0)
        self.properties = _density(image) if page is None else scale_properties(pages, page)
        self.vendor = f"plain-{(image.format or 'image').lower()}"
        rgb = _to_rgb(image, path)
        if page is not None and page.orientation in TURN_BACK:
            # Pixels as they are stored, as QuPath and OpenSlide give them: a place is the same in all.
            rgb = rgb.transpose(TURN_BACK[page.orientation])
        self._image: Image.Image | None = rgb
        self.level_dimensions: tuple[tuple[int, int], ...] = (rgb.size,)
        self.made_levels: tuple[tuple[int, int], ...] = ()
        self._lock = threading.Lock()
        self._path = path

    def tile_size(self, level: int) -> tuple[int, int]:
        """Width and height of the image, which is in one piece."""
        return self.level_dimensions[level]

    def read_level(
        self, level: int, x: int, y: int, w: int, h: int
    ) -> tuple[Image.Image, tuple[float, float]]:
        """RGB of a rectangle without offset; the image was decoded at opening, so nothing can fail here."""
        with self._lock:
            if self._image is None:
                raise SlideError("the slide is closed", where=self._path)
            return self._image.crop((x, y, x + w, y + h)), (0.0, 0.0)

    def close(self) -> None:
        """Free the pixels."""
        with self._lock:
            self._image = None


CACHE_BYTES = 64 << 20
"""Decoded tiles kept per slide, shared by all its handles."""


WARNING = "giant.warning"
"""Property by which a source says what speaks against what it reads: a sentence."""


class DecodeError(Exception):
    """A rectangle that did not decode; `Slide` turns it into `RegionUnreadable` with the box."""


class ExtraMissing(SlideError):
    """The library that reads a format is an extra, and not installed."""


class NeedsChild(SlideError):
    """A slide whose reader may hang or show damage, and so runs in a child process alone."""


class PixelSource(Protocol):
    """An open image pyramid."""

    vendor: str
    reader: str
    """Which library reads it, with its version, as `run.json` and `giant doctor` say it."""
    properties: Mapping[str, str]
    level_dimensions: tuple[tuple[int, int], ...]
    """Width and height per level, level 0 first."""
    made_levels: tuple[tuple[int, int], ...]
    """Levels that the file does not hold but the reader makes faster than by averaging: (level, factor).

    They are read under the numbers that follow those of the stored levels, and are `factor` times coarser,
    width and height rounded down.
    """

    def tile_size(self, level: int) -> tuple[int, int]:
        """Width and height of the tiles in which the file holds a level."""

    def read_level(
        self, level: int, x: int, y: int, w: int, h: int
    ) -> tuple[Image.Image, tuple[float, float]]:
        """RGB of a rectangle in pixels of `level`, and how far (right, down) its true origin lies from x, y.

        The offset is below one level-0 pixel. Raises `DecodeError`.
        """

    def close(self) -> None:
        """Free the file."""


SCANNED_WHOLE = ("aperio", "generic-tiff")
"""Vendors whose levels have tiles everywhere: where OpenSlide gives nothing, a tile is missing."""


class OpenSlideSource:
    """A slide that OpenSlide reads.

    OpenSlide's errors are sticky and spread to whoever shares the handle. So a handle serves one read
    at a time, and one that failed is closed and never used again.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._cache = openslide.OpenSlideCache(CACHE_BYTES)
        self._idle: queue.SimpleQueue[openslide.OpenSlide] = queue.SimpleQueue()
        self._closed = False
        first = self._open()
        self.reader = f"OpenSlide {openslide.__library_version__}"
        self.properties: Mapping[str, str] = _properties(first)
        self.vendor = self.properties.get("openslide.vendor", "unknown")
        self.level_dimensions = tuple((int(w), int(h)) for w, h in first.level_dimensions)
        self.made_levels: tuple[tuple[int, int], ...] = ()
        self._downsamples = tuple(float(d) for d in first.level_downsamples)
        self._background = "#" + self.properties.get("openslide.background-color", "ffffff")
        self._idle.put(first)

    def check(self) -> None:
        """Raise `SlideError` where OpenSlide would show something else than the file holds."""
        if not is_tiff(self._path):
            return
        pages = check_tiled(self._path, self.vendor, self.level_dimensions[0])
        stated = ome_mpp(pages)
        if stated is not None and "openslide.mpp-x" not in self.properties:
            names = ("openslide.mpp-x", "openslide.mpp-y")
            self.properties = {**self.properties, **dict(zip(names, map(str, stated), strict=True))}

    def tile_size(self, level: int) -> tuple[int, int]:
        """Width and height of the file's tiles; 256 px where OpenSlide does not say."""
        names = (f"openslide.level[{level}].tile-{side}" for side in ("width", "height"))
        width, height = (int(self.properties.get(name, 256)) for name in names)
        return max(width, 1), max(height, 1)

    def _open(self) -> openslide.OpenSlide:
        try:
            handle = openslide.OpenSlide(str(self._path))
            handle.set_cache(self._cache)
        except (openslide.OpenSlideError, OSError) as error:
            reason = self._told(error)
            raise SlideError(f"OpenSlide cannot open it ({reason})", where=self._path) from error
        return handle

    def _told(self, error: Exception) -> str:
        """What OpenSlide says, without folders and names of files that belong to the slide.

        They may name a patient, and the words go into run folders and to models.
        """
        text = str(error)
        for name in self._part_names:
            text = text.replace(name, "a file of it")
        return text.replace(f"{self._path.parent}{os.sep}", "")

    @cached_property
    def _part_names(self) -> list[str]:
        """Paths and names of the slide's files, longest first; none where they cannot be listed."""
        try:
            parts = parts_of(self._path)[1:]
        except OSError:
            return []
        return sorted({*map(str, parts), *(part.name for part in parts)}, key=len, reverse=True)

    def _borrow(self) -> openslide.OpenSlide:
        if self._closed:
            raise SlideError("the slide is closed", where=self._path)
        try:
            return self._idle.get_nowait()
        except queue.Empty:
            return self._open()

    def read_level(
        self, level: int, x: int, y: int, w: int, h: int
    ) -> tuple[Image.Image, tuple[float, float]]:
        """RGB of a rectangle and its offset; unscanned parts get the slide's background colour."""
        factor = self._downsamples[level]
        level_w, level_h = self.level_dimensions[level]
        # OpenSlide takes the origin in whole level-0 pixels and interpolates to the fraction that
        # leaves; rounding down at the far edges keeps the read inside the level.
        x0 = int(x * factor) if x + w >= level_w else round(x * factor)
        y0 = int(y * factor) if y + h >= level_h else round(y * factor)
        handle = self._borrow()
        try:
            rgba = handle.read_region((x0, y0), level, (w, h))
        except (openslide.OpenSlideError, OSError) as error:
            handle.close()
            raise DecodeError(self._told(error)) from error
        self._idle.put(handle)
        if self.vendor in SCANNED_WHOLE and rgba.getchannel("A").getextrema()[0] == 0:
            raise DecodeError("a tile of it is missing in the file")
        return on_background(rgba, self._background), (x0 / factor - x, y0 / factor - y)

    def close(self) -> None:
        """Close the idle handles; a read in progress ends first and its handle goes with the object."""
        self._closed = True
        while True:
            try:
                self._idle.get_nowait().close()
            except queue.Empty:
                return


def _properties(handle: openslide.OpenSlide) -> dict[str, str]:
    """What OpenSlide says of a slide; a name that is no UTF-8 cannot be asked for, and is left out."""
    found = {}
    for name in handle.properties:
        with suppress(KeyError):
            found[name] = handle.properties[name]
    return found


def on_background(rgba: Image.Image, colour: str) -> Image.Image:
    """RGBA over a plain colour, as RGB."""
    alpha = rgba.getchannel("A")
    if alpha.getextrema()[0] == 255:
        return rgba.convert("RGB")
    ground = Image.new("RGB", rgba.size, colour)
    ground.paste(rgba.convert("RGB"), mask=alpha)
    return ground


def _load_plain(path: Path, page: int) -> Image.Image:
    """Decode a page of a plain file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # damaged EXIF and the like: the pixels decide
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(path, formats=PLAIN_FORMATS)
            if page:
                image.seek(page)
            image.load()
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise SlideError(
            "the plain image is too large to decode at once",
            where=path,
            fix="Convert it to a tiled pyramidal TIFF, for example with `vips tiffsave --tile --pyramid`",
        ) from error
    except UnidentifiedImageError as error:
        raise SlideError(
            "this is no slide that OpenSlide reads and no TIFF, PNG or JPEG; it may be truncated", where=path
        ) from error
    except DAMAGED as error:
        raise SlideError(f"the image does not decode ({error})", where=path) from error
    return image


def _density(image: Image.Image) -> dict[str, str]:
    """Pixels per metre by PNG's pHYs or JPEG's JFIF, where they are of a length and no mere ratio."""
    info = image.info
    if image.format == "JPEG":
        unit = {1: 1 / 0.0254, 2: 100.0}.get(info.get("jfif_unit", 0))
        per_metre = [side * unit for side in info.get("jfif_density", ())] if unit else []
    else:
        per_metre = [side / 0.0254 for side in info.get("dpi", ())]
    return {name: str(float(value)) for name, value in zip((DENSITY_X, DENSITY_Y), per_metre, strict=False)}


def _to_rgb(image: Image.Image, path: Path) -> Image.Image:
    """RGB of an 8-bit image; refuses depths and colour spaces that a conversion would falsify."""
    deep = image.format == "PNG" and _png_depth(path) > 8  # which Pillow cuts to 8 bits in silence
    if deep or image.mode not in PLAIN_MODES:
        kind = "16 bits" if deep else f"mode {image.mode}"
        raise SlideError(
            f"pixels of {kind} cannot be shown faithfully as 8-bit RGB",
            where=path,
            fix="Convert the image to 8-bit RGB",
        )
    if image.mode in {"L", "LA"}:
        raise SlideError(f"it holds {GREY}, without the colours of a stain", where=path, fix=COLOUR)
    if image.mode == "RGBA" or "transparency" in image.info:
        return on_background(image.convert("RGBA"), "#ffffff")
    return image.convert("RGB")


def _png_depth(path: Path) -> int:
    """Bits per sample, from the header that every PNG begins with."""
    with path.open("rb") as file:
        return file.read(25)[24]
