"""Where the tiles of other tools lie: the coordinates in H5 files of TRIDENT, CLAM and AtlasPatch.

What each tool writes, read in its source:

    TRIDENT     `coords` (N, 2) level-0 px; on it patch_size, patch_size_level0, level0_magnification,
                target_magnification, overlap (px at the target), name, savetodir; of later versions
                level0_width and level0_height too
    CLAM        `coords` (N, 2) level-0 px; on it patch_size and level_dim in px of patch_level, downsample
                (x, y) of that level, name, save_path. A file of features has no attributes: they stand in the
                file of patches. Older pipelines add custom_downsample, a further reduction of each patch
    AtlasPatch  `coords` (N, 5): x, y in level-0 px, then width, height and level of what was read; the names
                of TRIDENT, on the file

An attribute is believed only where it does not contradict the others, the places, or the slide.
Letters: N tiles.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from core_model.errors import FeatureStoreError, printable
from core_model.features.grid import TileGrid
from core_model.features.h5 import UNREADABLE, open_h5, whole
from core_model.features.tiles import SlideIdentity
from core_model.slides.scale import COARSEST, FINEST

UM_AT_1X = 10.0
"""µm per px times magnification: a 20x scan has 0.5 µm/px, a 40x scan 0.25."""
NOMINAL = 0.15
"""By how much, of itself, a true scale may differ from the one that a magnification stands for."""


@dataclass(frozen=True)
class Places:
    """Tiles of one slide, and what their file says of them."""

    coords: np.ndarray
    """(N, 2) int64: x, y of each tile's corner in level-0 px."""
    size: int
    """Side of a tile in level-0 px."""
    mpp: float | None
    """µm per level-0 px, nominal where it is a magnification; None where the file says nothing of it."""
    tile_px: int | None
    """Side of a tile in px as an encoder was to see it; None where the file does not say."""
    overlap: float
    """By how many level-0 px neighbours overlap, as the file says; 0 where it does not."""
    extent: tuple[int, int] | None
    """Width and height of the slide in level-0 px, where the file says them."""
    near_extent: tuple[tuple[int, int], tuple[int, int]] | None
    """Least and most that these can be, where the file says the size of a level and how far it reduces."""

    @property
    def tile_um(self) -> float | None:
        """Side of a tile in µm, nominal."""
        return None if self.mpp is None else self.size * self.mpp


def read_places(path: str | Path, *, size: int | None = None) -> Places:
    """The coordinates in a file of TRIDENT, CLAM, AtlasPatch or giant, with features or without.

    `size` is the side of a tile in level-0 px where the file does not say it. Raises `FeatureStoreError`, one
    line, where the file is missing, damaged or holds anything else, or contradicts itself.
    """
    path = Path(path)
    if not path.is_file():
        raise FeatureStoreError("there is no such file of coordinates", where=path)
    try:
        with open_h5(path) as file:
            return places_of(coords_in(file), says_of(file), size=size)
    except ValueError as error:  # what is wrong with the content, in our words
        raise FeatureStoreError(f"coordinates cannot be used: {error}", where=path) from error
    except UNREADABLE as error:
        raise FeatureStoreError(
            f"the file is no whole H5 file of coordinates ({error})", where=path
        ) from error


def grid_from_coords(path: str | Path, slide: SlideIdentity, tile_um: float) -> TileGrid:
    """The tiles that another tool chose on this slide, in reading order, in place of our own grid.

    Their side must be about `tile_um`, what the encoder takes: `NOMINAL` off, as magnifications are, is no
    other scale. Raises `FeatureStoreError` for a file that cannot be used, or is of another slide or scale.
    """
    places = read_places(path)
    try:
        check_slide(places, slide)
        tile_width = places.size * slide.mpp
        if abs(tile_width - tile_um) > NOMINAL * tile_um:
            raise ValueError(
                f"its tiles are {tile_width:.4g} µm wide, where the encoder takes {tile_um:g} µm"
            )
    except ValueError as error:
        raise FeatureStoreError(
            f"coordinates cannot be used on {printable(slide.name)}: {error}", where=Path(path)
        ) from error
    order = np.lexsort((places.coords[:, 0], places.coords[:, 1]))  # row by row
    sure = np.zeros(len(order), dtype=bool)
    return TileGrid(places.coords[order], places.size, tile_width, sure, (slide.width, slide.height))


def check_slide(places: Places, slide: SlideIdentity) -> None:
    """Raise `ValueError` where tiles are of another slide, or of this one at another scale."""
    extent = (slide.width, slide.height)
    if not getattr(slide, "square", True):
        raise ValueError("its tiles are as wide as high in px, and the slide's px are not square")
    if places.extent is not None and places.extent != extent:
        raise ValueError(f"it is of a slide of {_by(places.extent)} px, where this one has {_by(extent)}")
    if places.near_extent is not None:
        least, most = places.near_extent
        if any(not low <= n <= high for low, n, high in zip(least, extent, most, strict=True)):
            raise ValueError(f"it is of a slide of about {_by(least)} px, where this one has {_by(extent)}")
    if (places.coords >= extent).any():
        raise ValueError("a tile lies right of or below the slide")
    if places.mpp is not None and abs(places.mpp - slide.mpp) > NOMINAL * slide.mpp:
        raise ValueError(f"it is of a slide at {places.mpp:.4g} µm/px, where this one has {slide.mpp:.4g}")


def says_of(file: h5py.File) -> dict[str, Any]:
    """What the file says of its coordinates, on them or, as AtlasPatch, on itself."""
    return {**file.attrs, **whole(file, "coords").attrs}


def coords_in(file: h5py.File) -> np.ndarray:
    """The coordinates (N, 2) or (N, 5) as the file has them. Raises `ValueError`."""
    return matrix(whole(file, "coords"), "coords", "iu")


def matrix(dataset: h5py.Dataset, name: str, kinds: str, values: bool = True) -> np.ndarray:
    """A dataset with two dimensions, a leading 1 left out: float32 or int64; nan without `values`."""
    shape = dataset.shape[1:] if len(dataset.shape) == 3 and dataset.shape[0] == 1 else dataset.shape
    if len(shape) != 2 or dataset.dtype.kind not in kinds:
        raise ValueError(f"{name} have shape {dataset.shape} and type {dataset.dtype}")
    if not values:
        return np.broadcast_to(np.float32(np.nan), shape)
    return np.ascontiguousarray(dataset[()].reshape(shape), np.float32 if kinds == "f" else np.int64)


def places_of(
    coords: np.ndarray, says: Mapping[str, Any], *, mpp: float | None = None, size: int | None = None
) -> Places:
    """Coordinates (N, 2) or (N, 5) with what is said of them, all checked. Raises `ValueError`.

    `mpp` and `size` come before what the file says.
    """
    if len(coords) == 0:
        raise ValueError("it holds no tile")
    side = size if size is not None else _side(says)
    coords = _corners(coords, side)
    near = _near_extent(says)
    _check_places(coords, says, near and near[1])
    scale = mpp if mpp is not None else _scale(says)
    if side < 1 or (scale is not None and not FINEST <= scale <= COARSEST):
        at = f" at {scale:.4g} µm/px" if scale is not None else ""
        raise ValueError(f"tiles of {side} px{at} are none ({FINEST:g}-{COARSEST:g} µm/px)")
    if size is None:
        _check_tiles(coords, side, says)
    tile_px = round(number(says, "patch_size")) if "patch_size" in says else None
    return Places(coords, side, scale, tile_px, _overlap(side, says), _extent(says), near)


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


def _check_places(coords: np.ndarray, says: Mapping[str, Any], most: tuple[int, int] | None) -> None:
    """Corners lie on the slide, as far as the file says how large that is, and each only once."""
    if (coords < 0).any():
        raise ValueError("a tile lies left of or above the slide")
    for axis, name in enumerate(("level0_width", "level0_height")):
        if name in says and coords[:, axis].max() >= number(says, name):
            raise ValueError(f"a tile lies at {coords[:, axis].max()}, where {name} is {says[name]}")
    if most is not None and (coords >= most).any():
        raise ValueError(f"a tile lies outside of the {_by(most)} px that its level_dim and downsample give")
    if doubles := len(coords) - len(np.unique(coords, axis=0)):
        raise ValueError(f"{doubles} of {len(coords)} tiles lie where another one lies")


def _check_tiles(coords: np.ndarray, side: int, says: Mapping[str, Any]) -> None:
    """Magnifications, sizes and overlap agree, and tiles lie no closer than these allow."""
    names = ("patch_size_level0", "patch_size", "level0_magnification", "target_magnification")
    if all(name in says for name in names):
        by_size = number(says, names[0]) / number(says, names[1])
        by_magnification = number(says, names[2]) / number(says, names[3])
        if abs(by_size - by_magnification) > 0.1 * by_size:
            raise ValueError(
                f"its tiles are reduced {by_size:.3g} times by their size, and {by_magnification:.3g} times"
                " by their magnification"
            )
    if "overlap" not in says:
        return
    step = side - _overlap(side, says)
    near = min(_nearest(coords, axis) for axis in (0, 1))
    if near < 0.99 * step - 2:  # places may be rounded
        raise ValueError(
            f"tiles of {side} px lie {near:g} px apart, where their overlap of {says['overlap']} allows"
            f" {step:g}: their places are in px of another level, or of another size"
        )


def _overlap(side: int, says: Mapping[str, Any]) -> float:
    """What is said of it is in px at the target; 0 where nothing is."""
    if "overlap" not in says:
        return 0.0
    factor = side / number(says, "patch_size") if "patch_size" in says else 1.0
    try:
        overlap = float(np.asarray(says["overlap"], dtype=np.float64).ravel()[0]) * factor
    except (TypeError, ValueError, IndexError):
        overlap = math.nan
    if not 0 <= overlap < side:
        raise ValueError(f"its overlap is {says['overlap']!r}")
    return overlap


def _nearest(coords: np.ndarray, axis: int) -> float:
    """Least distance along an axis of two tiles in one row or column; inf where there are none."""
    order = np.lexsort((coords[:, axis], coords[:, 1 - axis]))
    steps = np.diff(coords[order], axis=0)  # (N-1, 2)
    in_line = steps[steps[:, 1 - axis] == 0, axis]
    return float(in_line.min()) if len(in_line) else math.inf


def _extent(says: Mapping[str, Any]) -> tuple[int, int] | None:
    """Width and height of the slide in level-0 px, where the file says them."""
    names = ("level0_width", "level0_height")
    return (int(number(says, names[0])), int(number(says, names[1]))) if set(names) <= set(says) else None


def _near_extent(says: Mapping[str, Any]) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Least and most, of CLAM's level_dim: a level may have lost a part of its last px, or gained one."""
    if not {"level_dim", "downsample"} <= set(says):
        return None
    reduction = number(says, "downsample")
    try:
        width, height = (int(value) for value in np.asarray(says["level_dim"]).ravel())
    except (TypeError, ValueError) as error:
        raise ValueError(f"its level_dim is {says['level_dim']!r}") from error
    if width < 1 or height < 1:
        raise ValueError(f"its level_dim is {says['level_dim']!r}")
    slack = [0.0 if reduction == 1 else reduction + 0.005 * side * reduction for side in (width, height)]
    most = math.ceil(width * reduction + slack[0]), math.ceil(height * reduction + slack[1])
    return (math.floor(width * reduction - slack[0]), math.floor(height * reduction - slack[1])), most


def _side(says: Mapping[str, Any]) -> int:
    """Side of a tile in level-0 px."""
    if "patch_size_level0" in says:
        return max(1, round(number(says, "patch_size_level0")))
    if "patch_size" in says and "downsample" in says:
        further = number(says, "custom_downsample") if "custom_downsample" in says else 1.0
        return max(1, round(number(says, "patch_size") * number(says, "downsample") * further))
    raise ValueError("it does not say how large a tile is: give size, the side of a tile in level-0 px")


def _scale(says: Mapping[str, Any]) -> float | None:
    """µm per level-0 px."""
    if "giant_slide_mpp" in says:
        return number(says, "giant_slide_mpp")
    return UM_AT_1X / number(says, "level0_magnification") if "level0_magnification" in says else None


def number(says: Mapping[str, Any], name: str) -> float:
    """A positive attribute. CLAM writes the downsample of x and of y: the first of equal ones."""
    try:
        values = np.asarray(says[name], dtype=np.float64).ravel()
    except (TypeError, ValueError):
        values = np.array([math.nan])
    ok = len(values) > 0 and np.isfinite(values).all() and (values > 0).all()
    if not ok or not np.allclose(values, values[0], rtol=0.01):
        raise ValueError(f"its {name} is {says[name]!r}")
    return float(values[0])


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"
