"""Features that go to other tools and come from them: whole folders, slide by slide, without an encoder.

What comes in lies in a feature store under a name of its own (`trident:uni_v1`), and is searched with
`giant similar --encoder trident:uni_v1 --in STORE` like any other index.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from core_model.errors import FeatureStoreError, GiantError, UsageError, printable
from tools.indexing import SlideFailed, save_index

if TYPE_CHECKING:
    from core_model.features.imported import Imported, ImportedEncoder
    from core_model.features.jobs import ForeignJob
    from core_model.features.store import FeatureStore

LAYOUTS = ("trident", "clam")


def import_features(
    folder: Path,
    out: Path,
    slides: Sequence[Path] | None = None,
    encoder: str | None = None,
    mpp: float | None = None,
) -> Iterator[Path | SlideFailed]:
    """Keep the features of every slide of another tool's job in the store `out`, for `similar` to search.

    Nothing is encoded. With `slides` each is matched by its name and opened, and its size and scale are held
    against what the job says; without them the job must say both. `encoder` chooses the job's encoder, or
    names it. `mpp` is µm per level-0 px where neither job nor slide says it. Yields the path of each index,
    or why there is none; a slide that fails stops no other. Raises what `find_job` raises.
    """
    from core_model.features.imported import encoder_of
    from core_model.features.jobs import find_job
    from core_model.features.store import FeatureStore

    job = find_job(folder, encoder)
    paths = _by_name(slides) if slides is not None else None
    store, imported_encoder = FeatureStore(out), None
    for name in job.features:
        try:
            imported = _found(job, name, paths, mpp)
            imported_encoder = imported_encoder or encoder_of(job, imported)
            index_path = _kept(imported, imported_encoder, store)
        except UsageError:
            raise
        except GiantError as error:
            yield SlideFailed(job.features[name], str(error))
        else:
            yield index_path


def export_features(
    source: Path, out: Path, layout: str, encoder: str | None = None, pt: bool = False
) -> Iterator[Path | SlideFailed]:
    """Write the features of every slide of the store `source` as TRIDENT or CLAM lay them out.

    `source` may be the folder of one encoder; `encoder` says which where the store has several. `pt` adds
    CLAM's bare tensors. Yields the file of features of each slide, or why there is none.
    """
    from core_model.features.foreign import read_slide_features
    from core_model.features.layouts import write_clam, write_trident
    from core_model.features.places import read_places

    if layout not in LAYOUTS:
        raise UsageError(f"there is no layout '{printable(layout)}'", fix=f"There are {', '.join(LAYOUTS)}")
    if pt and layout != "clam":
        raise UsageError("bare tensors belong to CLAM's layout", fix="Give --layout clam with --pt")
    for path in _files_of(source, encoder):
        try:
            tiles = read_slide_features(path)
            if layout == "clam":
                _, feature_file = write_clam(out, path.stem, tiles, pt)
            else:
                tile_px = read_places(path).tile_px or tiles.size
                _, feature_file = write_trident(out, path.stem, tiles, tile_px)
        except GiantError as error:
            yield SlideFailed(path, str(error))
        else:
            yield feature_file


def _by_name(slides: Sequence[Path]) -> dict[str, list[Path]]:
    """Slides by the names under which other tools may know them: of `a.ome.tiff` also `a`."""
    from core_model.slides.parts import slide_name

    paths: dict[str, list[Path]] = {}
    for path in slides:
        name = slide_name(path)
        for alternative in {name, path.stem, name.removesuffix(".ome")}:
            paths.setdefault(alternative, []).append(path)
    return paths


def _found(
    job: ForeignJob, name: str, paths: Mapping[str, Sequence[Path]] | None, mpp: float | None
) -> Imported:
    """Features of one slide, held against the slide where slides are given."""
    from core_model.features.imported import read_imported
    from core_model.slides.slide import open_slide

    if paths is None:
        return read_imported(job, name, None, mpp)
    matches = paths.get(name, ())
    if len(matches) != 1:
        problem = "there is no slide of this name" if not matches else "more than one slide has this name"
        raise FeatureStoreError(
            f"{problem}{'' if not matches else ': ' + ', '.join(map(str, matches))}", where=job.features[name]
        )
    with open_slide(matches[0], mpp, isolate=True) as slide:
        return read_imported(job, name, slide)


def _kept(imported: Imported, encoder: ImportedEncoder, store: FeatureStore) -> Path:
    from core_model.features.imported import keep

    tiles = keep(imported, encoder, store)
    with store.lock(imported.slide, encoder.name):
        return save_index(imported.slide, tiles, encoder, store)


def _files_of(source: Path, encoder: str | None) -> list[Path]:
    """Feature files of one encoder in a store. Raises where there are none, or of several encoders."""
    from core_model.features.foreign import FOLDER
    from core_model.features.store import folder_of

    if not source.is_dir():
        raise FeatureStoreError("there is no such folder", where=source)
    folders = [source] if source.name.startswith(FOLDER) else sorted(source.glob(f"{FOLDER}*"))
    if encoder is not None:
        folders = [folder for folder in folders if folder.name == folder_of(encoder)]
    files = {
        folder: paths
        for folder in folders
        if (paths := sorted(path for path in folder.glob("*.h5") if not path.name.startswith(".")))
    }
    if not files:
        raise FeatureStoreError("the folder holds no tile features to write", where=source)
    if len(files) > 1:
        names = ", ".join(folder.name.removeprefix(FOLDER) for folder in files)
        raise UsageError(
            f"{source} holds features of several encoders: {names}", fix="Choose one with --encoder"
        )
    return next(iter(files.values()))
