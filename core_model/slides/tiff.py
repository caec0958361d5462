"""TIFF files page by page: which page is the scan, and whether its pixels can be shown as they are.

OpenSlide and Pillow give 8-bit RGB of whatever a page holds; here is said what that would falsify.
"""

from __future__ import annotations

import logging
import re
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from core_model.errors import SlideError
from core_model.slides.formats.bright import check_bright_field
from core_model.slides.scale import UNIT_UM

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

MOST_PAGES = 500
"""Pages looked at; whole-slide images have some twenty."""

MOST_SHARED = 8
"""How often the bytes of a file may be claimed by its tiles: some writers keep one empty tile for all."""

FIRST_IS_SCAN = ("generic-tiff", "aperio")
"""Vendors whose first page is level 0; Ventana's, for one, is the label."""

SAMPLES = 16
"""Places of a page's pixel data that its identity is taken from."""

CONVERT = "Convert it, for example with `vips tiffsave`, to an 8-bit RGB tiled pyramid"

CODED = (7, 33003, 33005, 34712)
"""Compressions that hold their own colours and are decoded without regard to Orientation: JPEG, JPEG 2000."""

GREY, COLOUR = "one channel of grey", "Give a scan in colour"

PHOTOMETRIC = {4: "mask", 5: "CMYK", 8: "CIE L*a*b*", 9: "CIE L*a*b*", 10: "CIE L*a*b*",
               32803: "raw sensor", 32844: "LogL", 32845: "LogLuv", 34892: "raw sensor"}  # fmt: skip
FORMATS = {2: "signed integers", 3: "floating-point numbers", 5: "complex numbers", 6: "complex numbers"}

_ASSOCIATED = re.compile(
    r"^\s*(label|macro|overview|thumbnail)\b|<ImageType>\s*(label|macro|overview|thumbnail)\s*</ImageType>",
    re.IGNORECASE | re.MULTILINE,
)
"""First words of a page's description, or what QPTIFF calls it."""
_REDUCED = "<ImageType>ReducedResolution</ImageType>"
_IMAGEJ = re.compile(r"^images=(\d+)", re.MULTILINE)


@dataclass(frozen=True)
class Page:
    """One image of a TIFF file."""

    number: int
    width: int
    height: int
    tiled: bool
    reduced: bool
    """Flagged as a smaller version of another page."""
    associated: str | None
    """"label", "macro" …, where the page says that it is one."""
    oddity: str | None
    """What 8-bit RGB would not show faithfully; None where it would."""
    orientation: int
    coded: bool
    """Whether its tiles are decoded as stored whatever the orientation says."""
    samples: int
    """Values of a pixel: 3 for RGB."""
    description: str
    places: tuple[tuple[int, int], ...]
    """Offset and length of some of its pixel data."""
    per_unit: tuple[float | None, float | None]
    """Pixels per unit in x and y, where the tags say it."""
    unit: str
    """"inch", "centimeter" or "none"."""
    compression: int

    @property
    def area(self) -> int:
        """Area in px²."""
        return self.width * self.height


def is_tiff(path: Path) -> bool:
    """Whether the file begins as a TIFF does. Raises `OSError`."""
    with path.open("rb") as file:
        return file.read(4) in MAGIC


def read_pages(path: Path) -> list[Page]:
    """The pages of the file's main chain. Raises `SlideError` where they cannot be read."""
    with directory(path) as every:
        _check_claims(path, every)
        return _with_names([_page(number, page) for number, page in enumerate(every)])


@contextmanager
def directory(path: Path) -> Iterator[list[Any]]:
    """The pages of the file's main chain as tifffile has them, at most `MOST_PAGES`.

    Raises `SlideError` where they cannot be read, also within the body: tags may be of any type.
    """
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # it comments on every odd tag
    try:
        with tifffile.TiffFile(path) as tiff:
            yield list(islice(tiff.pages, MOST_PAGES))
    except (tifffile.TiffFileError, OSError, ValueError, TypeError, LookupError, struct.error) as error:
        raise SlideError(
            f"its TIFF directory cannot be read ({error})", where=path, fix="Copy the file again"
        ) from error


def _check_claims(path: Path, pages: Sequence[Any]) -> None:
    """Raise `SlideError` where directories lead in a circle, or tiles share bytes without end."""
    if len({page.offset for page in pages}) < len(pages):
        raise SlideError("its TIFF directories lead in a circle", where=path, fix="Copy the file again")
    size = path.stat().st_size
    claimed = sum(min(int(count), size) for page in pages for count in page.databytecounts)
    if claimed > MOST_SHARED * size:
        raise SlideError(f"its tiles claim {claimed:,} bytes of a file that has {size:,}", where=path)


def check_tiled(path: Path, vendor: str, size: tuple[int, int]) -> list[Page]:
    """The pages of a TIFF that OpenSlide reads, its level 0 being `size` px.

    Raises `SlideError` where what it reads is a preview, a label, one of many channels, or not faithful.
    """
    pages = read_pages(path)
    generic = vendor == "generic-tiff"
    levels = [
        page
        for page in pages
        if page.tiled and not page.associated and (page.reduced or not page.number or not generic)
    ]
    if vendor in FIRST_IS_SCAN:
        # Aperio's untiled pages are its thumbnail and the like, of any size.
        _check_scan(path, [page for page in pages if page.tiled or generic], pages[0], size)
    for page in levels:
        _check_page(path, page)
        if page.orientation != 1 and not page.coded:
            raise SlideError(
                f"its Orientation tag is {page.orientation}, and its tiles would be turned one by one",
                where=path,
                fix="Set the tag to 1 (`tiffset -s 274 1 FILE`): pixels are read as they are stored",
            )
    return pages


def scan_page(path: Path, pages: Sequence[Page] | None = None) -> Page:
    """The page of a TIFF that is the scan: the largest that is no label, of `pages` where they are known.

    Raises `SlideError` where there is none, or several, or where it could not be shown as it is.
    """
    pages = read_pages(path) if pages is None else pages
    candidates = [page for page in pages if not page.associated] or pages[:1]
    if not candidates:
        raise SlideError("it holds no image", where=path)
    page = max(candidates, key=lambda item: item.area)
    _check_scan(path, pages, page, (page.width, page.height))
    _check_page(path, page)
    return page


def resolution(page: Page) -> dict[str, str]:
    """The resolution that the tags of a page state, under OpenSlide's names of properties."""
    names = ("tiff.XResolution", "tiff.YResolution")
    stated = {name: str(value) for name, value in zip(names, page.per_unit, strict=True) if value}
    return {**stated, "tiff.ResolutionUnit": page.unit if stated else "none"}


def scale_properties(pages: Sequence[Page], page: Page) -> dict[str, str]:
    """Everything that a TIFF says of the scale of one of its pages, under OpenSlide's names of properties."""
    stated = ome_mpp(pages, page) or ()
    sides = {f"openslide.mpp-{axis}": str(value) for axis, value in zip("xy", stated, strict=False)}
    return resolution(page) | {"tiff.ImageDescription": page.description} | sides


def ome_mpp(pages: Sequence[Page], page: Page | None = None) -> tuple[float, float] | None:
    """µm/px in x and y that an OME-TIFF states of a page, or of its first image; None where it does not."""
    pixels = _ome_pixels(pages, page)
    if pixels is None:
        return None
    sizes = []
    for axis in "XY":
        unit = UNIT_UM.get(pixels.get(f"PhysicalSize{axis}Unit", "µm").lower())
        try:
            size = float(pixels.get(f"PhysicalSize{axis}", ""))
        except ValueError:
            return None
        if unit is None:
            return None
        sizes.append(size * unit)
    return sizes[0], sizes[1]


def _check_scan(path: Path, pages: Sequence[Page], page: Page, size: tuple[int, int]) -> None:
    """Raise where `page`, read at `size`, is a label, a preview, or one of several."""
    if page.associated:
        raise SlideError(f"this is the {page.associated} image of a slide, not the slide", where=path)
    for description in {pages[0].description, page.description}:
        check_bright_field(description, path, rgb=page.samples >= 3)
    others = [other for other in pages if other is not page and not other.associated]
    largest = max(others, key=lambda item: item.area, default=page)
    if largest.area > size[0] * size[1]:
        raise SlideError(
            f"its first page ({size[0]} x {size[1]} px) is a preview of page {largest.number + 1}"
            f" ({largest.width} x {largest.height} px), which cannot be read behind it",
            where=path,
            fix=f"Write the scan into a file of its own: `vips tiffsave FILE[page={largest.number}] NEW.tiff"
            " --tile --pyramid`",
        )
    equals = sum((other.width, other.height) == size and not other.reduced for other in others) + 1
    count = max(equals, _planes(page))
    if count > 1:
        raise SlideError(
            f"it holds {count} images of one size (channels, focal planes or time points), of which one"
            " alone would be shown",
            where=path,
            fix="Write the one to look at, or an RGB composite, into a file of its own",
        )


def _check_page(path: Path, page: Page) -> None:
    if page.oddity == GREY:
        raise SlideError(f"it holds {GREY}, without the colours of a stain", where=path, fix=COLOUR)
    if page.oddity:
        raise SlideError(
            f"it holds {page.oddity}, which 8-bit RGB cannot show faithfully", where=path, fix=CONVERT
        )


def _planes(page: Page) -> int:
    """How many images the description says there are beside this one."""
    pixels = _ome_pixels([page])
    if pixels is not None:
        images = _whole(pixels.get("SizeC")) // page.samples
        return max(1, images) * _whole(pixels.get("SizeZ")) * _whole(pixels.get("SizeT"))
    match = _IMAGEJ.search(page.description) if page.description.startswith("ImageJ") else None
    return int(match[1]) if match else 1


def _page(number: int, page: Any) -> Page:
    tags = page.tags
    kind = int(_value(tags, 254, 0))
    described = str(page.description or "")
    found = _ASSOCIATED.search(described[:4000])
    return Page(
        number=number,
        width=int(page.imagewidth),
        height=int(page.imagelength),
        tiled=bool(page.is_tiled),
        reduced=bool(kind & 1) or _REDUCED in described[:4000],
        associated=(found[1] or found[2]).lower() if found else "macro" if kind == 9 else None,
        oddity=_oddity(tags, int(page.compression)),
        orientation=int(_value(tags, 274, 1)),
        coded=int(page.compression) in CODED,
        samples=max(1, int(_value(tags, 277, 1))),
        description=described,
        places=_places(page.dataoffsets, page.databytecounts),
        per_unit=(_ratio(tags, 282), _ratio(tags, 283)),
        compression=int(page.compression),
        unit={2: "inch", 3: "centimeter"}.get(int(_value(tags, 296, 2)), "none"),
    )


def _oddity(tags: Any, compression: int) -> str | None:
    """What a page holds that is not 8-bit palette or RGB; None where it does."""
    bits = _values(tags, 258, 1)
    formats = _values(tags, 339, 1)
    samples, photometric = int(_value(tags, 277, 1)), int(_value(tags, 262, 1))
    extra = _values(tags, 338, 0)
    for kind in formats:
        if kind in FORMATS:
            return f"{bits[0]}-bit {FORMATS[kind]}"
    if any(depth != 8 for depth in bits):
        return f"{'/'.join(str(depth) for depth in dict.fromkeys(bits))}-bit samples"
    if photometric in PHOTOMETRIC or photometric > 8:
        return f"{PHOTOMETRIC.get(photometric, f'photometric {photometric}')} samples"
    if photometric == 6 and compression not in CODED:
        return "YCbCr samples that are no JPEG"
    if photometric < 2 and (samples == 1 or (samples == 2 and extra[0] in (1, 2))):
        return GREY
    colours = 3 if photometric in (2, 6) else 1
    if samples < colours or samples > colours + 1:
        return f"{samples} channels"
    if samples > colours and extra[0] not in (1, 2):
        return f"{samples} channels, the last of which is not said to be transparency"
    return None


def _places(offsets: Sequence[int], counts: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Up to `SAMPLES` of the tiles or strips, evenly spaced, first and last included."""
    last = min(len(offsets), len(counts)) - 1
    if last < 0:
        return ()
    chosen = sorted({round(i * last / (SAMPLES - 1)) for i in range(SAMPLES)})
    return tuple((int(offsets[i]), int(counts[i])) for i in chosen)


def _ome_pixels(pages: Sequence[Page], page: Page | None = None) -> dict[str, str] | None:
    """Attributes of the `Pixels` element of the OME-XML that has the size of `page`, else of the first."""
    found = [pixels for _, pixels in _ome_images(pages)]
    if page is not None:
        found.sort(key=lambda pixels: _size(pixels) != (page.width, page.height))
    return found[0] if found else None


def _ome_images(pages: Sequence[Page]) -> list[tuple[str, dict[str, str]]]:
    """Name, and attributes of `Pixels`, of each image that the OME-XML of a file describes."""
    text = pages[0].description if pages else ""
    if "<OME" not in text[:2000] or "<!ENTITY" in text:
        return []
    try:
        root = ElementTree.fromstring(text.strip())
    except ElementTree.ParseError:
        return []
    return [
        (image.get("Name", ""), dict(pixels.attrib))
        for image in root.iterfind("{*}Image")
        for pixels in image.iterfind("{*}Pixels")
    ]


def _size(pixels: dict[str, str]) -> tuple[int, int]:
    return _whole(pixels.get("SizeX")), _whole(pixels.get("SizeY"))


def _with_names(pages: list[Page]) -> list[Page]:
    """The pages, those marked whose OME image is called label, macro, overview or thumbnail."""
    images = _ome_images(pages)
    sizes = [_size(pixels) for _, pixels in images]
    found = {}
    for (name, _), size in zip(images, sizes, strict=True):
        match = _ASSOCIATED.search(name)
        if match and sizes.count(size) == 1:
            found[size] = match[1].lower()
    return [
        replace(page, associated=page.associated or found.get((page.width, page.height))) for page in pages
    ]


def _whole(text: str | None) -> int:
    """A whole number above 0; 1 where it is none."""
    return max(1, int(text)) if text is not None and text.isdecimal() else 1


def _value(tags: Any, code: int, default: int) -> Any:
    return _values(tags, code, default)[0]


def _ratio(tags: Any, code: int) -> float | None:
    """A rational number above 0; None where the tag holds none."""
    over = _values(tags, code, 0)
    value = over[0] / over[1] if len(over) == 2 and over[1] else 0.0
    return float(value) if value > 0 else None


def _values(tags: Any, code: int, default: int) -> tuple[Any, ...]:
    tag = tags.get(code)
    if tag is None or tag.value is None or tag.value == ():
        return (default,)
    value = tag.value
    return tuple(value) if isinstance(value, tuple | list) else (value,)
