"""Decoded tiles: kept while there is room, decoded by one thread for all, and put together to rectangles."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future

import numpy as np

from core_model.slides.sources import DecodeError

CACHE_BYTES = 96 << 20
"""Decoded tiles kept: two rows of tiles of 512 px, 32,768 px wide."""

Key = tuple[int, int, int]
"""Level, factor and number of a tile."""


class TileCache:
    """Decoded tiles, the latest used up to `most` bytes. Two threads never decode the same tile at once."""

    def __init__(self, most: int = CACHE_BYTES) -> None:
        self._most, self._held = most, 0
        self._tiles: OrderedDict[Key, Future[np.ndarray]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Key, decode: Callable[[], np.ndarray]) -> np.ndarray:
        """The tile of that key, decoded now where it is not here. Raises what `decode` raises, each time."""
        with self._lock:
            found = self._tiles.get(key)
            if found is not None:
                self._tiles.move_to_end(key)
            else:
                mine = self._tiles[key] = Future()
        if found is not None:
            return found.result()
        try:
            pixels = decode()
        except BaseException as error:
            with self._lock:
                self._tiles.pop(key, None)
            mine.set_exception(error)
            raise
        with self._lock:
            self._held += pixels.nbytes
            mine.set_result(pixels)
            self._evict()
        return pixels

    def clear(self) -> None:
        """Forget all that is decoded."""
        with self._lock:
            self._tiles = OrderedDict((key, tile) for key, tile in self._tiles.items() if not tile.done())
            self._held = 0

    def _evict(self) -> None:
        """Drop the tiles that were used longest ago; those being decoded are put behind the others."""
        for _ in range(len(self._tiles)):
            if self._held <= self._most:
                return
            key, tile = self._tiles.popitem(last=False)
            if tile.done():
                self._held -= tile.result().nbytes
            else:
                self._tiles[key] = tile


def assembled(
    box: tuple[int, int, int, int],
    size: tuple[int, int],
    tile: tuple[int, int],
    get: Callable[[int, int], np.ndarray],
) -> np.ndarray:
    """Pixels (h, w, 3) uint8 of a rectangle x, y, w, h of a level of `size` in tiles of size `tile`.

    `get` gives the tile of a column and a row, or what of it lies on the level. The result may be a part
    of a kept tile: it is not to be written to. Raises `DecodeError` where the rectangle leaves the level.
    """
    (x, y, w, h), (tile_w, tile_h) = box, tile
    if x < 0 or y < 0 or x + w > size[0] or y + h > size[1]:
        raise DecodeError(f"the rectangle leaves its level of {size[0]} x {size[1]} px")
    canvas: np.ndarray | None = None
    for row in range(y // tile_h, (y + h - 1) // tile_h + 1):
        for column in range(x // tile_w, (x + w - 1) // tile_w + 1):
            left, top = column * tile_w, row * tile_h
            x0, y0 = max(x, left), max(y, top)
            x1, y1 = min(x + w, left + tile_w), min(y + h, top + tile_h)
            part = get(column, row)[y0 - top : y1 - top, x0 - left : x1 - left]
            if part.shape[:2] == (h, w):
                return part
            if canvas is None:
                canvas = np.empty((h, w, 3), dtype=np.uint8)
            canvas[y0 - y : y1 - y, x0 - x : x1 - x] = part
    if canvas is None:
        raise DecodeError("the rectangle has no area")
    return canvas
