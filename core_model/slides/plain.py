"""Plain images, TIFF, PNG or JPEG, as Pillow decodes them."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Mapping
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from core_model.errors import SlideError
from core_model.slides.tiff import is_tiff, scan_page

PLAIN_FORMATS = ("TIFF", "PNG", "JPEG")
"""Pillow is kept to these: its other readers are not worth their risk here."""

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
        page = scan_page(path) if is_tiff(path) else None
        self.properties, image = _load_plain(path, page.number if page is not None else 0)
        self.vendor = f"plain-{(image.format or 'image').lower()}"
        rgb = _to_rgb(image, path)
        if page is not None and page.orientation in TURN_BACK:
            # Pixels as they are stored, as QuPath and OpenSlide give them: a place is the same in all.
            rgb = rgb.transpose(TURN_BACK[page.orientation])
        self._image: Image.Image | None = rgb
        self.level_dimensions: tuple[tuple[int, int], ...] = (rgb.size,)
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


def on_background(rgba: Image.Image, colour: str) -> Image.Image:
    """RGBA over a plain colour, as RGB."""
    alpha = rgba.getchannel("A")
    if alpha.getextrema()[0] == 255:
        return rgba.convert("RGB")
    ground = Image.new("RGB", rgba.size, colour)
    ground.paste(rgba.convert("RGB"), mask=alpha)
    return ground


def _load_plain(path: Path, page: int) -> tuple[dict[str, str], Image.Image]:
    """Decode a page of a plain file, with its TIFF resolution under OpenSlide's property names."""
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
    deep = image.format == "PNG" and _png_depth(path) > 8  # which Pillow cuts to 8 bits in silence
    if deep or image.mode not in PLAIN_MODES:
        kind = "16 bits" if deep else f"mode {image.mode}"
        raise SlideError(
            f"pixels of {kind} cannot be shown faithfully as 8-bit RGB",
            where=path,
            fix="Convert the image to 8-bit RGB",
        )
    if image.mode in {"RGBA", "LA"} or "transparency" in image.info:
        return on_background(image.convert("RGBA"), "#ffffff")
    return image.convert("RGB")


def _png_depth(path: Path) -> int:
    """Bits per sample, from the header that every PNG begins with."""
    with path.open("rb") as file:
        return file.read(25)[24]
