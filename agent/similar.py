"""Places that look alike: the vectors of a slide's tiles, kept beside its features, and the search in them.

An index file is `<slide>.tile.safetensors` next to the slide's `.h5` in the feature store. It says which
weights made it, so that vectors of two encoders are never compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from agent.records import Record
from core_model.errors import BoxError, FeatureStoreError, UsageError
from core_model.slide import Box

if TYPE_CHECKING:
    from core_model.extract import Progress
    from core_model.features import FeatureStore, TileFeatures
    from core_model.slide import Slide
    from core_model.tile_encoder import TileEncoder
    from tools.index import Hit, TileIndex

SUFFIX = ".tile.safetensors"
MOST = 1000
"""Largest k."""


class Similar(Record):
    """One tile found."""

    slide: str
    """Name of its slide: the file's stem."""
    box: Box
    score: float
    """Cosine similarity, in [-1, 1]."""


class Found(Record):
    """What `giant similar` prints with --json."""

    version: Literal[1] = 1
    slide: str
    box: Box
    encoder: str
    hits: list[Similar]


def index_slides(
    slides: Sequence[Path], encoder_name: str, out: Path | None, mpp: float | None, progress: Progress | None
) -> Iterator[Path]:
    """Compute and keep features and index of each slide; yields the path of each index.

    `out` is a feature store, the cache where None. Raises `GiantError` at the first slide that fails;
    those before it are kept.
    """
    from core_model.extract import extract
    from core_model.slide import open_slide
    from core_model.tile_encoder import load_tile_encoder

    encoder, store = load_tile_encoder(encoder_name), _store(out)
    for path in slides:
        with open_slide(path, mpp) as slide:
            features = extract(slide, encoder, store, progress)
            yield _save_index(slide, features, encoder, store)


def find_similar(
    slide_path: str | Path,
    box: Sequence[int],
    k: int,
    among: Path | None,
    encoder_name: str,
    mpp: float | None,
    progress: Progress | None,
) -> Found:
    """The `k` tiles most like `box` that do not touch it: of its slide, or of all indexed in `among`.

    Raises `UsageError` for a k that means nothing, `BoxError` for a box off the slide or off its tissue,
    `FeatureStoreError` where `among` holds no usable index.
    """
    from core_model.extract import extract
    from core_model.slide import open_slide
    from core_model.tile_encoder import load_tile_encoder
    from tools.index import TileIndex

    if not 1 <= k <= MOST:
        raise UsageError(f"{k} tiles cannot be asked for", fix=f"Give -k from 1 to {MOST}")
    with open_slide(slide_path, mpp) as slide:
        place = Box(*box)
        slide.check(place)
        others = _index_files(among) if among is not None else []
        encoder = load_tile_encoder(encoder_name)
        tiles = extract(slide, encoder, _store(among), progress)
        vector, touched = _query(slide, tiles, place)
        own = TileIndex.build(tiles.features, tiles)
        hits = [_hit(slide.name, hit) for hit in own.search(vector, k, exclude=touched)]
        for name, index in _others(others, slide, encoder):
            hits += [_hit(name, hit) for hit in index.search(vector, k)]
    best = sorted(hits, key=lambda hit: (-hit.score, hit.slide, hit.box))[:k]
    return Found(slide=slide.name, box=place, encoder=encoder.name, hits=best)


def _query(slide: Slide, tiles: TileFeatures, box: Box) -> tuple[np.ndarray, np.ndarray]:
    """The mean feature (D,) of the tiles in `box`, and (N,) bool of the tiles that touch it."""
    touched = tiles.inside_mask(box, min_overlap=0.0)
    inside = tiles.inside_mask(box)
    if not inside.any():
        inside = touched  # a box smaller than half a tile
    if not inside.any():
        raise BoxError(
            f"no encoded tissue lies in box {tuple(box)}", where=slide.name, fix="Choose a box on tissue"
        )
    return tiles.features[inside].mean(axis=0), touched


def _others(files: Sequence[Path], slide: Slide, encoder: TileEncoder) -> Iterator[tuple[str, TileIndex]]:
    """Indexes of other slides, each with the slide's name. Raises where one is of other weights."""
    from tools.index import TileIndex

    for path in files:
        index = TileIndex.load(path, {"space": "tile", "fingerprint": encoder.fingerprint})
        if slide_of(path) != slide.id:
            yield path.name.removesuffix(SUFFIX), index


def slide_of(path: Path) -> str:
    """Identity of the slide that an index file was made from. Raises `FeatureStoreError`."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return str((file.metadata() or {}).get("slide", ""))
    except (OSError, SafetensorError) as error:
        raise FeatureStoreError(f"this is no whole index ({error})", where=path) from error


def _save_index(slide: Slide, tiles: TileFeatures, encoder: TileEncoder, store: FeatureStore) -> Path:
    from tools.index import TileIndex

    path = store.path(slide, encoder.name).with_suffix(SUFFIX)
    about = {"slide": slide.id, "space": "tile", "encoder": encoder.name, "fingerprint": encoder.fingerprint}
    TileIndex.build(tiles.features, tiles).save(path, about)
    return path


def _index_files(folder: Path) -> list[Path]:
    files = sorted(folder.glob(f"features_*/*{SUFFIX}"))
    if not files:
        raise FeatureStoreError(
            "holds no index", where=folder, fix=f"Make one: giant index SLIDE… --out {folder}"
        )
    return files


def _hit(name: str, hit: Hit) -> Similar:
    return Similar(slide=name, box=hit.box, score=round(hit.score, 6))


def _store(folder: Path | None) -> FeatureStore:
    from agent.session import cache_folder
    from core_model.features import FeatureStore

    return FeatureStore(folder if folder is not None else cache_folder())
