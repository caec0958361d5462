"""Segments on disk: the arrays of bounds or of an inverted file, in a file named by its digest."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from core_model.errors import FeatureStoreError
from core_model.files import replacing
from tools.cohort.bounds import Bounds, blocks
from tools.cohort.ivf import Inverted
from tools.cohort.manifest import ADVICE, FOLDER, Segment, checked, sha256_of
from tools.index import mapped

FORMAT = "giant-segment-1"
ABOUT = "about"
"""The one entry of a file's metadata: several are written in an order that changes from call to call."""
TYPES = {
    "rotation": np.float64, "head": np.int8, "tail": np.int8, "rest": np.float32, "steps": np.float64,
    "errors": np.float64, "longest": np.float64, "centroids": np.float32, "codebooks": np.float32,
    "codes": np.uint8, "rows": np.int64, "sizes": np.int64,
}  # fmt: skip


def save_segment(folder: Path, content: Bounds | Inverted) -> tuple[str, str]:
    """Write a segment of the slides in `folder`; gives its name and digest. Raises `FeatureStoreError`."""
    from safetensors.numpy import save_file

    kind = kind_of(content)
    values = {field.name: getattr(content, field.name) for field in fields(content)}
    arrays = {name: np.ascontiguousarray(value) for name, value in values.items() if name in TYPES}
    about = {name: value for name, value in values.items() if name not in TYPES}
    about = {"format": FORMAT, "kind": kind, **about}
    try:
        with replacing(folder / FOLDER / f"{kind}.new") as part:
            save_file(arrays, part, metadata={ABOUT: json.dumps(about, sort_keys=True)})
            digest = sha256_of(part)
        name = f"{kind}-{digest[:16]}.safetensors"
        (folder / FOLDER / f"{kind}.new").replace(folder / FOLDER / name)
    except OSError as error:
        raise FeatureStoreError(
            f"the index cannot be written ({error.strerror or error})", where=folder / FOLDER
        ) from error
    return name, digest


def load_segment(folder: Path, segment: Segment) -> Bounds | Inverted:
    """Map a segment of the slides in `folder`. Raises `FeatureStoreError` where it is damaged."""
    path = checked(folder / FOLDER / segment.file, segment.sha256)
    metadata, arrays = mapped(path)
    kind: type[Bounds | Inverted] = Bounds if segment.kind == "bounds" else Inverted
    wanted = [field.name for field in fields(kind)]
    try:
        about = json.loads(metadata[ABOUT])
        numbers: dict[str, Any] = {name: int(about[name]) for name in wanted if name not in TYPES}
        values: dict[str, Any] = {name: arrays[name] for name in wanted if name in TYPES}
        content = kind(**values, **numbers)
    except (KeyError, TypeError, ValueError) as error:
        raise FeatureStoreError(f"it is no such segment ({error})", where=path, fix=ADVICE) from error
    typed = all(arrays[name].dtype == TYPES[name] for name in wanted if name in TYPES)
    whole = _fits_bounds(content) if isinstance(content, Bounds) else _fits_inverted(content)
    if about.get("format") != FORMAT or not typed or not whole or rows_of(content) != segment.rows:
        raise FeatureStoreError("its arrays do not fit each other", where=path, fix=ADVICE)
    return content


def kind_of(content: Bounds | Inverted) -> str:
    """The kind of a segment, as the manifest has it."""
    return "bounds" if isinstance(content, Bounds) else "ivf"


def rows_of(content: Bounds | Inverted) -> int:
    """The rows that a segment covers."""
    return len(content.head) if isinstance(content, Bounds) else len(content.rows)


def _fits_bounds(bounds: Bounds) -> bool:
    rows, channels = len(bounds.head), len(bounds.rotation)
    count = len(list(blocks(rows)))
    flat = (bounds.rotation.ndim, bounds.head.ndim, bounds.tail.ndim) == (2, 2, 2)
    return (
        flat
        and bounds.rotation.shape[1] == channels
        and bounds.head.shape[1] + bounds.tail.shape[1] == channels
        and (len(bounds.tail), bounds.rest.shape) == (rows, (rows,))
        and {array.shape for array in (bounds.steps, bounds.errors, bounds.longest)} == {(count, 2)}
    )


def _fits_inverted(index: Inverted) -> bool:
    if (index.centroids.ndim, index.codebooks.ndim, index.codes.ndim, index.sizes.ndim) != (2, 3, 2, 1):
        return False
    (lists, channels), (parts, words, part) = index.centroids.shape, index.codebooks.shape
    rows = len(index.codes)
    return (
        (words, parts * part, index.codes.shape[1]) == (256, channels, parts)
        and (index.sizes.shape, index.rows.shape) == ((lists,), (rows,))
        and bool((index.sizes >= 0).all())
        and int(index.sizes.sum()) == rows
        and np.array_equal(np.sort(index.rows), np.arange(rows))
        and 1 <= index.probes <= lists
        and index.depth >= 1
    )
