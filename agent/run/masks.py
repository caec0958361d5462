"""A tissue mask as a journal keeps it: one bit a pixel, compressed, in text."""

from __future__ import annotations

import base64
import zlib
from typing import Any

import numpy as np

from core_model.errors import RunError
from core_model.slides.box import Box
from core_model.slides.tissue import TissueMask


def packed(mask: TissueMask) -> dict[str, Any]:
    """The mask as JSON values."""
    return {
        "shape": list(mask.mask.shape),
        "tissue": _bits(mask.mask),
        "unknown": _bits(mask.unknown),
        "mpp": float(mask.mpp),
        "slide_box": list(mask.slide_box),
        "slide_mpp": float(mask.slide_mpp),
    }


def unpacked(kept: dict[str, Any]) -> TissueMask:
    """The mask that `packed` was given. Raises `RunError` where it is none."""
    try:
        height, width = kept["shape"]
        tissue, unknown = (_mask(kept[name], height, width) for name in ("tissue", "unknown"))
        return TissueMask(tissue, unknown, kept["mpp"], Box(*kept["slide_box"]), kept["slide_mpp"])
    except (KeyError, TypeError, ValueError, zlib.error) as error:
        raise RunError(f"its journal holds no readable tissue mask ({error})") from error


def _bits(mask: np.ndarray) -> str:
    return base64.b64encode(zlib.compress(np.packbits(mask).tobytes(), 9)).decode("ascii")


def _mask(bits: str, height: int, width: int) -> np.ndarray:
    """Bool (H, W)."""
    size = (height * width + 7) // 8
    flat = np.frombuffer(zlib.decompressobj().decompress(base64.b64decode(bits), size), dtype=np.uint8)
    if len(flat) != size:
        raise ValueError(f"{len(flat)} bytes for {height} x {width} pixels")
    return np.unpackbits(flat, count=height * width).reshape(height, width).astype(bool)
