"""Micrometres per pixel at level 0: what the file states, what the user says, and where they contradict."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from core_model.errors import MppError
from core_model.slides.box import magnification

MppSource = Literal["property", "description", "tiff-resolution", "image-density", "user"]
"""Where the value comes from: a field of the format, the description in a TIFF, its resolution tags, the
density in a PNG or JPEG, or the user."""

FINEST, COARSEST = 0.05, 20.0
"""µm/px that a microscope slide can have; outside, the figure is a mistake (72 dpi is 353 µm/px)."""

ROUNDING = 0.02
"""Largest relative difference between x and y that is taken for rounding; pixels are square then."""

MOST_OBLONG = 2.0
"""Largest ratio of the sides of a pixel; beyond it one of the figures is a mistake."""

MAX_DIFFERENCE = 0.05
"""Largest relative difference between two statements of one length that is taken for rounding."""

MAX_OBJECTIVE = 1.5
"""Largest factor between a stated magnification and that of the µm/px: 20x is scanned at 0.4 to 0.6 µm/px."""

ADAPTED = ("mirax", "zeiss")
"""Vendors that state the objective alone; their camera adapters magnify further, by 1.6 and more."""

UNIT_UM = {
    **dict.fromkeys(("µm", "μm", "um", "micron", "microns", "micrometer", "micrometre"), 1.0),
    **dict.fromkeys(("\\u00b5m", "\\u03bcm"), 1.0),  # as ImageJ escapes them
    **dict.fromkeys(("nm", "nanometer", "nanometre"), 1e-3),
    **dict.fromkeys(("å", "angstrom"), 1e-4),
    **dict.fromkeys(("mm", "millimeter", "millimetre"), 1e3),
    **dict.fromkeys(("cm", "centimeter", "centimetre"), 1e4),
    **dict.fromkeys(("m", "meter", "metre"), 1e6),
    **dict.fromkeys(("inch", "in", "inches"), 25400.0),
}
"""µm of a unit of length, by its names in small letters; "pixel" is none."""

FIX = "Give the slide's true value with --mpp, for example --mpp 0.5 for a 20x scan"


@dataclass(frozen=True)
class Scale:
    """The scale of a slide, with its source and whatever speaks against it."""

    mpp_x: float
    mpp_y: float
    """µm per level-0 px along x and y; the same where the file's figures differ by rounding alone."""
    source: MppSource
    warnings: tuple[str, ...] = ()
    """One sentence for each contradiction, without the slide's name."""

    @property
    def mpp(self) -> float:
        """µm per level-0 px as one number: the side of a square of a pixel's area."""
        return self.mpp_x if self.mpp_x == self.mpp_y else math.sqrt(self.mpp_x * self.mpp_y)


def find_scale(
    properties: Mapping[str, str], user: float | None, override: float | None, where: object
) -> Scale:
    """The slide's µm/px at level 0: the override, what the file states, or the user's word.

    `user` stands only where the file states no usable value. Raises `MppError` where there is no value, or
    the one found lies outside 0.05-20 µm/px or differs between x and y by more than a factor of 2.
    """
    if override is not None:
        return _with_objective(_check(override, override, "user", where), "user", properties)
    stated = _stated(properties)
    if user is None:
        if stated is None:
            raise MppError("the slide does not say its micrometres per pixel", where=where, fix=FIX)
        return _with_objective(_check(*stated, where), stated[2], properties)
    given = _check(user, user, "user", where)
    try:
        pair = _check(*stated, where) if stated is not None else None
    except MppError:
        pair = None  # an absurd statement is none
    if pair is None or stated is None:
        return _with_objective(given, "user", properties)
    scale = _with_objective(pair, stated[2], properties)
    return scale if _alike(scale.mpp, user, 1 + MAX_DIFFERENCE) else _contradicted(scale, user)


def _contradicted(scale: Scale, given: float) -> Scale:
    said = (
        f"The file states {scale.mpp:.4g} µm/px, which is used; --mpp {given:g} is not."
        f" To overrule the file, give --mpp-override {given:g}."
    )
    return replace(scale, warnings=(*scale.warnings, said))


def objective(properties: Mapping[str, str]) -> float | None:
    """The magnification that the file states; None where it does not."""
    return _positive(properties.get("openslide.objective-power"))


def _with_objective(pair: tuple[float, float], source: MppSource, properties: Mapping[str, str]) -> Scale:
    """The scale, with a warning where pixels are oblong, or the stated magnification is another."""
    scale = Scale(*pair, source)
    if scale.mpp_x != scale.mpp_y:
        said = f"Its pixels are not square, {scale.mpp_x:.4g} x {scale.mpp_y:.4g} µm: both lengths are used."
        scale = replace(scale, warnings=(said,))
    power, mpp = objective(properties), scale.mpp
    if power is None or properties.get("openslide.vendor") in ADAPTED:
        return scale
    if _alike(power, magnification(mpp), MAX_OBJECTIVE):
        return scale
    said = (
        f"The file states a magnification of {power:g}x, but {mpp:.4g} µm/px is {magnification(mpp):.3g}x."
        f" Sizes and resolutions go by {mpp:.4g} µm/px; if that is wrong, give the true value with"
        " --mpp-override."
    )
    return replace(scale, warnings=(*scale.warnings, said))


def _alike(a: float, b: float, factor: float) -> bool:
    return max(a, b) <= factor * min(a, b)


SOURCES: dict[str, str] = {
    "property": "slide's metadata",
    "description": "description in the file",
    "tiff-resolution": "TIFF resolution",
    "image-density": "density in the image",
    "user": "user",
}
"""The sources in words that follow "the"."""


def _stated(properties: Mapping[str, str]) -> tuple[float, float, MppSource] | None:
    """What the file states: µm/px in x and y, and where; believable or not.

    The density of a PNG or JPEG is mostly that of a screen or printer: it counts only where it can be that
    of a microscope.
    """
    pair = _pair(properties, "openslide.mpp-x", "openslide.mpp-y") or _imaged_volume(properties)
    if pair is not None:
        return *pair, "property"
    per_unit = _pair(properties, "tiff.XResolution", "tiff.YResolution")
    described = _described(properties.get("tiff.ImageDescription", ""), per_unit)
    if described is not None:
        return *described, "description"
    unit = UNIT_UM.get(properties.get("tiff.ResolutionUnit", "none"))
    if per_unit is not None and unit is not None:
        return unit / per_unit[0], unit / per_unit[1], "tiff-resolution"
    per_metre = _pair(properties, DENSITY_X, DENSITY_Y)
    if per_metre is not None and all(FINEST <= 1e6 / value <= COARSEST for value in per_metre):
        return 1e6 / per_metre[0], 1e6 / per_metre[1], "image-density"
    return None


DENSITY_X, DENSITY_Y = "image.PixelsPerMetreX", "image.PixelsPerMetreY"
"""Properties in which plain images say their density."""

_NUMBER = r"([0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)"
_DESCRIBED = (
    re.compile(rf"<PixelSizeMicrons>\s*{_NUMBER}\s*</PixelSizeMicrons>"),  # Akoya's QPTIFF
    re.compile(rf"\|\s*MPP\s*=\s*{_NUMBER}\s*(?:\||$)"),  # Aperio
)
_SPACING = re.compile(  # Philips: mm along y and x, each in quotation marks
    rf'"DICOM_PIXEL_SPACING"[^>]*>\s*(?:"|&quot;){_NUMBER}(?:"|&quot;)\s+(?:"|&quot;){_NUMBER}(?:"|&quot;)'
)
_IMAGEJ_UNIT = re.compile(r"^unit=(\S+)\s*$", re.MULTILINE)


def _described(text: str, per_unit: tuple[float, float] | None) -> tuple[float, float] | None:
    """µm/px in x and y by the description of a TIFF page, with its resolution in px per unit."""
    if text.startswith("ImageJ"):
        unit = _IMAGEJ_UNIT.search(text)
        length = UNIT_UM.get(unit[1].lower()) if unit else None
        return (length / per_unit[0], length / per_unit[1]) if length and per_unit else None
    if (spacing := _SPACING.search(text)) is not None:
        y, x = (1000 * float(value) for value in spacing.groups())
        return (x, y) if x > 0 and y > 0 else None
    for form in _DESCRIBED:
        if (found := form.search(text)) is not None and (value := _positive(found[1])) is not None:
            return value, value
    return None


def _imaged_volume(properties: Mapping[str, str]) -> tuple[float, float] | None:
    """µm/px by the size of the area that a DICOM slide shows, in mm, where it states no spacing."""
    size = _pair(properties, "dicom.ImagedVolumeWidth", "dicom.ImagedVolumeHeight")
    px = _pair(properties, "dicom.TotalPixelMatrixColumns", "dicom.TotalPixelMatrixRows")
    return (1000 * size[0] / px[0], 1000 * size[1] / px[1]) if size and px else None


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


def _check(x: float, y: float, source: MppSource, where: object) -> tuple[float, float]:
    """Both lengths, made one where they differ by rounding alone. Raises `MppError` for a mistake."""
    if not all(math.isfinite(v) and FINEST <= v <= COARSEST for v in (x, y)):
        absurd = next(v for v in (x, y) if not (math.isfinite(v) and FINEST <= v <= COARSEST))
        raise MppError(
            f"{absurd:.4g} µm/px (from the {SOURCES[source]}) is outside {FINEST:g}-{COARSEST:g} µm/px",
            where=where,
            fix=FIX,
        )
    if not _alike(x, y, MOST_OBLONG):
        raise MppError(
            f"pixels of {x:.4g} x {y:.4g} µm (from the {SOURCES[source]}) are no pixels of a microscope",
            where=where,
            fix=FIX,
        )
    return ((x + y) / 2,) * 2 if _alike(x, y, 1 + ROUNDING + 1e-9) else (x, y)
