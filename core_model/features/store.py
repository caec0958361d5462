"""Tile features of a slide, in memory and on disk.

On disk: `features_<encoder>/<slide>.h5` in TRIDENT's layout (`features`, `coords`, attributes on
`coords`), which its users' tools read, plus attributes of our own that prove what the numbers belong to.
A file is made in memory, since HDF5 crashes on a disk that fills up, written beside its place and renamed.
It is read back only if it is whole and ours, and otherwise done again. Only what is proved to be ours is
replaced.

Letters: N tiles, D channels of a tile feature.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import platformdirs

from core_model.errors import FeatureStoreError, printable
from core_model.features.grid import TileGrid
from core_model.features.h5 import UNREADABLE, open_h5, whole
from core_model.features.tiles import EncoderIdentity, SlideIdentity, TileFeatures
from core_model.features.unfinished import Unfinished
from core_model.files import READ_ONLY, held, leftovers, place_of, write_bytes
from core_model.slides.box import Box, magnification
from core_model.slides.tissue import METHOD

FORMAT = "giant-features-1"


class UnusableFile(Exception):
    """A file that is not these features of this slide, whole; the message says why."""


CACHE_VARIABLE = "GIANT_CACHE"

HEIGHT = "giant_tile_height_level0"
"""Attribute with the height of tiles, px; only of slides whose px are not square."""

log = logging.getLogger(__name__)


class FeatureStore:
    """A folder of feature files.

    `kept`: whoever asks needs the files. Otherwise (a cache) features that cannot be kept because the place
    is read-only are used from memory, with a warning.
    """

    def __init__(self, root: str | Path, kept: bool = True) -> None:
        self.root, self.kept = Path(root), kept

    def path(self, slide: SlideIdentity, encoder_name: str) -> Path:
        """Where features of `slide` by that encoder lie.

        TRIDENT names files by the slide's stem. Where that of another slide has it, or a file of which
        nobody can tell whose it is, a part of the slide's identity is added, so that nothing is overwritten.
        """

        path = self.root / folder_of(encoder_name) / f"{slide.name}.h5"
        return path.with_stem(f"{path.stem}-{slide.id[:8]}") if _is_taken(path, slide) else path

    def load(self, slide: SlideIdentity, encoder: EncoderIdentity) -> TileFeatures | None:
        """The stored features; None where there are none, or what is there is not whole and ours.

        The latter is logged as a warning with the reason.
        """
        path = self.path(slide, encoder.name)
        if not path.exists():
            first = path.with_stem(slide.name)
            if path != first:
                why = why_unreadable(first) or _ANOTHER
                log.warning(
                    "%s is left alone, and its features will be redone in %s: %s", first, path.name, why
                )
            return None

        try:
            return read_features(path, slide, encoder)
        except UnusableFile as error:
            log.warning("%s is not used and will be redone: %s", path, error)
            return None

    def save(self, slide: SlideIdentity, encoder: EncoderIdentity, tiles: TileFeatures) -> Path:
        """Write atomically; call under `lock`. Raises `FeatureStoreError`.

        A file in the way that giant did not write is kept beside it as `<name>.foreign`.
        """

        path = self.path(slide, encoder.name)
        if why := why_unreadable(path):
            raise FeatureStoreError(
                f"a file in the way is left alone ({why})", where=path, fix="Move it away"
            )
        content = feature_file(slide, encoder, tiles, path.parent)
        try:
            if path.exists() and not is_ours(path):
                path.replace(path.with_name(path.name + ".foreign"))
            write_bytes(path, content)
        except OSError as error:
            raise FeatureStoreError(
                f"the features cannot be written ({error.strerror or error})", where=path, fix=_FIX
            ) from error
        return path

    @contextlib.contextmanager
    def lock(self, slide: SlideIdentity, encoder_name: str, wait: bool = True) -> Iterator[bool]:
        """Be the only writer of one feature file. The system frees the lock when its holder dies.

        Yields whether the file can be written: False, after a warning, for a store that is read-only and
        need not be `kept`. Raises `FeatureStoreError` where the lock cannot be made, or is held and `wait` is
        False.
        """
        while True:
            path = self.path(slide, encoder_name)
            lock = held(path.parent, wait, name=f".{path.name}.lock", error_class=FeatureStoreError, fix=_FIX)
            with contextlib.ExitStack() as stack:
                try:
                    stack.enter_context(lock)
                except FeatureStoreError as error:
                    if not self.spares(error):
                        raise
                    yield False
                    return
                if self.path(slide, encoder_name) != path:
                    continue  # whoever held it wrote features of another slide of this name
                yield True
                return

    def unfinished(
        self, slide: SlideIdentity, encoder: EncoderIdentity, grid: TileGrid, how: str
    ) -> Unfinished:
        """Where steps of these features are kept until all are done; use it under `lock`.

        `how` they are computed: steps that were computed in another way are not taken.
        """
        subject = _identity(slide, encoder) | {"dim": encoder.dim, "grid": grid.digest, "how": how}
        return Unfinished(self._unfinished(slide, encoder.name), subject, _FIX)

    def tidy(self, slide: SlideIdentity, encoder_name: str) -> None:
        """Remove what a killed process left beside the features, unless another one is at work there."""
        path = self.path(slide, encoder_name)
        remains = [
            path for path in (self._unfinished(slide, encoder_name), *leftovers(path)) if path.exists()
        ]
        if not remains:
            return
        try:
            with self.lock(slide, encoder_name, wait=False):
                for remain in remains:
                    remain.unlink(missing_ok=True)
        except (FeatureStoreError, OSError) as error:
            log.info("%s: unfinished work is left there (%s)", path.parent, error)

    def _unfinished(self, slide: SlideIdentity, encoder_name: str) -> Path:
        folder = self.path(slide, encoder_name).parent
        return folder / f".{slide.name}-{slide.id[:8]}.unfinished"

    def spares(self, error: FeatureStoreError) -> bool:
        """Whether work goes on, after a warning, where a file could not be written because of `error`."""
        spared = not self.kept and isinstance(error.__cause__, OSError) and error.__cause__.errno in READ_ONLY
        if spared:
            log.warning("%s This time it is kept in memory only.", error)
        return spared


_FIX = f"Set {CACHE_VARIABLE} to a folder that can be written"

_ANOTHER = (
    "it holds those of another slide, of this one before it changed, or of an earlier version of giant, which"
    " knew slides by another identity"
)


def cache_folder() -> Path:
    """Where features are kept: $GIANT_CACHE, else giant/ in the user's cache folder.

    Raises `UsageError` where $GIANT_CACHE is in a home that there is not, `FeatureStoreError` where it is not
    set and the user has no home.
    """
    override = os.environ.get(CACHE_VARIABLE)
    if override:
        return place_of(override, CACHE_VARIABLE)
    try:
        return platformdirs.user_cache_path("giant", appauthor=False)
    except RuntimeError as error:
        raise FeatureStoreError("this user has no home folder to keep features in", fix=_FIX) from error


def folder_of(encoder_name: str) -> str:
    """The folder of an encoder's features in a store, which is TRIDENT's too."""
    safe = re.sub(r"[^\w.-]+", "_", encoder_name).strip("._") or "encoder"
    return f"features_{safe}"


def feature_file(
    slide: SlideIdentity, encoder: EncoderIdentity, tiles: TileFeatures, folder: Path
) -> memoryview:
    """The bytes of a file of these features that will lie in `folder`."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        _write(file, slide, encoder, tiles, folder)
    return buffer.getbuffer()


def read_features(path: Path, slide: SlideIdentity, encoder: EncoderIdentity) -> TileFeatures:
    """Read and check everything; raises `UnusableFile`."""
    try:
        with open_h5(path) as file:
            return _read(file, slide, encoder)
    except UNREADABLE as error:
        raise UnusableFile(str(error)) from error


def _write(
    file: h5py.File, slide: SlideIdentity, encoder: EncoderIdentity, tiles: TileFeatures, folder: Path
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
        "overlap": round(tiles.overlap * encoder.tile_px / tiles.size),
        "name": slide.name,
        "savetodir": printable(str(folder) if slide.alias is None else folder.name),
        "level0_width": slide.width,
        "level0_height": slide.height,
    }
    if tiles.height is not None:
        trident[HEIGHT] = tiles.height
    ours = _identity(slide, encoder) | {"giant_digest": digest(features, coords)}
    dataset.attrs.update(trident | ours)


def _read(file: h5py.File, slide: SlideIdentity, encoder: EncoderIdentity) -> TileFeatures:
    """Everything checked against what it should be; `ValueError` says what is not."""
    attributes = dict(file["coords"].attrs)
    for name, value in _identity(slide, encoder).items():
        if name not in attributes:
            raise ValueError(f"it was not written by giant, or by another version (no {name})")
        if attributes[name] != value:
            raise ValueError(f"{name} is {attributes[name]!r} where {value!r} is needed")
    features, coords = whole(file, "features")[()], whole(file, "coords")[()]
    if features.dtype != np.float32 or features.shape != (len(coords), encoder.dim):
        raise ValueError(f"features have shape {features.shape} and type {features.dtype}")
    if coords.dtype != np.int64 or coords.shape[1:] != (2,):
        raise ValueError(f"coords have shape {coords.shape} and type {coords.dtype}")
    if attributes["giant_digest"] != digest(features, coords):
        raise ValueError("its content does not match its digest")
    reasons = whole(file, "failed_reason").asstr()[()]
    boxes = (Box(*(int(v) for v in row)) for row in whole(file, "failed")[()])
    return TileFeatures(
        features=features,
        coords=coords,
        size=int(attributes["patch_size_level0"]),
        tile_um=encoder.tile_um,
        slide_mpp=slide.mpp,
        encoder=encoder.name,
        failed=tuple(zip(boxes, (str(r) for r in reasons), strict=True)),
        extent=(slide.width, slide.height),
        height=int(attributes[HEIGHT]) if HEIGHT in attributes else None,
        overlap=float(attributes["overlap"]) * int(attributes["patch_size_level0"]) / encoder.tile_px,
    )


def _identity(slide: SlideIdentity, encoder: EncoderIdentity) -> dict[str, Any]:
    """The attributes by which a file proves that it holds these features of this slide."""
    return {
        "giant_format": FORMAT,
        "giant_slide_id": slide.id,
        "giant_slide_mpp": float(slide.mpp),
        "giant_encoder": encoder.name,
        "giant_fingerprint": encoder.fingerprint,
        "giant_tile_um": float(encoder.tile_um),
        "giant_tissue": getattr(encoder, "tissue", METHOD),  # another tool chose the tiles it encoded
        "level0_width": slide.width,
        "level0_height": slide.height,
    }


def digest(features: np.ndarray, coords: np.ndarray) -> str:
    """SHA-256 over features and places, which a file of giant records of its own content."""
    sha = hashlib.sha256(np.ascontiguousarray(features).data)
    sha.update(np.ascontiguousarray(coords).data)
    return sha.hexdigest()


def is_ours(path: Path) -> bool:
    """True where giant wrote the file."""
    return "giant_format" in _says(path)


def why_unreadable(path: Path) -> str | None:
    """Why a file cannot be told: damaged, or in use by another program. None where it can, or is missing."""
    try:
        _says(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        return str(error)
    return None


def _is_taken(path: Path, slide: SlideIdentity) -> bool:
    """True where a file is there that giant wrote for another slide, or nobody can tell.

    A changed slide counts as another one.
    """
    try:
        return bool(_says(path).get("giant_slide_id", slide.id) != slide.id)
    except FileNotFoundError:
        return False
    except OSError:
        return True


def _says(path: Path) -> dict[str, Any]:
    """The attributes of a file's places, none where it has no places. Raises `OSError`."""
    with open_h5(path) as file:
        try:
            return dict(file["coords"].attrs) if isinstance(file.get("coords"), h5py.Dataset) else {}
        except (KeyError, RuntimeError, ValueError, TypeError) as error:
            raise OSError(f"its attributes cannot be read ({error})") from error
