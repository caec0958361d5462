"""Fluorescence, known by what a file says of its channels: no question about a stained section fits it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from core_model.errors import SlideError

_DYES = re.compile(
    r"(?<![A-Za-z0-9])(?:DAPI|FITC|TRITC|Hoechst|Rhodamine|Alexa ?Fluor|AF\d{3}|Cy[357](?:\.5)?|Opal ?\d{3}"
    r"|Texas ?Red|GFP|mCherry|SYTO ?\d+)(?![A-Za-z])",
    re.IGNORECASE,
)
_CHANNEL = re.compile(r'<Channel\b[^>]*\bName="([^"]*)"|<(?:Name|Biomarker)>([^<]{0,200})</', re.IGNORECASE)
_LIGHT = re.compile(r'IlluminationType="Epifluorescence"|<Biomarker>\s*[^<\s]', re.IGNORECASE)
_WAVE = re.compile(r'<Channel\b[^>]*\b(?:Emission|Excitation)Wavelength="', re.IGNORECASE)

EPIFLUORESCENCE = "111743"
"""DICOM's code of epifluorescence illumination."""


def check_bright_field(text: str, where: object, rgb: bool) -> None:
    """Raise `SlideError` where the description of a TIFF says that its channels are of fluorescence.

    `rgb`: whether a pixel has red, green and blue. Wavelengths are then those of a camera.
    """
    names = (name or other for name, other in _CHANNEL.findall(text))
    dyed = any(_DYES.search(name) for name in names)
    if dyed or _LIGHT.search(text) or (not rgb and _WAVE.search(text)):
        raise _fluorescent(where)


def check_properties(properties: Mapping[str, str], where: object) -> None:
    """Raise `SlideError` where the properties of an open slide say that it is fluorescence."""
    check_bright_field(properties.get("tiff.ImageDescription", ""), where, rgb=True)
    for name, value in properties.items():
        coded = name.endswith("CodeValue") and value == EPIFLUORESCENCE
        named = name.startswith(("zeiss.", "czi.")) and name.endswith((".Fluor", ".DyeName")) and value
        if ("IlluminationType" in name and coded) or named:
            raise _fluorescent(where)


def _fluorescent(where: object) -> SlideError:
    return SlideError(
        "its channels are of fluorescence, as the file says: it is no bright-field scan",
        where=where,
        fix="Give a scan of a stained section, such as H&E",
    )
