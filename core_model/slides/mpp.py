"""Micrometres per pixel: where a slide says it, and what is believed.

A wrong scale makes every later figure wrong without a sign of it, so a missing, absurd or contradictory
value is an error that says how to give the right one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

from core_model.errors import MppError

MppSource = Literal["property", "tiff-resolution", "user"]

FINEST, COARSEST = 0.05, 20.0
"""µm/px that a microscope slide can have; outside, the figure is a mistake (72 dpi is 353 µm/px)."""

MAX_ANISOTROPY = 0.05
"""Largest relative difference between x and y that is taken for rounding."""

UNIT_UM = {"inch": 25400.0, "centimeter": 10000.0}

FIX = "Give the slide's true value with --mpp, for example --mpp 0.5 for a 20x scan"


def find_mpp(properties: Mapping[str, str], user: float | None, where: object) -> tuple[float, MppSource]:
    """The slide's µm/px at level 0 and its source: the user's word, the property, or the TIFF resolution.

    Raises `MppError` where none is given, or the one found lies outside 0.05-20 µm/px or differs between
    x and y by more than 5 %.
    """
    if user is not None:
        return _check(user, user, "user", where), "user"
    found = _pair(properties, "openslide.mpp-x", "openslide.mpp-y")
    if found is not None:
        return _check(*found, "slide's metadata", where), "property"
    unit = UNIT_UM.get(properties.get("tiff.ResolutionUnit", "none"))
    found = _pair(properties, "tiff.XResolution", "tiff.YResolution")
    if found is not None and unit is not None:
        return _check(unit / found[0], unit / found[1], "TIFF resolution", where), "tiff-resolution"
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
