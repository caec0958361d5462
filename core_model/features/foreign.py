"""Tile features that other tools have computed: TRIDENT's, CLAM's and AtlasPatch's H5 files, of any encoder.

The first two hold `features` (N, D) and `coords`; AtlasPatch holds `features/<encoder>` for one or several.
What is said of the coordinates, and by whom, stands in `places.py`. TRIDENT says the magnification, from
which µm per pixel follow; CLAM says nothing of the scale.
Letters: N tiles, D channels of a tile.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from core_model.errors import FeatureStoreError
from core_model.features.h5 import UNREADABLE, open_h5, whole
from core_model.features.places import coords_in, matrix, number, places_of, says_of
from core_model.features.store import digest
from core_model.features.tiles import TileFeatures
from core_model.slides.box import Box

FOLDER = "features_"
"""TRIDENT's folder of one encoder is called this and the encoder's name."""


def read_slide_features(
    path: str | Path,
    *,
    mpp: float | None = None,
    size: int | None = None,
    encoder: str | None = None,
    values: bool = True,
) -> TileFeatures:
    """The tile features of one slide from a TRIDENT, CLAM, AtlasPatch or giant file, checked whole.

    Without `values` the features themselves stay unread and unchecked: they are (N, D) of nan, in no memory.

    `features` may be (N, D) or (1, N, D), of any floating type, and come back as float32; `coords` are whole
    numbers. Where a file holds features of several encoders, `encoder` says which, else the
    folder's name.

    µm per level-0 px are `mpp` where given, else what giant wrote, else 10 / `level0_magnification`
    (TRIDENT): the nominal scale, a few per cent off for some scanners. CLAM's files do not say it.
    The side of a tile in level-0 px is `size` where given, else `patch_size_level0` (TRIDENT), else
    `patch_size` × `downsample` (CLAM). The encoder's name is giant's attribute, else the folder's name.

    Raises `FeatureStoreError`, one line, where the file is missing, damaged or holds anything else, lies in
    other files, or contradicts itself: places twice, or closer than its tiles allow.
    """
    path = Path(path)
    if not path.is_file():
        raise FeatureStoreError("there is no such file of tile features", where=path)
    try:
        with open_h5(path) as file:
            return _read(file, path, mpp, size, encoder, values)
    except ValueError as error:  # what is wrong with the content, in our words
        raise FeatureStoreError(f"tile features cannot be used: {error}", where=path) from error
    except UNREADABLE as error:
        raise FeatureStoreError(
            f"the file is no whole H5 file of tile features ({error})", where=path
        ) from error


def _read(
    file: h5py.File, path: Path, mpp: float | None, size: int | None, encoder: str | None, values: bool
) -> TileFeatures:
    """Everything checked; `ValueError` says what is wrong."""
    name, dataset = _features(file, encoder)
    features, coords, says = matrix(dataset, "features", "f", values), coords_in(file), says_of(file)
    if len(features) != len(coords):
        raise ValueError(f"{len(features)} features for {len(coords)} places")
    if values and (bad := int((~np.isfinite(features).all(axis=1)).sum())):
        raise ValueError(f"{bad} of {len(features)} tiles have a feature that is not finite")
    if values and "giant_digest" in says and says["giant_digest"] != digest(features, coords):
        raise ValueError("its content does not match its digest")
    places = places_of(coords, says, mpp=mpp, size=size)
    if places.mpp is None:
        raise ValueError(
            "it says nothing of the scale (CLAM's files do not): give mpp, the slide's µm per px"
        )
    exact = "giant_tile_um" in says and mpp is None and size is None  # the side is rounded to whole px
    return TileFeatures(
        features=features,
        coords=places.coords,
        size=places.size,
        tile_um=number(says, "giant_tile_um") if exact else places.size * places.mpp,
        slide_mpp=places.mpp,
        encoder=str(says.get("giant_encoder", name or path.parent.name.removeprefix(FOLDER))),
        failed=_failed(file),
        extent=places.extent,
        overlap=places.overlap,
    )


def _features(file: h5py.File, encoder: str | None) -> tuple[str, h5py.Dataset]:
    """The features, and their encoder's name where the file says it (AtlasPatch)."""
    link = file.get("features", getlink=True)
    if not (isinstance(link, h5py.HardLink) and isinstance(file["features"], h5py.Group)):
        return "", whole(file, "features")
    names = list(file["features"])
    if encoder is None and len(names) > 1:
        encoder = Path(file.filename).parent.name.removeprefix(FOLDER)
        if encoder not in names:
            raise ValueError(
                f"it holds features of several encoders: say which of {', '.join(names)}, or keep it in a"
                f" folder {FOLDER}<encoder>"
            )
    name = encoder if encoder is not None else (names or ["features"])[0]
    return name, whole(file["features"], name)


def _failed(file: h5py.File) -> tuple[tuple[Box, str], ...]:
    """Tiles that giant could not read; other tools do not tell."""
    if "failed" not in file:
        return ()
    boxes = (Box(*(int(v) for v in row)) for row in whole(file, "failed")[()])
    reasons = whole(file, "failed_reason").asstr()[()]
    return tuple(zip(boxes, (str(reason) for reason in reasons), strict=True))
