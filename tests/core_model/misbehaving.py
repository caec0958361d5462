"""A child that reads no file: what it does is decided by the place that it is asked for.

Started as the real child is, in its stead. The "slide" is a text file: words in it say what opening does.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from PIL import Image

CRASH, HANG, HUNGRY, GARBAGE, CONFUSED, WRITES, ABORT = range(1000, 8000, 1000)
"""Columns at which it misbehaves."""


def misbehave(x: int) -> None:
    """Do what the place x stands for; nothing elsewhere."""
    if x == CRASH:
        signal.raise_signal(signal.SIGSEGV)
    elif x == HANG:
        while True:
            pass
    elif x == HUNGRY:
        bytearray(64 << 30)
    elif x == GARBAGE:
        raise SystemError("a library was confused")
    elif x == WRITES:
        Path("written-by-a-slide").write_text("x")
    elif x == ABORT:
        os.write(2, b"GLib-ERROR: failed to allocate 123456789012 bytes\n")
        signal.raise_signal(signal.SIGABRT)


class Source:
    """8,000 px of one colour a place."""

    vendor, reader = "fake", "fake 1"
    level_dimensions = ((8_000, 8_000),)
    made_levels = ()

    def __init__(self, path: Path) -> None:
        words = path.read_text().split()
        misbehave(int(words[0]) if words else 0)
        self.properties = {"openslide.mpp-x": "0.5", "openslide.mpp-y": "0.5"}

    def tile_size(self, level: int) -> tuple[int, int]:
        return 256, 256

    def read_level(
        self, level: int, x: int, y: int, w: int, h: int
    ) -> tuple[Image.Image, tuple[float, float]]:
        misbehave(x)
        size = (w + 1, h) if x == CONFUSED else (w, h)
        return Image.new("RGB", size, (x // 256 % 256, y // 256 % 256, 7)), (0.0, 0.0)

    def close(self) -> None:
        pass


if __name__ == "__main__":
    from core_model.slides import readers
    from core_model.slides.isolation import child

    readers.open_source = Source
    child.main(sys.argv[1])
