"""Features that another tool computed, as those of an encoder of their own in our feature store.

They keep the name that the tool gave its encoder, after the tool's: "trident:uni_v1". Their fingerprint is
that name and the number of channels, so that they never meet vectors of an encoder that runs here, whatever
that is called. An encoder of this kind computes nothing: what was not imported is not there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from core_model.errors import FeatureStoreError, UsageError, printable
from core_model.features.foreign import read_slide_features
from core_model.features.h5 import UNREADABLE, open_h5
from core_model.features.jobs import ForeignJob
from core_model.features.places import NOMINAL, Places, check_slide, number, read_places
from core_model.features.store import FeatureStore, digest, folder_of
from core_model.features.tiles import SlideIdentity, TileFeatures

NAME = re.compile(r"(trident|clam|atlaspatch):.+")


@dataclass(frozen=True)
class ImportedEncoder:
    """Who computed the features of a job: an `EncoderIdentity` without weights."""

    name: str
    """The tool and its encoder, as in "trident:uni_v1"."""
    dim: int
    """Channels of a feature."""
    tile_px: int
    """Side of a tile as the encoder saw it."""
    tile_um: float
    """Side of a tile in µm, nominal: the same for all slides."""

    @property
    def fingerprint(self) -> str:
        """What only such features have."""
        return f"{self.name}:{self.dim}"

    @property
    def mpp(self) -> float:
        """µm per px at which the encoder saw tiles."""
        return self.tile_um / self.tile_px

    @property
    def tissue(self) -> str:
        """By whom the tiles were chosen."""
        return f"chosen by {self.name.partition(':')[0]}"

    def encode(self, images: list[Image.Image]) -> np.ndarray:
        """Raises `UsageError`: only what was imported is there."""
        raise self.not_imported

    @property
    def not_imported(self) -> UsageError:
        """What is to be said of a slide whose features are not there."""
        return UsageError(
            f"'{self.name}' is no encoder that runs here, and features of this slide were not imported",
            fix="Import them, or give another --encoder",
        )


@dataclass(frozen=True)
class UnseenSlide:
    """A slide of which only its features are here."""

    id: str
    """Of the features: the slide itself is unknown."""
    name: str
    mpp: float
    width: int
    height: int
    alias: str | None = None


@dataclass(frozen=True)
class Imported:
    """Features of one slide as another tool left them, checked."""

    slide: SlideIdentity
    tiles: TileFeatures
    tile_px: int
    tile_um: float
    """Nominal."""


def read_imported(
    job: ForeignJob, name: str, slide: SlideIdentity | None, mpp: float | None = None
) -> Imported:
    """The features of the slide `name` of a job, with its places held against the slide where that is given.

    Without a slide its scale is `mpp`, else what the job says. Raises `FeatureStoreError`.
    """
    path, places = job.features[name], _places(job, name)
    if slide is not None:
        try:
            check_slide(places, slide)
        except ValueError as error:
            raise FeatureStoreError(
                f"its features do not belong to the slide {printable(slide.name)}: {error}", where=path
            ) from error
        mpp = slide.mpp
    encoder = job.encoder if job.tool == "atlaspatch" else None
    tiles = read_slide_features(path, mpp=mpp or places.mpp, size=places.size, encoder=encoder)
    if not np.array_equal(tiles.coords, places.coords):
        raise FeatureStoreError(
            "its places are not those that the file of patches names", where=path, fix="Compute them again"
        )
    tiles = replace(tiles, encoder=job.name, overlap=places.overlap)
    tile_um = float(f"{(places.tile_um or tiles.tile_um):.4g}")
    identity = slide if slide is not None else _unseen(name, tiles, places, path)
    tiles = replace(tiles, extent=(identity.width, identity.height))
    return Imported(identity, tiles, places.tile_px or places.size, tile_um)


def encoder_of(job: ForeignJob, first: Imported) -> ImportedEncoder:
    """The encoder of a job, known by the first of its slides."""
    return ImportedEncoder(job.name, first.tiles.features.shape[1], first.tile_px, first.tile_um)


def keep(imported: Imported, encoder: ImportedEncoder, store: FeatureStore) -> TileFeatures:
    """Keep features in a store, as `encoder`'s; returns them as they are read back from there.

    Raises `FeatureStoreError`, also where their size or scale is not that of the job's first slide.
    """
    dim = imported.tiles.features.shape[1]
    if dim != encoder.dim:
        problem = f"its features have {dim} channels, where others of the job have {encoder.dim}"
    elif abs(imported.tile_um - encoder.tile_um) > NOMINAL * encoder.tile_um:
        problem = (
            f"its tiles are {imported.tile_um:g} µm wide, where others of the job have {encoder.tile_um:g}"
        )
    else:
        with store.lock(imported.slide, encoder.name):
            store.save(imported.slide, encoder, imported.tiles)
        return replace(imported.tiles, tile_um=encoder.tile_um)
    raise FeatureStoreError(problem, where=imported.slide.name, fix="Import it as a job of its own")


def find_imported(root: Path, name: str) -> ImportedEncoder:
    """The encoder of that name whose features were imported into the store at `root`.

    Raises `FeatureStoreError` where there is none.
    """
    folder = root / folder_of(name)
    for path in sorted(folder.glob("*.h5")):
        try:
            with open_h5(path) as file:
                says = dict(file["coords"].attrs)
                if says.get("giant_encoder") == name:
                    tile_px = round(number(says, "patch_size"))
                    dim = int(file["features"].shape[1])
                    return ImportedEncoder(name, dim, tile_px, number(says, "giant_tile_um"))
        except UNREADABLE:
            continue  # another slide's file may be whole
    raise FeatureStoreError(
        f"no features of '{name}' were imported here",
        where=root,
        fix=f"Import them: giant import --features JOB --out {root}",
    )


def _places(job: ForeignJob, name: str) -> Places:
    """What is said of a slide's tiles: by its features, or where these say nothing by its file of patches."""
    if job.tool != "clam":
        return read_places(job.features[name])
    if name in job.patches:
        return read_places(job.patches[name])
    try:
        return read_places(job.features[name])
    except FeatureStoreError as error:
        raise FeatureStoreError(
            f"it says nothing of its tiles, and there is no patches/{name}.h5 that does ({error.what})",
            where=job.features[name],
        ) from error


def _unseen(name: str, tiles: TileFeatures, places: Places, path: Path) -> UnseenSlide:
    if places.extent is None:
        raise FeatureStoreError(
            "it does not say how large the slide is", where=path, fix="Give the slides too: --slides DIR"
        )
    identity = f"unseen-{digest(tiles.features, tiles.coords)}"
    return UnseenSlide(identity, name, tiles.slide_mpp, *places.extent)
