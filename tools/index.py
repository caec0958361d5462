"""Nearest tiles by inner product of unit vectors, on FAISS.

What is stored is the plain vectors in safetensors, and the index is rebuilt from them: FAISS's own files
can crash or worse when somebody else wrote them.

Letters: N tiles, D channels of a vector.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from core_model.errors import FeatureStoreError
from core_model.features.tiles import TileFeatures
from core_model.files import tensor_bytes, write_bytes
from core_model.slides.box import Box, tile_box

FORMAT = "giant-index-1"
SUFFIX = ".tile.safetensors"
"""Ending of a slide's index file, next to its features in a store."""


class Hit(NamedTuple):
    """A tile found."""

    row: int
    """Its row in the index."""
    box: Box
    score: float
    """Cosine similarity, in [-1, 1]."""


@dataclass(frozen=True)
class TileIndex:
    """Unit vectors of N tiles of one slide."""

    vectors: np.ndarray
    """(N, D) float32, of length 1 or 0."""
    coords: np.ndarray
    """(N, 2) int64: x, y of each tile's corner in level-0 px."""
    size: int
    """Side of a tile in level-0 px."""
    extent: tuple[int, int] | None = None
    """Width and height of the slide in level-0 px, where known; the last tiles may reach beyond."""
    mpp: float | None = None
    """µm per level-0 px; None for files of earlier versions, which did not say."""
    height: int | None = None
    """Height of a tile in level-0 px where the slide's px are not square; else None, and `size` is both."""

    @classmethod
    def build(cls, vectors: np.ndarray, tiles: TileFeatures) -> TileIndex:
        """Index `vectors` (N, D), one per tile of `tiles`, in whatever space they are."""
        if len(vectors) != len(tiles):
            raise ValueError(f"{len(vectors)} vectors for {len(tiles)} tiles")
        return cls(unit(vectors), tiles.coords, tiles.size, tiles.extent, tiles.slide_mpp, tiles.height)

    def __len__(self) -> int:
        return len(self.coords)

    def box(self, row: int) -> Box:
        """Box of the tile in `row`: its part on the slide."""
        return tile_box(self.coords[row], self.size, self.extent, self.height)

    def search(self, vector: np.ndarray, k: int, exclude: np.ndarray | None = None) -> list[Hit]:
        """The k tiles nearest to `vector` (D,), best first; fewer where there are fewer.

        `exclude` (N,) bool leaves tiles out.
        """
        import faiss

        candidates = np.flatnonzero(~exclude) if exclude is not None else np.arange(len(self))
        k = min(k, len(candidates))
        if k == 0:
            return []
        query = unit(np.asarray(vector, dtype=np.float32).reshape(1, -1))  # (1, D)
        if query.shape[1] != self.vectors.shape[1]:
            raise ValueError(f"a query of {query.shape[1]} numbers in a space of {self.vectors.shape[1]}")
        among = faiss.IDSelectorBatch(candidates.astype(np.int64))
        only = faiss.SearchParameters(sel=among)  # type: ignore[call-arg]
        scores, rows = self._index.search(query, k, params=only)
        return [
            Hit(int(row), self.box(int(row)), float(score))
            for row, score in zip(rows[0], scores[0], strict=True)
            if row >= 0
        ]

    @cached_property
    def _index(self) -> Any:
        import faiss

        index = faiss.IndexFlatIP(self.vectors.shape[1])
        index.add(self.vectors)
        return index

    def save(self, path: Path, identity: Mapping[str, str]) -> None:
        """Write vectors and places atomically; `about` says what they belong to and is checked by `load`."""
        size = [self.size] if self.height is None else [self.size, self.height]
        tensors = {"vectors": self.vectors, "coords": self.coords, "size": np.array(size)}
        if self.extent is not None:
            tensors["extent"] = np.array(self.extent)
        about = {**identity, "format": FORMAT} | ({"mpp": repr(float(self.mpp))} if self.mpp else {})
        try:
            # Not save_file: it makes files that nobody else may read, whatever the umask.
            write_bytes(path, tensor_bytes(tensors, about))
        except OSError as error:
            raise FeatureStoreError(
                f"the index cannot be written ({error.strerror or error})", where=path
            ) from error

    @classmethod
    def load(cls, path: Path, identity: Mapping[str, str] | None = None) -> TileIndex:
        """Map what `save` wrote: numbers are read from the file when they are used.

        Raises `FeatureStoreError` where it is damaged or another's.
        """
        metadata, tensors = mapped(path)
        for name in ("vectors", "coords", "size"):
            if name not in tensors:
                raise FeatureStoreError(f"it holds no {name}", where=path, fix=_FIX)
        extent = tensors.get("extent")
        for name, value in {**(identity or {}), "format": FORMAT}.items():
            if metadata.get(name) != value:
                problem = f"its {name} is {metadata.get(name)!r} where {value!r} is needed"
                raise FeatureStoreError(problem, where=path, fix=_FIX)
        vectors, coords, size = tensors["vectors"], tensors["coords"], tensors["size"]
        whole = vectors.ndim == 2 and coords.shape == (len(vectors), 2) and size.shape in ((1,), (2,))
        if not whole or vectors.dtype != np.float32 or coords.dtype != np.int64:
            raise FeatureStoreError("its arrays do not fit each other", where=path, fix=_FIX)
        if extent is not None and (extent.shape != (2,) or (extent < 1).any()):
            raise FeatureStoreError("its arrays do not fit each other", where=path, fix=_FIX)
        ends = (int(extent[0]), int(extent[1])) if extent is not None else None
        height = int(size[1]) if len(size) > 1 else None
        return cls(vectors, coords, int(size[0]), ends, _mpp(metadata, path), height)


_FIX = "Delete it; it is made again when needed"


def _mpp(metadata: Mapping[str, str], path: Path) -> float | None:
    """The resolution that a file states. Raises `FeatureStoreError` where it is none."""
    if "mpp" not in metadata:
        return None
    try:
        mpp = float(metadata["mpp"])
    except ValueError:
        mpp = math.nan
    if not (math.isfinite(mpp) and mpp > 0):
        raise FeatureStoreError(f"its mpp is {metadata['mpp']!r}", where=path, fix=_FIX)
    return mpp


def mapped(path: Path) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """Metadata and arrays of a safetensors file, mapped into memory. Raises `FeatureStoreError`."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name).numpy() for name in file.keys()}  # noqa: SIM118
            return file.metadata() or {}, tensors
    except (OSError, SafetensorError, TypeError) as error:  # TypeError: numbers that NumPy does not have
        raise FeatureStoreError(f"the file is no whole index ({error})", where=path, fix=_FIX) from error


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1, float32; rows of zeros stay zero."""
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(length > 0, length, 1.0)
