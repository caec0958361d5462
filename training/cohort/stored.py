"""Tile features and slide tokens that stay on disk until they are looked at.

Ten thousand slides of ten thousand tiles of Prov-GigaPath are 600 GB: places and counts are kept in memory,
features are read slide by slide, the last ones read are remembered.

Letters: N tiles, D channels of a tile, P slides, n slide tokens, C channels of a slide token.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from core_model.features.tiles import TileFeatures

REMEMBERED = 2 << 30
"""Bytes of features that are remembered, all slides together."""


class LazyRows:
    """A float32 matrix (N, D) on disk that numpy takes for an array; `read` gives it whole."""

    ndim, dtype = 2, np.dtype(np.float32)

    def __init__(self, reader: Callable[[], np.ndarray], shape: tuple[int, int], memory: Memory) -> None:
        self._read, self.shape, self._memory = reader, shape, memory

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self._memory.get(self, self._read), dtype=dtype, copy=copy)

    def __getitem__(self, key: Any) -> np.ndarray:
        return self._memory.get(self, self._read)[key]


class Memory:
    """The matrices read last, up to a number of bytes."""

    def __init__(self, limit: int = REMEMBERED) -> None:
        self.limit, self._held = limit, OrderedDict()  # type: int, OrderedDict[object, np.ndarray]

    def get(self, owner: object, reader: Callable[[], np.ndarray]) -> np.ndarray:
        """The owner's matrix, read where it is not remembered."""
        matrix = self._held.pop(owner, None)
        self._held[owner] = matrix = reader() if matrix is None else matrix
        while len(self._held) > 1 and sum(rows.nbytes for rows in self._held.values()) > self.limit:
            self._held.popitem(last=False)
        return matrix


def stored_features(
    paths: Mapping[str, Path],
    *,
    mpp: float | None = None,
    size: int | None = None,
    memory: Memory | None = None,
) -> dict[str, TileFeatures]:
    """Features of each slide whose matrix is read, and checked, when it is used.

    Places are read now. `mpp` and `size` where the files do not say them. Raises what `read_slide_features`
    raises.
    """
    from core_model.features.foreign import read_slide_features

    memory = memory or Memory()
    features = {}
    for name, path in paths.items():
        places = read_slide_features(path, mpp=mpp, size=size, values=False)
        shape = (len(places), places.features.shape[1])
        reader = partial(_values, path, mpp, size)
        rows = LazyRows(reader, shape, memory)
        features[name] = replace(places, features=cast(np.ndarray, rows))
    return features


def _values(path: Path, mpp: float | None, size: int | None) -> np.ndarray:
    from core_model.features.foreign import read_slide_features

    return read_slide_features(path, mpp=mpp, size=size).features


class TokenFiles:
    """Slide tokens of P slides, one file each, read when they are asked for."""

    def __init__(self, paths: Iterable[Path], n: int, channels: int) -> None:
        self.paths, self.n, self.channels = tuple(paths), n, channels

    def __getitem__(self, rows: Sequence[int]) -> Tensor:
        """(b, n, C) float32 of the slides at these positions."""
        from core_model.features.slide_tokens import read_slide_tokens

        return torch.stack([read_slide_tokens(self.paths[i], self.n, self.channels) for i in rows])


class TokenMatrix:
    """Slide tokens (P, n, C) in one .npy file, mapped into memory: processes of a machine share it."""

    def __init__(self, path: Path) -> None:
        self._rows = np.load(path, mmap_mode="r", allow_pickle=False)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, rows: Sequence[int]) -> Tensor:
        """(b, n, C) float32 of these rows."""
        return torch.from_numpy(np.asarray(self._rows[list(rows)], dtype=np.float32))
