"""DICOM whole-slide images, read with wsidicom where OpenSlide does not: JPEG-LS, HTJ2K, and from servers.

Only instances of levels are opened, so label and overview are never read. A place that an instance of
TILED_SPARSE does not list was not scanned, and is white, as OpenSlide shows it; a frame that should be there
and is not does not decode.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from core_model.errors import SlideError
from core_model.slides.file_tiles import jpeg_decoder
from core_model.slides.formats.grid import Grid, GridSource, extra
from core_model.slides.parts import series_of
from core_model.slides.sources import DecodeError

CACHE_BYTES = 1 << 23
"""Bytes of each of wsidicom's two caches; decoded tiles are kept by us."""

JPEG_BASELINE = "1.2.840.10008.1.2.4.50"

COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
"""Photometric interpretations that are shown; three samples each."""

MOST_TILE = 1 << 26
"""Pixels of the largest frame that is decoded at once."""


def open_dicom(path: Path) -> GridSource:
    """Open the series of a file. Raises `SlideError` where it holds no 8-bit RGB scan, and `OSError`."""
    library = extra("wsidicom", "dicom", "this DICOM series", path)
    files = [instance.path for instance in series_of(path) if instance.is_level]
    with translated(path):
        slide = library.WsiDicom.open(files, settings=settings(library))
    try:
        if len(slide.files or ()) != len(files):
            raise SlideError(
                "a level of it cannot be read", where=path, fix="Copy the series again from its source"
            )
        return level_source(slide, path, f"wsidicom {library.__version__}")
    except BaseException:
        slide.close()
        raise


def settings(library: Any) -> Any:
    """How wsidicom is to open a slide."""
    return library.config.Settings(
        strict_tile_size_check=False,
        decoded_frame_cache_size=CACHE_BYTES,
        encoded_frame_cache_size=CACHE_BYTES,
    )


@contextmanager
def translated(where: object) -> Iterator[None]:
    """Errors of wsidicom and of what it reads as `SlideError`; its log, which names files, is silent."""
    logging.getLogger("wsidicom").setLevel(logging.CRITICAL)
    try:
        yield
    except (SlideError, OSError, MemoryError):
        raise
    except Exception as error:  # of values that a file made up: it raises what comes
        raise SlideError(
            f"wsidicom cannot open it ({type(error).__name__}: {error})"[:300],
            where=where,
            fix="Copy the series again from its source",
        ) from error


def level_source(slide: Any, where: Path, reader: str) -> GridSource:
    """The levels of an open slide of wsidicom. Raises `SlideError`."""
    with translated(where):
        levels = [_Level(level, where) for level in _pyramid(slide, where)]
        spacing = levels[0].mpp
    names = ("openslide.mpp-x", "openslide.mpp-y")
    return GridSource(
        where,
        [level.grid for level in levels],
        lambda level, column, row: levels[level].tile(column, row),
        vendor="dicom",
        reader=reader,
        properties=dict(zip(names, map(str, spacing), strict=True)) | levels[0].light,
        free=slide.close,
    )


def _pyramid(slide: Any, where: Path) -> Sequence[Any]:
    """Levels of the largest pyramid, level 0 first."""
    pyramids = sorted(slide.pyramids, key=lambda item: item.size.width * item.size.height, reverse=True)
    if len(pyramids) > 1 and pyramids[0].size == pyramids[1].size:
        raise SlideError(
            f"it holds {len(pyramids)} images of one size, of which one alone would be shown",
            where=where,
            fix="Export the one to look at as a series of its own",
        )
    return sorted(pyramids[0], key=lambda level: level.size.width, reverse=True)


class _Level:
    """One level: which frame shows which place, and how it decodes."""

    def __init__(self, level: Any, where: Path) -> None:
        _check_planes(level, where)
        self._data = data = level.default_instance.image_data
        _check_pixels(data, where)
        self._z, self._path = data.default_z, data.default_path
        self.grid = Grid((level.size.width, level.size.height), (data.tile_size.width, data.tile_size.height))
        if not 0 < self.grid.tile[0] * self.grid.tile[1] <= MOST_TILE:
            raise SlideError(f"its frames of {self.grid.tile} px are no size for a slide", where=where)
        self.light = _light(level.default_instance.dataset.as_dataset())
        self.mpp = (float(level.mpp.width), float(level.mpp.height))
        self._decode = self._decoder()

    def tile(self, column: int, row: int) -> np.ndarray:
        """uint8 (h, w, 3) of a frame. Raises `DecodeError`."""
        from wsidicom.geometry import Point

        place = Point(column, row)
        width, height = self.grid.tile
        try:
            if self._data.is_sparse(place, self._z, self._path):
                return np.full((height, width, 3), 255, dtype=np.uint8)
            frame = self._data.get_encoded_tile(place, self._z, self._path)
            return self._decode(frame)
        except (DecodeError, MemoryError, SlideError):
            raise
        except Exception as error:  # of decoders, of servers, of offsets that a file made up
            raise DecodeError(
                f"a frame of it cannot be read ({type(error).__name__}: {error})"[:300]
            ) from error

    def _decoder(self) -> Callable[[bytes], np.ndarray]:
        """wsidicom's decoder, but for JPEG, of which that one shows damaged frames too."""
        if str(self._data.transfer_syntax) != JPEG_BASELINE:
            decode: Callable[[bytes], np.ndarray] = self._data.decoder.decode
            return decode
        width, height = self.grid.tile
        strict = jpeg_decoder(None, as_stored=self._data.photometric_interpretation == "RGB")
        return lambda frame: strict(frame.rstrip(b"\0"), height, width, 1)


def _light(data: Any) -> dict[str, str]:
    """The codes of the illumination, under OpenSlide's names."""
    codes = [
        str(code.get("CodeValue", ""))
        for path in data.get("OpticalPathSequence", ())
        for code in path.get("IlluminationTypeCodeSequence", ())
    ]
    return {
        f"dicom.OpticalPathSequence[0].IlluminationTypeCodeSequence[{number}].CodeValue": code
        for number, code in enumerate(codes)
    }


def _check_planes(level: Any, where: Path) -> None:
    paths, planes = len(level.optical_paths), len(level.focal_planes)
    if paths * planes > 1:
        kind = "optical paths, as fluorescence has" if paths > 1 else "focal planes"
        raise SlideError(
            f"it holds {paths * planes} images of one size ({kind}), of which one alone would be shown",
            where=where,
            fix="Export the one to look at, or an RGB composite, as a series of its own",
        )


def _check_pixels(data: Any, where: Path) -> None:
    samples, colours = data.samples_per_pixel, str(data.photometric_interpretation)
    if data.bits != 8:
        kind = f"{data.bits}-bit samples"
    elif samples == 1:
        kind = "one channel of grey"
    elif samples != 3 or colours not in COLOURS:
        kind = f"{samples} channels of {colours}"
    else:
        return
    raise SlideError(
        f"it holds {kind}, which 8-bit RGB cannot show faithfully",
        where=where,
        fix="Export it as an 8-bit RGB series",
    )
