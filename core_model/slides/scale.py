"""Micrometres per pixel at level 0: what the file states, what the user says, and where they contradict."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from core_model.errors import MppError
from core_model.slides.box import magnification

MppSource = Literal["property", "tiff-resolution", "user"]

FINEST, COARSEST = 0.05, 20.0
"""µm/px that a microscope slide can have; outside, the figure is a mistake (72 dpi is 353 µm/px)."""

MAX_ANISOTROPY = 0.05
"""Largest relative difference between x and y, or between two statements, that is taken for rounding."""

MAX_OBJECTIVE = 1.5
"""Largest factor between a stated magnification and that of the µm/px: 20x is scanned at 0.4 to 0.6 µm/px."""

ADAPTED = ("mirax", "zeiss")
"""Vendors that state the objective alone; their camera adapters magnify further, by 1.6 and more."""

UNIT_UM = {"inch": 25400.0, "centimeter": 10000.0}

FIX = "Give the slide's true value with --mpp, for example --mpp 0.5 for a 20x scan"


@dataclass(frozen=True)
class Scale:
    """The scale of a slide, with its source and whatever speaks against it."""

    mpp: float
    """µm per level-0 px."""
    source: MppSource
    warnings: tuple[str, ...] = ()
    """One sentence for each contradiction, without the slide's name."""


def find_scale(
    properties: Mapping[str, str], user: float | None, override: float | None, where: object
) -> Scale:
    """The slide's µm/px at level 0: the override, the property, the TIFF resolution, or the user's word.

    `user` stands only where the file states no usable value. Raises `MppError` where there is no value, or
    the one found lies outside 0.05-20 µm/px or differs between x and y by more than 5 %.
    """
    if override is not None:
        return _with_objective(_check(override, override, "user", where), "user", properties)
    stated = _stated(properties)
    if user is None:
        if stated is None:
            raise MppError("the slide does not say its micrometres per pixel", where=where, fix=FIX)
        return _with_objective(_check(*stated, where), _SOURCES[stated[2]], properties)
    given = _check(user, user, "user", where)
    try:
        value = _check(*stated, where) if stated is not None else None
    except MppError:
        value = None  # an absurd statement is none
    if value is None or stated is None:
        return _with_objective(given, "user", properties)
    scale = _with_objective(value, _SOURCES[stated[2]], properties)
    return scale if _alike(value, given, 1 + MAX_ANISOTROPY) else _contradicted(scale, given)


def _contradicted(scale: Scale, given: float) -> Scale:
    said = (
        f"The file states {scale.mpp:.4g} µm/px, which is used; --mpp {given:g} is not."
        f" To overrule the file, give --mpp-override {given:g}."
    )
    return Scale(scale.mpp, scale.source, (*scale.warnings, said))


def _with_objective(mpp: float, source: MppSource, properties: Mapping[str, str]) -> Scale:
    """The scale, with a warning where the stated magnification is another."""
    power = _positive(properties.get("openslide.objective-power"))
    if power is None or properties.get("openslide.vendor") in ADAPTED:
        return Scale(mpp, source)
    if _alike(power, magnification(mpp), MAX_OBJECTIVE):
        return Scale(mpp, source)
    said = (
        f"The file states a magnification of {power:g}x, but {mpp:.4g} µm/px is {magnification(mpp):.3g}x."
        f" Sizes and resolutions go by {mpp:.4g} µm/px; if that is wrong, give the true value with"
        " --mpp-override."
    )
    return Scale(mpp, source, (said,))


def _alike(a: float, b: float, factor: float) -> bool:
    return max(a, b) <= factor * min(a, b)


_SOURCES: dict[str, MppSource] = {"slide's metadata": "property", "TIFF resolution": "tiff-resolution"}


def _stated(properties: Mapping[str, str]) -> tuple[float, float, str] | None:
    """What the file states: µm/px in x and y, and where; believable or not."""
    pair = _pair(properties, "openslide.mpp-x", "openslide.mpp-y")
    if pair is not None:
        return *pair, "slide's metadata"
    unit = UNIT_UM.get(properties.get("tiff.ResolutionUnit", "none"))
    pair = _pair(properties, "tiff.XResolution", "tiff.YResolution")
    if pair is not None and unit is not None:
        return unit / pair[0], unit / pair[1], "TIFF resolution"
    return None


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
