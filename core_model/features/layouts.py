"""Tile features written as TRIDENT and CLAM write them, so that their users' tools go on from there.

    TRIDENT   JOB/<mag>x_<px>px_<overlap>px_overlap/patches/<slide>_patches.h5, coordinates
              JOB/<mag>x_<px>px_<overlap>px_overlap/features_<encoder>/<slide>.h5, features and coordinates
    CLAM      FOLDER/patches/<slide>.h5, coordinates; FOLDER/h5_files/<slide>.h5, features and coordinates;
              FOLDER/pt_files/<slide>.pt, the features alone, only where asked for

Attributes are those of `places.py`. CLAM's own files of features have none; ours repeat those of the patches,
which its tools do not mind. Tiles are described as px of level 0, which every slide has.
Letters: N tiles, D channels of a tile.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from core_model.errors import FeatureStoreError, printable
from core_model.features.places import UM_AT_1X
from core_model.features.store import folder_of
from core_model.features.tiles import TileFeatures
from core_model.files import write_bytes


def write_trident(job: Path, name: str, tiles: TileFeatures, tile_px: int) -> tuple[Path, Path]:
    """Write a slide's tiles into a job folder of TRIDENT; returns its files of coordinates and of features.

    `tile_px` is the side of a tile as the encoder saw it. Raises `FeatureStoreError`.
    """
    _check_square(name, tiles)
    says: dict[str, Any] = {
        "patch_size": tile_px,
        "patch_size_level0": tiles.size,
        "level0_magnification": _whole(UM_AT_1X / tiles.slide_mpp),
        "target_magnification": _whole(UM_AT_1X / tiles.slide_mpp * tile_px / tiles.size),
        "overlap": round(tiles.overlap * tile_px / tiles.size),
        "name": name,
    }
    if tiles.extent is not None:
        says["level0_width"], says["level0_height"] = tiles.extent
    nominal = _whole(UM_AT_1X * tile_px / tiles.tile_um)
    folder = job / f"{nominal:.4g}x_{tile_px}px_{says['overlap']}px_overlap"
    places = folder / "patches" / f"{name}_patches.h5"
    features = folder / folder_of(tiles.encoder) / f"{name}.h5"
    coords = np.ascontiguousarray(tiles.coords, np.int64)
    _write(places, {"coords": coords}, {"coords": says | {"savetodir": printable(str(folder))}})
    arrays: Mapping[str, np.ndarray] = {"features": _rows(tiles), "coords": coords}
    features_says = {"name": name, "savetodir": printable(str(features.parent))}
    _write(
        features, arrays, {"coords": says | {"savetodir": printable(str(folder))}, "features": features_says}
    )
    return places, features


def write_clam(folder: Path, name: str, tiles: TileFeatures, pt: bool = False) -> tuple[Path, Path]:
    """Write a slide's tiles as CLAM does, with `pt` its bare tensor too; returns patches and features.

    CLAM says nothing of the scale: whoever reads the files must know it. Raises `FeatureStoreError`, also
    where the size of the slide is not known.
    """
    _check_square(name, tiles)
    if tiles.extent is None:
        raise FeatureStoreError("the size of the slide is not known, which CLAM's files need", where=name)
    says = {
        "patch_size": tiles.size,
        "patch_level": 0,
        "downsample": (1.0, 1.0),
        "downsampled_level_dim": tiles.extent,
        "level_dim": tiles.extent,
        "name": name,
        "save_path": printable(str(folder / "patches")),
    }
    places, features = folder / "patches" / f"{name}.h5", folder / "h5_files" / f"{name}.h5"
    rows = _rows(tiles)
    _write(places, {"coords": np.ascontiguousarray(tiles.coords, np.int64)}, {"coords": says})
    arrays = {"features": rows, "coords": np.ascontiguousarray(tiles.coords, np.int32)}
    _write(features, arrays, {"coords": says})
    if pt:
        import torch

        torch.save(torch.from_numpy(rows), buffer := io.BytesIO())
        _keep(folder / "pt_files" / f"{name}.pt", buffer)
    return places, features


def _check_square(name: str, tiles: TileFeatures) -> None:
    if tiles.height is not None:
        raise FeatureStoreError(
            "its px are not square, and the tools whose files these are know tiles by one side alone",
            where=name,
        )


def _rows(tiles: TileFeatures) -> np.ndarray:
    return np.ascontiguousarray(tiles.features, np.float32)  # (N, D)


def _whole(value: float) -> float | int:
    """A magnification as both tools write it, a whole number, where it is one."""
    return round(value) if abs(value - round(value)) < 1e-9 else value


def _write(path: Path, arrays: Mapping[str, np.ndarray], says: Mapping[str, Mapping[str, Any]]) -> None:
    """An H5 file whose arrays can grow, a chunk for some rows, made in memory and put in place whole."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for name, array in arrays.items():
            dataset = file.create_dataset(name, data=array, maxshape=(None, *array.shape[1:]))
            dataset.attrs.update(says.get(name, {}))
    _keep(path, buffer)


def _keep(path: Path, buffer: io.BytesIO) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, buffer.getbuffer())
    except OSError as error:
        raise FeatureStoreError(
            f"the features cannot be written ({error.strerror or error})",
            where=path,
            fix="Choose a folder that can be written",
        ) from error
