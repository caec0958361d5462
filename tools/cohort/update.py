"""Put slides into a cohort's index and take them out: the manifest is written last, and by one process at a
time.

Vectors are never moved. A slide that is new is looked through in every search until enough are new for a
segment of their own; one that is taken out is left out of the results until the segment that covers it is
made again.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from core_model.errors import FeatureStoreError, UsageError
from core_model.files import held
from tools.cohort.bounds import make_bounds
from tools.cohort.ivf import FEWEST, make_inverted
from tools.cohort.manifest import (
    FOLDER,
    NAME,
    Covered,
    Manifest,
    Segment,
    SlideEntry,
    begun_ns,
    read_manifest,
    sha256_of,
    write_manifest,
)
from tools.cohort.segments import save_segment
from tools.cohort.slides import SlideFiles, entry_of, is_unchanged
from tools.index import SUFFIX, mapped

IDENTITY = ("space", "fingerprint", "tile_um")
"""What an index file says of the vectors in it; those of one index agree."""
EXACT_UP_TO = 1_000_000
"""Tiles that are searched exactly; beyond, an inverted file is made."""
LOOKED_THROUGH = 50_000
"""Tiles that are looked through one by one before a segment is made of them."""
MOST_STALE = 0.25
"""Share of the tiles that a segment may not cover, or cover in vain, before all is made again."""
MOST_SEGMENTS = 8


@dataclass(frozen=True)
class Change:
    """What an index became."""

    slides: int
    tiles: int
    recall: float | None
    """As measured, where a search may miss tiles; None where it is exact."""
    queries: int | None = None
    """Tiles that it was measured with."""
    dropped: tuple[str, ...] = ()
    """Names of slides whose files were gone."""


def add_slides(files: Sequence[Path], exact_up_to: int | None = None) -> Change:
    """Put the slides of these index files, of one encoder in one folder, into the index of their folder.

    Slides of more than `exact_up_to` tiles are searched by an inverted file. Raises `FeatureStoreError`.
    """
    metadata = mapped(files[0])[0]
    identity = {name: metadata.get(name, "") for name in IDENTITY}
    limit = EXACT_UP_TO if exact_up_to is None else exact_up_to
    return add_to_index(files[0].parent, identity, {path.name for path in files}, limit)


def add_to_index(
    folder: Path,
    identity: dict[str, str],
    added: Collection[str] = (),
    exact_up_to: int = EXACT_UP_TO,
    looked_through: int = LOOKED_THROUGH,
) -> Change:
    """Put every slide of a store's folder into its index, also those that changed.

    `folder` holds the slides' index files of one encoder, `identity` is what these share. `added` names index
    files that are put in although their slides had been taken out. Raises `FeatureStoreError`.
    """
    with _alone(folder):
        begun = time.time_ns()
        manifest = read_manifest(folder, {})
        if manifest.identity != identity:  # other weights of this name: nothing of the old index serves
            manifest = Manifest(identity=identity, removed=manifest.removed)
        entries = _current(folder, manifest, added)
        removed = [
            slide for slide in manifest.removed if slide not in {e.id for e in entries if e.file in added}
        ]
        dropped = sorted({entry.name for entry in manifest.slides} - {entry.name for entry in entries})
        segments = _segments(folder, manifest, entries, exact_up_to, looked_through)
        made = Manifest(identity=identity, slides=entries, removed=removed, segments=segments)
        write_manifest(folder, made, begun)
        _clear(folder, made)
        return _change(entries, segments, dropped)


def remove_from_store(store: Path, slide: str) -> list[SlideEntry]:
    """Take a slide, by its name or identity, out of the indexes of a store, whatever encoders made them.

    Its files stay. Raises `UsageError` where no index has it.
    """
    folders = sorted(path.parent.parent for path in store.glob(f"features_*/{FOLDER}/{NAME}"))
    if not folders:
        raise FeatureStoreError(
            "the folder has no index of a cohort",
            where=store,
            fix=f"Make one: giant index SLIDE… --out {store}",
        )
    removed = [entry for folder in folders for entry in remove_from_index(folder, slide)]
    if not removed:
        fix = f"Its slides are listed in {folders[0] / FOLDER / NAME}"
        raise UsageError(f"no slide '{slide}' is in the index", fix=fix)
    return removed


def remove_from_index(folder: Path, slide: str) -> list[SlideEntry]:
    """Take a slide, by its name or identity, out of the index of a folder; none where it has none.

    Raises `UsageError` where several slides go by that name.
    """
    with _alone(folder):
        manifest = read_manifest(folder, {})
        named = {entry.id for entry in manifest.slides if slide in (entry.name, entry.id)}
        if len(named) > 1:
            raise UsageError(f"'{slide}' is more than one slide", fix="Give the identity of one")
        out = [entry for entry in manifest.slides if entry.id in named]
        if out:
            kept = [entry for entry in manifest.slides if entry.id not in named]
            removed = sorted({*manifest.removed, *named})
            fewer = manifest.model_copy(update={"slides": kept, "removed": removed})
            write_manifest(folder, fewer, begun_ns(folder))
        return out


def digest_of_store(store: Path) -> str | None:
    """What tells the indexes of a store from others, and from what they were; None where there are none."""
    manifests = sorted(store.glob(f"features_*/{FOLDER}/{NAME}"))
    parts = [f"{path.parent.parent.name} {sha256_of(path)}" for path in manifests]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16] if parts else None


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    with held(folder / FOLDER, wait=True, error_class=FeatureStoreError, fix="Choose another --out"):
        yield


def _current(folder: Path, manifest: Manifest, added: Collection[str]) -> list[SlideEntry]:
    """Every slide of the folder as it is now, by name, but for those that were taken out and not `added`."""
    known, since = {entry.file: entry for entry in manifest.slides}, begun_ns(folder)
    entries = []
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        entry = known.get(path.name)
        if entry is None or not is_unchanged(path, entry, since):
            entry = entry_of(path, manifest.identity)
        if path.name in added or entry.id not in manifest.removed:
            entries.append(entry)
    return entries


def _segments(
    folder: Path, manifest: Manifest, entries: Sequence[SlideEntry], exact_up_to: int, looked_through: int
) -> list[Segment]:
    """The segments for these slides: those that still serve, and new ones where they are needed."""
    total = sum(entry.rows for entry in entries)
    if total <= looked_through:
        return []
    first = "ivf" if total > exact_up_to and total >= FEWEST else "bounds"
    segments = [segment for segment in manifest.segments if _live(segment, entries)]
    uncovered = _uncovered(segments, entries)
    rows = sum(entry.rows for entry in uncovered)
    vain = sum(segment.rows - _live(segment, entries) for segment in segments)
    begins = segments[0].kind if segments else None
    too_many = len(segments) + (rows > looked_through) > MOST_SEGMENTS
    behind = first == "ivf" and sum(_live(s, entries) for s in segments[:1]) < (1 - MOST_STALE) * total
    if begins != first or vain > MOST_STALE * total or too_many or behind:
        return [_made(folder, manifest.identity, first, entries)]
    if rows > looked_through:
        return [*segments, _made(folder, manifest.identity, "bounds", uncovered)]
    return segments


def _live(segment: Segment, entries: Sequence[SlideEntry]) -> int:
    """Rows of a segment that are still those of slides in the index."""
    known = {(entry.file, entry.sha256) for entry in entries}
    return sum(slide.rows for slide in segment.slides if (slide.file, slide.sha256) in known)


def _uncovered(segments: Sequence[Segment], entries: Sequence[SlideEntry]) -> list[SlideEntry]:
    covered = {(slide.file, slide.sha256) for segment in segments for slide in segment.slides}
    return [entry for entry in entries if (entry.file, entry.sha256) not in covered]


def _made(folder: Path, identity: dict[str, str], kind: str, entries: Sequence[SlideEntry]) -> Segment:
    """Make a segment of these slides, and write it."""
    files = SlideFiles(folder, entries, identity)
    slides = [Covered(file=entry.file, sha256=entry.sha256, rows=entry.rows) for entry in entries]
    if kind == "bounds":
        name, digest = save_segment(folder, make_bounds(files.fetch, len(files)))
        return Segment(kind="bounds", file=name, sha256=digest, slides=slides)
    content, recall = make_inverted(files.fetch, len(files))
    name, digest = save_segment(folder, content)
    return Segment(
        kind="ivf", file=name, sha256=digest, slides=slides, recall=recall.share, queries=recall.queries
    )


def _clear(folder: Path, manifest: Manifest) -> None:
    """Delete the segments that the manifest, which is written, does not name."""
    named = {segment.file for segment in manifest.segments}
    for path in (folder / FOLDER).iterdir():
        is_segment = path.suffix == ".safetensors" or path.name.endswith((".new", ".part"))
        if is_segment and path.name not in named:
            path.unlink(missing_ok=True)


def _change(entries: Sequence[SlideEntry], segments: Sequence[Segment], dropped: Sequence[str]) -> Change:
    tiles = sum(entry.rows for entry in entries)
    measured = [segment for segment in segments if segment.recall is not None]
    recall, queries = (measured[0].recall, measured[0].queries) if measured else (None, None)
    return Change(len(entries), tiles, recall, queries, tuple(dropped))
