"""Where the features of WSI-Bench's slides lie: released slide tokens (.pt), or tile features (.h5)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from core_model.errors import CohortError
from training.cohort.corpus import slide_name

KINDS = {".pt": "tokens", ".h5": "features"}
"""Folder of a cohort by suffix."""


@dataclass(frozen=True)
class FeatureFiles:
    """The feature files of the slides that were asked for."""

    files: Mapping[str, Mapping[str, Path]]
    """Path by kind and slide; kinds of which no slide has any are not there."""

    @property
    def told(self) -> str:
        """The suffixes that every slide must have."""
        return " and ".join(suffix for suffix, kind in KINDS.items() if kind in self.files)

    def lacking(self, slides: Collection[str]) -> list[str]:
        """Slides without a file of some kind: a cohort has a kind for all its slides or not at all."""
        return [name for name in slides if not all(name in paths for paths in self.files.values())]

    def links(self, slides: Collection[str]) -> dict[str, dict[str, Path]]:
        """The links `<kind>/<slide><suffix>` of a cohort by name, and the files they lead to."""
        suffixes = {kind: suffix for suffix, kind in KINDS.items()}
        return {
            kind: {f"{name}{suffixes[kind]}": paths[name].resolve() for name in slides}
            for kind, paths in self.files.items()
        }


def find_features(folder: Path, slides: Collection[str]) -> FeatureFiles:
    """Look for `<slide>.pt` and `<slide>.h5` in a folder and the folders in it. An empty file is none.

    One file of each kind is read, so that a folder of something else is known now: raises what
    `read_slide_tokens` and `read_slide_features` raise. Raises CohortError where there is no such folder, no
    file for any slide, or two for one.
    """
    if not folder.is_dir():
        raise CohortError(
            "this is no folder", where=folder, fix="give the folder of features with --features"
        )
    names = set(slides)
    files: dict[str, dict[str, Path]] = {kind: {} for kind in KINDS.values()}
    try:
        for path in sorted([*folder.glob("*.*"), *folder.glob("*/*.*")]):
            kind, name = KINDS.get(path.suffix), slide_name(path.name)
            if kind is None or name not in names or not path.is_file() or path.stat().st_size == 0:
                continue
            if name in files[kind]:
                raise CohortError(
                    f"the file {files[kind][name]} is of the same slide",
                    where=path,
                    fix="leave one of them there",
                )
            files[kind][name] = path
    except OSError as error:
        raise CohortError(f"the folder cannot be read ({error})", where=folder) from error
    files = {kind: paths for kind, paths in files.items() if paths}
    if not files:
        raise CohortError(
            f"the folder holds no .pt or .h5 file of any of {len(names):,} slides", where=folder
        )
    _try_one(files)
    return FeatureFiles(files)


def _try_one(files: Mapping[str, Mapping[str, Path]]) -> None:
    from core_model.features.foreign import read_slide_features
    from core_model.features.slide_tokens import read_slide_tokens

    for kind, paths in files.items():
        first = paths[min(paths)]
        _ = read_slide_tokens(first) if kind == "tokens" else read_slide_features(first)
