"""How much of the tissue has been shown, and how closely: the share of tissue area per resolution."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from agent.text import first_upper, human_share, join_words
from core_model.errors import RunError
from core_model.slides.box import Box
from core_model.slides.tissue import TissueMask

if TYPE_CHECKING:
    from agent.run.records import Step

LEVELS = (0.5, 2.0, 8.0)
"""Resolutions reported, µm/px: cells, architecture, overview."""
SAME = 1.01
"""Two resolutions within this factor are one: scanners at 20x write .499 or .504 µm/px."""


def coverage(tissue: TissueMask, steps: Sequence[Step]) -> dict[str, float]:
    """Share of tissue area shown at each of `LEVELS` or finer; what only the model read was not shown."""
    looks = [
        (step.observation.box, step.observation.mpp)
        for step in steps
        if step.observation.image is not None and step.observation.box and step.observation.mpp
    ]
    return {
        str(level): round(tissue.covered(box for box, mpp in looks if mpp <= level * SAME), 4)
        for level in LEVELS
    }


def coverage_in_words(shares: Mapping[str, float]) -> str:
    """The coverage as a sentence with percentages, coarsest resolution first.

    Of resolutions with the same share only the finest is named, and the coarsest where nothing was shown.
    """
    if not shares:
        return "How much of the tissue was shown is not known."
    mpp_by_share: dict[float, float] = {}
    for mpp, share in sorted(shares.items(), key=lambda item: -float(item[0])):
        mpp_by_share[share] = max(float(mpp), mpp_by_share.get(share, 0.0)) if share == 0 else float(mpp)
    parts = [f"{human_share(share)} at {mpp:g} µm/px or finer" for share, mpp in mpp_by_share.items()]
    parts[0] = parts[0].replace(" at ", " was shown at ", 1)
    return f"Of the tissue, {join_words(parts)}."


def blurred_in_words(share: float | None, asked: bool) -> str | None:
    """How much of the tissue is out of focus, as a sentence; None where nothing is, or it was not measured.

    With `asked` the answer is that of a model which was asked about the rest.
    """
    if not share:
        return None
    text = f"{human_share(share)} of the tissue is out of focus"
    return first_upper(f"{text} and was not asked about." if asked else f"{text}.")


def packed(mask: TissueMask) -> dict[str, Any]:
    """The mask as JSON values."""
    return {
        "shape": list(mask.mask.shape),
        "tissue": _bits(mask.mask),
        "unknown": _bits(mask.unknown),
        "mpp": float(mask.mpp),
        "slide_box": list(mask.slide_box),
        "slide_mpp": float(mask.slide_mpp),
        "extent": None if mask.extent is None else [float(side) for side in mask.extent],
    }


def unpacked(payload: dict[str, Any]) -> TissueMask:
    """The tissue mask from what `packed` made of it. Raises `RunError` where the payload is malformed."""
    try:
        height, width = payload["shape"]
        tissue, unknown = (_mask(payload[name], height, width) for name in ("tissue", "unknown"))
        box, sides = Box(*payload["slide_box"]), payload.get("extent")  # older journals have none
        across, down = sides or (box.w, box.h)
        extent = None if sides is None else (float(across), float(down))
        return TissueMask(tissue, unknown, payload["mpp"], box, payload["slide_mpp"], extent)
    except (KeyError, TypeError, ValueError, zlib.error) as error:
        raise RunError(f"the journal holds no readable tissue mask ({error})") from error


def _bits(mask: np.ndarray) -> str:
    return base64.b64encode(zlib.compress(np.packbits(mask).tobytes(), 9)).decode("ascii")


def _mask(bits: str, height: int, width: int) -> np.ndarray:
    """Bool (H, W)."""
    size = (height * width + 7) // 8
    flat = np.frombuffer(zlib.decompressobj().decompress(base64.b64decode(bits), size), dtype=np.uint8)
    if len(flat) != size:
        raise ValueError(f"{len(flat)} bytes for {height} x {width} pixels")
    return np.unpackbits(flat, count=height * width).reshape(height, width).astype(bool)
