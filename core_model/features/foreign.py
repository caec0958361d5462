"""Tile features that other tools have computed: TRIDENT's, CLAM's and AtlasPatch's H5 files, of any encoder.

The first two hold `features` (N, D) and `coords` (N, 2), level-0 px, and say in the attributes of `coords`
how large a tile is. TRIDENT adds the magnification, from which µm per pixel follow; CLAM says nothing of the
scale.
AtlasPatch holds `features/<encoder>` for one or several, and `coords` (N, 5): x, y in level-0 px, then width,
height and level of what was read. It says what TRIDENT says in the attributes of the file.
Letters: N tiles, D channels of a tile.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from core_model.errors import FeatureStoreError
from core_model.features.store import UNREADABLE, digest, open_h5, whole
from core_model.features.tiles import TileFeatures
from core_model.slides.box import Box
from core_model.slides.scale import COARSEST, FINEST

FOLDER = "features_"
"""TRIDENT's folder of one encoder is called this and the encoder's name."""
UM_AT_1X = 10.0
"""µm per px times magnification: a 20x scan has 0.5 µm/px, a 40x scan 0.25."""


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
    features, coords = (
        _matrix(dataset, "features", "f", values),
        _matrix(whole(file, "coords"), "coords", "iu"),
    )
    says = {**file.attrs, **file["coords"].attrs}
    if len(features) != len(coords):
        raise ValueError(f"{len(features)} features for {len(coords)} places")
    if len(features) == 0:
        raise ValueError("it holds no tile")
    if values and (bad := int((~np.isfinite(features).all(axis=1)).sum())):
        raise ValueError(f"{bad} of {len(features)} tiles have a feature that is not finite")
    if values and "giant_digest" in says and says["giant_digest"] != digest(features, coords):
        raise ValueError("its content does not match its digest")
    side = size if size is not None else _side(says)
    coords = _corners(coords, side)
    _check_places(coords, says)
    scale = mpp if mpp is not None else _scale(says)
    if side < 1 or not FINEST <= scale <= COARSEST:
        raise ValueError(f"tiles of {side} px at {scale:.4g} µm/px are none ({FINEST:g}-{COARSEST:g} µm/px)")
    if size is None:
        _check_tiles(coords, side, says)
    exact = "giant_tile_um" in says and mpp is None and size is None  # `side` is rounded to whole px
    return TileFeatures(
        features=features,
        coords=coords,
        size=side,
        tile_um=_number(says, "giant_tile_um") if exact else side * scale,
        slide_mpp=scale,
        encoder=str(says.get("giant_encoder", name or path.parent.name.removeprefix(FOLDER))),
        failed=_failed(file),
        extent=_extent(says),
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


def _matrix(dataset: h5py.Dataset, name: str, kinds: str, values: bool = True) -> np.ndarray:
    """A dataset with two dimensions, a leading 1 left out: float32 or int64; nan without `values`."""
    shape = dataset.shape[1:] if len(dataset.shape) == 3 and dataset.shape[0] == 1 else dataset.shape
    if len(shape) != 2 or dataset.dtype.kind not in kinds:
        raise ValueError(f"{name} have shape {dataset.shape} and type {dataset.dtype}")
    if not values:
        return np.broadcast_to(np.float32(np.nan), shape)
    return np.ascontiguousarray(dataset[()].reshape(shape), np.float32 if kinds == "f" else np.int64)


def _corners(coords: np.ndarray, side: int) -> np.ndarray:
    """x, y of each tile (N, 2), of (N, 2) or of AtlasPatch's (N, 5)."""
    if coords.shape[1] == 2:
        return coords
    if coords.shape[1] != 5:
        raise ValueError(f"coords have shape {coords.shape}, not (N, 2) or (N, 5)")
    sizes = coords[coords[:, 4] == 0, 2:4]  # (tiles read at level 0, 2)
    if (coords[:, 4] < 0).any() or (sizes != side).any():
        raise ValueError(f"its coords name tiles of other sizes than {side} px")
    return np.ascontiguousarray(coords[:, :2])


def _check_places(coords: np.ndarray, says: Mapping[str, Any]) -> None:
    """Corners lie on the slide, as far as the file says how large that is, and each only once."""
    if (coords < 0).any():
        raise ValueError("a tile lies left of or above the slide")
    for axis, name in enumerate(("level0_width", "level0_height")):
        if name in says and coords[:, axis].max() >= _number(says, name):
            raise ValueError(f"a tile lies at {coords[:, axis].max()}, where {name} is {says[name]}")
    if twice := len(coords) - len(np.unique(coords, axis=0)):
        raise ValueError(f"{twice} of {len(coords)} tiles lie where another one lies")


def _check_tiles(coords: np.ndarray, side: int, says: Mapping[str, Any]) -> None:
    """Magnifications, sizes and overlap agree, and tiles lie no closer than these allow."""
    names = ("patch_size_level0", "patch_size", "level0_magnification", "target_magnification")
    if all(name in says for name in names):
        by_size = _number(says, names[0]) / _number(says, names[1])
        by_magnification = _number(says, names[2]) / _number(says, names[3])
        if abs(by_size - by_magnification) > 0.1 * by_size:
            raise ValueError(
                f"its tiles are reduced {by_size:.3g} times by their size, and {by_magnification:.3g} times"
                " by their magnification"
            )
    if "overlap" not in says:
        return
    factor = side / _number(says, "patch_size") if "patch_size" in says else 1.0
    step = side - float(np.asarray(says["overlap"]).ravel()[0]) * factor
    near = min(_nearest(coords, axis) for axis in (0, 1))
    if near < 0.99 * step - 2:  # places may be rounded
        raise ValueError(
            f"tiles of {side} px lie {near:g} px apart, where their overlap of {says['overlap']} allows"
            f" {step:g}: their places are in px of another level, or of another size"
        )


def _nearest(coords: np.ndarray, axis: int) -> float:
    """Least distance along an axis of two tiles in one row or column; inf where there are none."""
    order = np.lexsort((coords[:, axis], coords[:, 1 - axis]))
    steps = np.diff(coords[order], axis=0)  # (N-1, 2)
    in_line = steps[steps[:, 1 - axis] == 0, axis]
    return float(in_line.min()) if len(in_line) else math.inf


def _extent(says: Mapping[str, Any]) -> tuple[int, int] | None:
    """Width and height of the slide in level-0 px, where the file says them."""
    names = ("level0_width", "level0_height")
    return (int(_number(says, names[0])), int(_number(says, names[1]))) if set(names) <= set(says) else None


def _side(says: Mapping[str, Any]) -> int:
    """Side of a tile in level-0 px."""
    if "patch_size_level0" in says:
        return max(1, round(_number(says, "patch_size_level0")))
    if "patch_size" in says and "downsample" in says:
        return max(1, round(_number(says, "patch_size") * _number(says, "downsample")))
    raise ValueError("it does not say how large a tile is: give size, the side of a tile in level-0 px")


def _scale(says: Mapping[str, Any]) -> float:
    """µm per level-0 px."""
    if "giant_slide_mpp" in says:
        return _number(says, "giant_slide_mpp")
    if "level0_magnification" in says:
        return UM_AT_1X / _number(says, "level0_magnification")
    raise ValueError("it says nothing of the scale (CLAM's files do not): give mpp, the slide's µm per px")


def _number(says: Mapping[str, Any], name: str) -> float:
    """A positive attribute. CLAM writes the downsample of x and of y: the first of equal ones."""
    try:
        values = np.asarray(says[name], dtype=np.float64).ravel()
    except (TypeError, ValueError):
        values = np.array([math.nan])
    ok = len(values) > 0 and np.isfinite(values).all() and (values > 0).all()
    if not ok or not np.allclose(values, values[0], rtol=0.01):
        raise ValueError(f"its {name} is {says[name]!r}")
    return float(values[0])


def _failed(file: h5py.File) -> tuple[tuple[Box, str], ...]:
    """Tiles that giant could not read; other tools do not tell."""
    if "failed" not in file:
        return ()
    boxes = (Box(*(int(v) for v in row)) for row in whole(file, "failed")[()])
    reasons = whole(file, "failed_reason").asstr()[()]
    return tuple(zip(boxes, (str(reason) for reason in reasons), strict=True))
