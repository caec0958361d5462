"""Places that look alike, or like a phrase: a slide's tile vectors, kept beside its features, are searched.

An index file is `<slide>.tile.safetensors` next to the slide's `.h5` in the feature store. It says which
weights made it and of what size its tiles are, so that vectors of two encoders are never compared.

Letters: N tiles, D channels of a tile feature, E channels of a phrase.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from core_model.errors import BoxError, FeatureStoreError, UsageError
from core_model.records import Record
from core_model.slides.box import Box
from tools.indexing import SUFFIX, identity_of, store_at

if TYPE_CHECKING:
    from core_model.features.extract import Encoder, Progress
    from core_model.features.store import FeatureStore
    from core_model.features.tiles import TileFeatures
    from core_model.slides.slide import Slide
    from tools.index import Hit, TileIndex

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
    """The tiles that a search found, as `giant similar` prints them with --json."""

    version: Literal[1] = 1
    slide: str
    box: Box | None
    """The place asked for; None where a phrase was."""
    text: str | None = None
    encoder: str
    hits: list[Similar]


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
            _index_files(among, "features_*")  # said before a large encoder is loaded
        encoder, store = _encoder(encoder_name, encoder_mpp, among), store_at(among, kept=False)
        other_files = (
            _index_files(among, store.path(slide, encoder.name).parent.name) if among is not None else []
        )
        words = _words(query.text, encoder) if query.text is not None else None  # before tiles are encoded
        tiles = _tiles(slide, encoder, store, progress)
        vector, own_tiles = _sought(query, words, slide, tiles)
        own_index = TileIndex.build(tiles.features, tiles)
        hits = [_hit(slide.name, hit) for hit in own_index.search(vector, query.k, exclude=own_tiles)]
        for name, index in _others(other_files, slide, encoder):
            hits += [_hit(name, hit) for hit in index.search(vector, query.k)]
    best = sorted(hits, key=lambda hit: (-hit.score, hit.slide, hit.box))[: query.k]
    place = Box(*query.box) if query.box is not None else None
    return Found(slide=slide.name, box=place, text=query.text, encoder=encoder.name, hits=best)


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


def _others(files: Sequence[Path], slide: Slide, encoder: Encoder) -> Iterator[tuple[str, TileIndex]]:
    """Indexes of other slides, each with the slide's name. Raises where one is of other weights."""
    from tools.index import TileIndex

    for path in files:
        index = TileIndex.load(path, identity_of(encoder))
        if slide_of(path) != slide.id:
            yield path.name.removesuffix(SUFFIX), index


def slide_of(path: Path) -> str:
    """Identity of the slide that an index file was made from. Raises `FeatureStoreError`."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return str((file.metadata() or {}).get("slide", ""))
    except (OSError, SafetensorError) as error:
        raise FeatureStoreError(f"the file is no whole index ({error})", where=path) from error


def _index_files(folder: Path, encoders: str) -> list[Path]:
    """Indexes in a store, of the encoders whose folders match."""
    files = sorted(folder.glob(f"{encoders}/*{SUFFIX}"))
    if not files:
        raise FeatureStoreError(
            "the folder holds no index of this encoder"
            if encoders != "features_*"
            else "the folder holds no index",
            where=folder,
            fix=f"Make one: giant index SLIDE… --out {folder}",
        )
    return files


def _hit(name: str, hit: Hit) -> Similar:
    return Similar(slide=name, box=hit.box, score=round(hit.score, 6))
