"""Places that look alike, or like a phrase: a slide's tile vectors, kept beside its features, are searched.

An index file is `<slide>.tile.safetensors` next to the slide's `.h5` in the feature store. It says which
weights made it and of what size its tiles are, so that vectors of two encoders are never compared. In the
index of a cohort `tools/cohort` says which tiles need not be looked at.

Letters: N tiles, D channels of a tile feature, E channels of a phrase.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from core_model.errors import BoxError, FeatureStoreError, UsageError
from core_model.privacy.key import is_pseudonymous
from core_model.records import Record
from core_model.slides.box import Box
from tools.index import SUFFIX
from tools.indexing import identity_of, store_at

if TYPE_CHECKING:
    from core_model.features.extract import Encoder, Progress
    from core_model.features.store import FeatureStore
    from core_model.features.tiles import TileFeatures
    from core_model.slides.slide import Slide
    from tools.cohort.index import CohortHit, CohortIndex
    from tools.index import Hit

MOST = 1000
"""Largest k."""


class Similar(Record):
    """One tile found."""

    slide: str
    """Name of its slide: the file's stem."""
    slide_id: str
    """What tells the slide from others of that name."""
    box: Box
    """Level-0 px."""
    mpp: float | None
    """µm per level-0 px; None where the slide was indexed by a version that did not keep it."""
    score: float
    """Cosine similarity, in [-1, 1]."""


class Found(Record):
    """The tiles that a search found, as `giant similar` prints them with --json."""

    version: Literal[1] = 1
    slide: str
    box: Box | None
    """The place asked for; None where a phrase was."""
    text: str | None = None
    encoder: str
    hits: list[Similar]
    recall: float | None = None
    """Share of the nearest tiles that such a search finds, as measured when the index was made; None where it
    finds all."""


@dataclass(frozen=True)
class Query:
    """A search: for the tiles most like those in `box`, or most like the phrase `text`."""

    box: Sequence[int] | None = None
    """x, y, w, h in level-0 px."""
    text: str | None = None
    k: int = 5

    def __post_init__(self) -> None:
        if not 1 <= self.k <= MOST:
            raise UsageError(f"{self.k} tiles cannot be asked for", fix=f"Give -k from 1 to {MOST}")
        if (self.box is None) == (self.text is None):
            raise UsageError("a place or a phrase must be given, and not both", fix="Use --box or --text")
        if self.text is not None and not self.text.strip():
            raise UsageError("the phrase is empty", fix="Say what to find after --text")


def find_similar(
    slide_path: str | Path,
    query: Query,
    among: Path | None,
    encoder_name: str,
    encoder_mpp: float | None,
    mpp: float | None,
    progress: Progress | None,
    mpp_override: float | None = None,
) -> Found:
    """The tiles that answer most to `query`: of the slide, or of all indexed in `among`.

    None of them touches the box asked for. Raises `UsageError` where the encoder knows no words, `BoxError`
    for a box off the slide or off its tissue, `FeatureStoreError` where `among` holds no usable index.
    """
    from core_model.slides.slide import open_slide
    from tools.index import TileIndex

    with open_slide(slide_path, mpp, mpp_override) as slide:
        if query.box is not None:
            slide.check(Box(*query.box))
        if among is not None:
            _check_indexed(among, "features_*")  # said before a large encoder is loaded
        encoder, store = _encoder(encoder_name, encoder_mpp, among), store_at(among, kept=False)
        cohort = cohort_of(store, slide, encoder) if among is not None else None
        words = _words(query.text, encoder) if query.text is not None else None  # before tiles are encoded
        own_store = store_at(None, kept=False) if among is not None and is_pseudonymous(among) else store
        tiles = _tiles(slide, encoder, own_store, progress)  # whose files would name the slide
        vector, own_tiles = _sought(query, words, slide, tiles)
        own_index = TileIndex.build(tiles.features, tiles)
        hits = [_own(slide, hit) for hit in own_index.search(vector, query.k, exclude=own_tiles)]
        hits += [_other(hit) for hit in cohort.search(vector, query.k, without=slide.id)] if cohort else []
    best = sorted(hits, key=lambda hit: (-hit.score, hit.slide, hit.box))[: query.k]
    return Found(
        slide=slide.name,
        box=Box(*query.box) if query.box is not None else None,
        text=query.text,
        encoder=encoder.name,
        hits=best,
        recall=cohort.recall if cohort else None,
    )


def cohort_of(store: FeatureStore, slide: Slide, encoder: Encoder) -> CohortIndex:
    """The index of the slides in a store. Raises `FeatureStoreError` where there is none of this encoder."""
    from tools.cohort.index import CohortIndex

    folder = store.path(slide, encoder.name).parent
    _check_indexed(store.root, folder.name)
    return CohortIndex.open(folder, identity_of(encoder))


def _encoder(name: str, mpp: float | None, among: Path | None) -> Encoder:
    """The encoder of that name, or the one of another tool whose features were imported into `among`."""
    from core_model.features.imported import NAME, find_imported
    from core_model.models.tile_encoders import load_tile_encoder

    if not NAME.fullmatch(name):
        return load_tile_encoder(name, mpp=mpp)
    if among is None:
        raise UsageError(
            f"features of '{name}' are only where they were imported", fix="Give that folder with --in"
        )
    return find_imported(among, name)


def _tiles(slide: Slide, encoder: Encoder, store: FeatureStore, progress: Progress | None) -> TileFeatures:
    """The slide's features, computed where they are not in the store and the encoder runs here."""
    from core_model.features.extract import extract
    from core_model.features.imported import ImportedEncoder

    if isinstance(encoder, ImportedEncoder) and store.load(slide, encoder) is None:
        raise encoder.not_imported
    return extract(slide, encoder, store, progress)


def _words(text: str, encoder: Encoder) -> np.ndarray:
    """The vector (E,) of a phrase among the encoder's tiles."""
    embed = getattr(encoder, "embed_text", None)
    if embed is None:
        raise UsageError(
            f"the tile encoder '{encoder.name}' knows no words",
            fix="Give --encoder a dual encoder, such as the folder or hub id of a CLIP for pathology",
        )
    return np.asarray(embed([text])[0])


def _sought(
    query: Query, words: np.ndarray | None, slide: Slide, tiles: TileFeatures
) -> tuple[np.ndarray, np.ndarray | None]:
    """The vector to search by, and (N,) bool of the tiles that must not be found."""
    if words is not None:
        return words, None
    if query.box is None:
        raise AssertionError("a query has a box or a text")
    return _like(slide, tiles, Box(*query.box))


def _like(slide: Slide, tiles: TileFeatures, box: Box) -> tuple[np.ndarray, np.ndarray]:
    """The mean feature (D,) of the tiles in `box`, and (N,) bool of the tiles that touch it."""
    touching = tiles.inside_mask(box, min_overlap=0.0)
    inside = tiles.inside_mask(box)
    if not inside.any():
        inside = touching  # a box smaller than half a tile
    if not inside.any():
        raise BoxError(
            f"no encoded tissue lies in box {tuple(box)}", where=slide.name, fix="Choose a box on tissue"
        )
    return tiles.features[inside].mean(axis=0), touching  # (D,), (N,)


def _check_indexed(folder: Path, encoders: str) -> None:
    """Raise `FeatureStoreError` unless a store holds indexes of the encoders whose folders match."""
    if not any(folder.glob(f"{encoders}/*{SUFFIX}")):
        raise FeatureStoreError(
            "the folder holds no index of this encoder"
            if encoders != "features_*"
            else "the folder holds no index",
            where=folder,
            fix=f"Make one: giant index SLIDE… --out {folder}",
        )


def _own(slide: Slide, hit: Hit) -> Similar:
    return Similar(slide=slide.name, slide_id=slide.id, box=hit.box, mpp=slide.mpp, score=round(hit.score, 6))


def _other(hit: CohortHit) -> Similar:
    entry = hit.slide
    return Similar(slide=entry.name, slide_id=entry.id, box=hit.box, mpp=entry.mpp, score=round(hit.score, 6))
