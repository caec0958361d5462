"""Tile features of a slide, in memory and on disk.

On disk: `features_<encoder>/<slide>.h5` in TRIDENT's layout (`features`, `coords`, attributes on
`coords`), which its users' tools read, plus attributes of our own that prove what the numbers belong to.
A file is written beside its place and renamed, read back only if it is whole and ours, and otherwise
done again.

Letters: N tiles, D channels of a tile feature.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import platformdirs

from core_model.atomic import replacing
from core_model.errors import FeatureStoreError
from core_model.features.tiles import EncoderIdentity, TileFeatures
from core_model.locks import held
from core_model.slides.box import Box, magnification
from core_model.slides.slide import Slide
from core_model.slides.tissue import METHOD

FORMAT = "giant-features-1"


class UnusableFile(Exception):
    """A file that is not these features of this slide, whole; the message says why."""


CACHE_VARIABLE = "GIANT_CACHE"


log = logging.getLogger(__name__)


class FeatureStore:
    """A folder of feature files."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def path(self, slide: Slide, encoder_name: str) -> Path:
        """Where features of `slide` by that encoder lie.

        TRIDENT names files by the slide's stem. Where that of another slide has it, a part of its identity
        is added, so that slides of one name do not take turns in overwriting each other.
        """

        safe = re.sub(r"[^\w.-]+", "_", encoder_name).strip("._") or "encoder"
        path = self.root / f"features_{safe}" / f"{slide.name}.h5"
        return path.with_stem(f"{slide.name}-{slide.id[:8]}") if is_of_another(path, slide) else path

    def load(self, slide: Slide, encoder: EncoderIdentity) -> TileFeatures | None:
        """The stored features; None where there are none, or what is there is not whole and ours.

        The latter is logged as a warning with the reason.
        """
        path = self.path(slide, encoder.name)
        if not path.exists():
            return None

        try:
            return read_features(path, slide, encoder)
        except UnusableFile as error:
            log.warning("%s is not used and will be redone: %s", path, error)
            return None

    def save(self, slide: Slide, encoder: EncoderIdentity, tiles: TileFeatures) -> Path:
        """Write atomically; call under `lock`. Raises `FeatureStoreError`.

        A file in the way that giant did not write is kept beside it as `<name>.foreign`.
        """

        path = self.path(slide, encoder.name)
        try:
            with replacing(path) as part:
                write_features(part, slide, encoder, tiles)
                if path.exists() and not is_ours(path):
                    path.replace(path.with_name(path.name + ".foreign"))
        except OSError as error:
            raise FeatureStoreError(f"the features cannot be written ({error})", where=path) from error
        return path

    @contextlib.contextmanager
    def lock(self, slide: Slide, encoder_name: str, wait: bool = True) -> Iterator[None]:
        """Be the only writer of one feature file. The system frees the lock when its holder dies.

        Raises `FeatureStoreError` where the lock cannot be made, or is held and `wait` is False.
        """
        path = self.path(slide, encoder_name)
        fix = f"Set {CACHE_VARIABLE} to a folder that can be written"
        with held(path.parent, wait, name=f".{path.name}.lock", error_class=FeatureStoreError, fix=fix):
            yield


def cache_folder() -> Path:
    """Where features are kept: $GIANT_CACHE, else giant/ in the user's cache folder."""
    override = os.environ.get(CACHE_VARIABLE)
    return Path(override).expanduser() if override else platformdirs.user_cache_path("giant", appauthor=False)


def write_features(path: Path, slide: Slide, encoder: EncoderIdentity, tiles: TileFeatures) -> None:
    """Write a new file at `path`; raises `OSError`."""
    with h5py.File(path, "w") as file:
        _write(file, slide, encoder, tiles, path.parent)


def read_features(path: Path, slide: Slide, encoder: EncoderIdentity) -> TileFeatures:
    """Read and check everything; raises `UnusableFile`."""
    try:
        with h5py.File(path, "r") as file:
            return _read(file, slide, encoder)
    except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise UnusableFile(str(error)) from error


def _write(
    file: h5py.File, slide: Slide, encoder: EncoderIdentity, tiles: TileFeatures, folder: Path
) -> None:
    features = np.ascontiguousarray(tiles.features, dtype=np.float32)
    coords = np.ascontiguousarray(tiles.coords, dtype=np.int64)
    file.create_dataset("features", data=features)
    dataset = file.create_dataset("coords", data=coords)
    boxes = np.array([box for box, _ in tiles.failed], dtype=np.int64).reshape(-1, 4)  # (failed tiles, 4)
    file.create_dataset("failed", data=boxes)
    reasons = [reason for _, reason in tiles.failed]
    file.create_dataset("failed_reason", data=reasons, dtype=h5py.string_dtype(), shape=(len(reasons),))
    trident = {
        "patch_size": encoder.tile_px,
        "patch_size_level0": tiles.size,
        "level0_magnification": round(magnification(slide.mpp), 2),
        "target_magnification": round(magnification(encoder.mpp), 2),
        "overlap": 0,
        "name": slide.name,
        "savetodir": str(folder),
        "level0_width": slide.width,
        "level0_height": slide.height,
    }
    ours = _identity(slide, encoder) | {"giant_digest": digest(features, coords)}
    dataset.attrs.update(trident | ours)


def _read(file: h5py.File, slide: Slide, encoder: EncoderIdentity) -> TileFeatures:
    """Everything checked against what it should be; `ValueError` says what is not."""
    attributes = dict(file["coords"].attrs)
    for name, value in _identity(slide, encoder).items():
        if name not in attributes:
            raise ValueError(f"it was not written by giant, or by another version (no {name})")
        if attributes[name] != value:
            raise ValueError(f"{name} is {attributes[name]!r} where {value!r} is needed")
    features, coords = file["features"][()], file["coords"][()]
    if features.dtype != np.float32 or features.shape != (len(coords), encoder.dim):
        raise ValueError(f"features have shape {features.shape} and type {features.dtype}")
    if coords.dtype != np.int64 or coords.shape[1:] != (2,):
        raise ValueError(f"coords have shape {coords.shape} and type {coords.dtype}")
    if attributes["giant_digest"] != digest(features, coords):
        raise ValueError("its content does not match its digest")
    reasons = file["failed_reason"].asstr()[()]
    boxes = (Box(*(int(v) for v in row)) for row in file["failed"][()])
    return TileFeatures(
        features=features,
        coords=coords,
        size=int(attributes["patch_size_level0"]),
        tile_um=encoder.tile_um,
        slide_mpp=slide.mpp,
        encoder=encoder.name,
        failed=tuple(zip(boxes, (str(r) for r in reasons), strict=True)),
    )


def _identity(slide: Slide, encoder: EncoderIdentity) -> dict[str, Any]:
    """The attributes by which a file proves that it holds these features of this slide."""
    return {
        "giant_format": FORMAT,
        "giant_slide_id": slide.id,
        "giant_slide_mpp": float(slide.mpp),
        "giant_encoder": encoder.name,
        "giant_fingerprint": encoder.fingerprint,
        "giant_tile_um": float(encoder.tile_um),
        "giant_tissue": METHOD,
        "level0_width": slide.width,
        "level0_height": slide.height,
    }


def digest(features: np.ndarray, coords: np.ndarray) -> str:
    """SHA-256 over features and places, which a file of giant records of its own content."""
    sha = hashlib.sha256(np.ascontiguousarray(features).data)
    sha.update(np.ascontiguousarray(coords).data)
    return sha.hexdigest()


def is_ours(path: Path) -> bool:
    """True where giant wrote the file, or where it is too damaged to tell and of no use to anybody."""
    try:
        with h5py.File(path, "r") as file:
            return "coords" in file and "giant_format" in file["coords"].attrs
    except OSError:
        return True


def is_of_another(path: Path, slide: Slide) -> bool:
    """True where giant wrote the file for another slide; a changed slide counts as another one."""
    try:
        with h5py.File(path, "r") as file:
            return bool(file["coords"].attrs.get("giant_slide_id", slide.id) != slide.id)
    except (OSError, KeyError):
        return False
