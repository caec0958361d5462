"""Tiles that somebody else chose: those in regions drawn in QuPath, or at the coordinates of another tool."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from core_model.errors import FeatureStoreError, UsageError, printable

if TYPE_CHECKING:
    from core_model.features.extract import Encoder, Progress
    from core_model.features.grid import TileGrid
    from core_model.features.reading import Pace
    from core_model.features.store import FeatureStore
    from core_model.features.tiles import TileFeatures
    from core_model.slides.slide import Slide
    from core_model.specimen.annotations import Annotations

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Chosen:
    """Where the tiles of slides are chosen: a file for one slide, or a folder with a file for each."""

    regions: Path | None = None
    """Annotations as QuPath exports them: SLIDE.geojson in a folder."""
    coords: Path | None = None
    """Coordinates of TRIDENT, CLAM or AtlasPatch: SLIDE_patches.h5 or SLIDE.h5 in a folder."""

    def __post_init__(self) -> None:
        if self.regions is not None and self.coords is not None:
            raise UsageError("tiles are chosen by regions or by coordinates", fix="Leave one of them out")

    @property
    def is_of_one(self) -> bool:
        """Whether all is said by one file, which can be of one slide only."""
        return any(path is not None and path.is_file() for path in (self.regions, self.coords))

    def grid(self, slide: Slide, name: str, tile_um: float) -> TileGrid:
        """The tiles chosen of a slide whose file is called `name`.

        Raises `FeatureStoreError`, `AnnotationsError` or `NoTissue` where there is no telling.
        """
        from core_model.features.grid import MIN_TISSUE, tile_grid
        from core_model.features.places import grid_from_coords
        from core_model.slides.tissue import find_tissue

        if self.coords is not None:
            place = _file_for(self.coords, slide, name, ("_patches.h5", ".h5"))
            return grid_from_coords(place, slide, tile_um)
        if self.regions is None:
            raise AssertionError("nothing is chosen")
        within = regions_of(self.regions, slide, name).within(find_tissue(slide))
        return tile_grid(slide, within, tile_um, MIN_TISSUE)


def regions_of(place: Path, slide: Slide, name: str) -> Annotations:
    """The annotations of a slide whose file is called `name`: a file, or by its name in a folder.

    What is left out of them is logged as a warning. Raises `FeatureStoreError`, `AnnotationsError`.
    """
    from core_model.specimen.annotations import read_annotations

    annotations = read_annotations(_file_for(place, slide, name, (".geojson", ".json")), slide)
    for notice in annotations.notices:
        log.warning("%s: annotations: %s", slide.name, notice)
    return annotations


def check_one_slide(chosen: Chosen, slides: Sequence[Path]) -> None:
    """Raise `UsageError` where one file would choose tiles of several slides."""
    if chosen.is_of_one and len(slides) > 1:
        raise UsageError(
            "one file chooses tiles of one slide", fix="Give a folder with a file for each slide"
        )


def chosen_features(
    slide: Slide,
    encoder: Encoder,
    grid: TileGrid,
    store: FeatureStore,
    progress: Progress | None = None,
    pace: Pace | None = None,
) -> TileFeatures:
    """Features of the tiles of a grid: from those of the whole slide where `store` has them, else computed.

    What is computed is not kept: the store holds features of all tissue. Killed work is gone on with.
    """
    from core_model.features.extract import encode_grid

    whole_slide = store.load(slide, encoder)
    if whole_slide is not None and (tiles := _among(whole_slide, grid)) is not None:
        return tiles
    with store.lock(slide, encoder.name) as writable:
        tiles = encode_grid(slide, encoder, grid, progress, pace, store if writable else None)
    store.tidy(slide, encoder.name)
    return tiles


def _among(whole_slide: TileFeatures, grid: TileGrid) -> TileFeatures | None:
    """The tiles of the grid among stored ones; None where one is lacking that should be there."""
    if whole_slide.sides != grid.sides:
        return None
    grid_corners = {(int(x), int(y)) for x, y in grid.coords}
    keep = np.array([(int(x), int(y)) in grid_corners for x, y in whole_slide.coords], dtype=bool)  # (N,)
    failures = tuple(item for item in whole_slide.failed if item[0][:2] in grid_corners)
    stored_corners = {(int(x), int(y)) for x, y in whole_slide.coords[keep]} | {
        box[:2] for box, _ in failures
    }
    sure = {(int(x), int(y)) for x, y in grid.coords[~grid.unsure]}
    if not sure <= stored_corners or not keep.any():
        return None
    return replace(
        whole_slide, features=whole_slide.features[keep], coords=whole_slide.coords[keep], failed=failures
    )


def _file_for(place: Path, slide: Slide, name: str, endings: tuple[str, ...]) -> Path:
    """The file of a slide: `place` itself, or by its name in the folder."""
    if not place.is_dir():
        return place
    for ending in endings:
        if (path := place / f"{name}{ending}").is_file():
            return path
    forms = " or ".join(f"SLIDE{ending}" for ending in endings)
    raise FeatureStoreError(f"the folder holds no {forms} of {printable(slide.name)}", where=place)
