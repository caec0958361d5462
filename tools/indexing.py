"""Index a slide: keep its tile features, and beside them the vectors that are searched."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from core_model.errors import GiantError, UsageError

if TYPE_CHECKING:
    from core_model.encoders.vit import TileEncoder
    from core_model.features.extract import Progress
    from core_model.features.store import FeatureStore
    from core_model.features.tiles import TileFeatures
    from core_model.slides.slide import Slide

SUFFIX = ".tile.safetensors"
"""Ending of an index file, next to the slide's `.h5`."""


@dataclass(frozen=True)
class SlideFailed:
    """A slide that could not be indexed."""

    path: Path
    error: str
    """One line that names the slide."""


def index_slides(
    slides: Sequence[Path],
    encoder_name: str,
    encoder_mpp: float | None,
    out: Path | None,
    mpp: float | None,
    progress: Progress | None,
    mpp_override: float | None = None,
) -> Iterator[Path | SlideFailed]:
    """Compute and keep features and index of each slide; yields the path of each index, or why there is none.

    `out` is a feature store, the cache where None. A slide that fails stops no other.
    """
    from core_model.features.extract import extract
    from core_model.models.tile_encoders import load_tile_encoder
    from core_model.slides.slide import open_slide

    encoder, store = load_tile_encoder(encoder_name, mpp=encoder_mpp), store_at(out)
    for path in slides:
        try:
            with open_slide(path, mpp, mpp_override) as slide:
                made = _save_index(slide, extract(slide, encoder, store, progress), encoder, store)
        except UsageError:
            raise  # of the call, whatever the slide
        except GiantError as error:
            yield SlideFailed(path, str(error))
        else:
            yield made


def _save_index(slide: Slide, tiles: TileFeatures, encoder: TileEncoder, store: FeatureStore) -> Path:
    from tools.index import TileIndex

    path = store.path(slide, encoder.name).with_suffix(SUFFIX)
    identity = {"slide": slide.id, "encoder": encoder.name} | identity_of(encoder)
    TileIndex.build(tiles.features, tiles).save(path, identity)
    return path


def identity_of(encoder: TileEncoder) -> dict[str, str]:
    """The facts of an index; only indexes with equal ones are compared."""
    return {"space": "tile", "fingerprint": encoder.fingerprint, "tile_um": f"{encoder.tile_um:g}"}


def store_at(folder: Path | None, kept: bool = True) -> FeatureStore:
    """The feature store in a folder; None: the cache. `kept` as in `FeatureStore`."""
    from core_model.features.store import FeatureStore, cache_folder

    return FeatureStore(folder if folder is not None else cache_folder(), kept)
