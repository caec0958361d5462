"""Where pixels come from: OpenSlide for whole-slide formats, Pillow for plain images.

Both give the same small interface, `PixelSource`; everything above works on level pixels of it.
"""

from __future__ import annotations

import hashlib
import math
import queue
import threading
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Protocol

import openslide
from PIL import Image, UnidentifiedImageError

from core_model.errors import MppError, SlideError

MppSource = Literal["property", "tiff-resolution", "user"]


FINEST, COARSEST = 0.05, 20.0
"""µm/px that a microscope slide can have; outside, the figure is a mistake (72 dpi is 353 µm/px)."""


MAX_ANISOTROPY = 0.05
"""Largest relative difference between x and y that is taken for rounding."""


UNIT_UM = {"inch": 25400.0, "centimeter": 10000.0}


FIX = "Give the slide's true value with --mpp, for example --mpp 0.5 for a 20x scan"


PLAIN_FORMATS = ("TIFF", "PNG", "JPEG")
"""Pillow is kept to these: its other readers are not worth their risk here."""

PLAIN_MODES = {"RGB", "RGBA", "L", "LA", "P", "YCbCr"}
"""8-bit modes whose conversion to RGB shows the image as it is."""

CACHE_BYTES = 64 << 20
"""Decoded tiles kept per slide, shared by all its handles."""


class DecodeError(Exception):
    """A rectangle that did not decode; `Slide` turns it into `RegionUnreadable` with the box."""


class PixelSource(Protocol):
    """An open image pyramid."""

    vendor: str
    properties: Mapping[str, str]
    level_dimensions: tuple[tuple[int, int], ...]
    """Width and height per level, level 0 first."""

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
        self.properties: Mapping[str, str] = dict(first.properties)
        self.vendor = self.properties.get("openslide.vendor", "unknown")
        self.level_dimensions = tuple((int(w), int(h)) for w, h in first.level_dimensions)
        self._downsamples = tuple(float(d) for d in first.level_downsamples)
        self._background = "#" + self.properties.get("openslide.background-color", "ffffff")
        self._idle.put(first)

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
            raise SlideError(f"OpenSlide cannot open it ({error})", where=self._path) from error
        return handle

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
            raise DecodeError(str(error)) from error
        self._idle.put(handle)
        return _on_background(rgba, self._background), (x0 / factor - x, y0 / factor - y)

    def close(self) -> None:
        """Close the idle handles; a read in progress ends first and its handle goes with the object."""
        self._closed = True
        while True:
            try:
                self._idle.get_nowait().close()
            except queue.Empty:
                return


class PlainSource:
    """A plain image, decoded once and held in memory; Pillow's decompression-bomb limit bounds its size."""

    def __init__(self, path: Path) -> None:
        self.properties: Mapping[str, str]
        self.properties, image = _load_plain(path)
        self.vendor = f"plain-{(image.format or 'image').lower()}"
        self._image: Image.Image | None = _to_rgb(image, path)
        self.level_dimensions: tuple[tuple[int, int], ...] = (image.size,)
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


def open_source(path: Path) -> PixelSource:
    """Open `path` with the reader that its content asks for; raises `SlideError`."""
    try:
        if path.is_dir():
            raise SlideError("this is a folder, not a slide", where=path, fix="Name a slide file in it")
        if not path.exists():
            raise SlideError("there is no such file", where=path)
        if path.stat().st_size == 0:
            raise SlideError("the file is empty", where=path, fix="Copy it again from its source")
        if openslide.OpenSlide.detect_format(str(path)) is not None:
            return OpenSlideSource(path)
        return PlainSource(path)
    except OSError as error:
        raise SlideError(f"it cannot be read ({error.strerror or error})", where=path) from error


def content_id(path: Path, chunks: int = 32, chunk_bytes: int = 1 << 16) -> str:
    """Hex digest of a file's size and evenly spaced samples of its content, first and last bytes included."""
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    last = max(size - chunk_bytes, 0)
    with path.open("rb") as file:
        for place in sorted({round(i * last / (chunks - 1)) for i in range(chunks)}):
            file.seek(place)
            digest.update(file.read(chunk_bytes))
    return digest.hexdigest()


def _on_background(rgba: Image.Image, colour: str) -> Image.Image:
    """RGBA over a plain colour, as RGB."""
    alpha = rgba.getchannel("A")
    if alpha.getextrema()[0] == 255:
        return rgba.convert("RGB")
    ground = Image.new("RGB", rgba.size, colour)
    ground.paste(rgba.convert("RGB"), mask=alpha)
    return ground


def _load_plain(path: Path) -> tuple[dict[str, str], Image.Image]:
    """Decode the first image of a plain file, with its TIFF resolution under OpenSlide's property names."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # damaged EXIF and the like: the pixels decide
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(path, formats=PLAIN_FORMATS)
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
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise SlideError(f"the image does not decode ({error})", where=path) from error
    return _tiff_resolution(image), image


def _tiff_resolution(image: Image.Image) -> dict[str, str]:
    tags = getattr(image, "tag_v2", {})
    names = {282: "tiff.XResolution", 283: "tiff.YResolution"}
    resolution = {name: str(float(tags[tag])) for tag, name in names.items() if tags.get(tag)}
    unit = {2: "inch", 3: "centimeter"}.get(tags.get(296, 2 if resolution else 1), "none")
    return {**resolution, "tiff.ResolutionUnit": unit}


def _to_rgb(image: Image.Image, path: Path) -> Image.Image:
    """RGB of an 8-bit image; refuses depths and colour spaces that a conversion would falsify."""
    if image.mode not in PLAIN_MODES:
        raise SlideError(
            f"pixels of mode {image.mode} cannot be shown faithfully as 8-bit RGB",
            where=path,
            fix="Convert the image to 8-bit RGB",
        )
    if image.mode in {"RGBA", "LA"} or "transparency" in image.info:
        return _on_background(image.convert("RGBA"), "#ffffff")
    return image.convert("RGB")


def find_mpp(properties: Mapping[str, str], user: float | None, where: object) -> tuple[float, MppSource]:
    """The slide's µm/px at level 0 and its source: the user's word, the property, or the TIFF resolution.

    Raises `MppError` where none is given, or the one found lies outside 0.05-20 µm/px or differs between
    x and y by more than 5 %.
    """
    if user is not None:
        return _check(user, user, "user", where), "user"
    pair = _pair(properties, "openslide.mpp-x", "openslide.mpp-y")
    if pair is not None:
        return _check(*pair, "slide's metadata", where), "property"
    unit = UNIT_UM.get(properties.get("tiff.ResolutionUnit", "none"))
    pair = _pair(properties, "tiff.XResolution", "tiff.YResolution")
    if pair is not None and unit is not None:
        return _check(unit / pair[0], unit / pair[1], "TIFF resolution", where), "tiff-resolution"
    raise MppError("the slide does not say its micrometres per pixel", where=where, fix=FIX)


def _pair(properties: Mapping[str, str], x_name: str, y_name: str) -> tuple[float, float] | None:
    """Two positive numbers; one alone stands for both; None where neither is a positive number."""
    x, y = _positive(properties.get(x_name)), _positive(properties.get(y_name))
    first, second = x or y, y or x
    return (first, second) if first is not None and second is not None else None


def _positive(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None else 0.0
    except ValueError:
        return None
    return value if value > 0 and math.isfinite(value) else None


def _check(x: float, y: float, source: str, where: object) -> float:
    if not all(math.isfinite(v) and FINEST <= v <= COARSEST for v in (x, y)):
        absurd = next(v for v in (x, y) if not (math.isfinite(v) and FINEST <= v <= COARSEST))
        raise MppError(
            f"{absurd:.4g} µm/px (from the {source}) is outside {FINEST:g}-{COARSEST:g} µm/px",
            where=where,
            fix=FIX,
        )
    if abs(x - y) > MAX_ANISOTROPY * min(x, y):
        raise MppError(
            f"pixels are not square: {x:.4g} x {y:.4g} µm (from the {source})", where=where, fix=FIX
        )
    return (x + y) / 2
