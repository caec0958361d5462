"""Index a slide: keep its tile features, and beside them the vectors that are searched."""

from __future__ import annotations

import logging
import traceback
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from core_model.errors import FeatureStoreError, GiantError, UsageError, printable
from core_model.files import disk_trouble
from core_model.slides.renamed import Alias
from tools.chosen import Chosen, chosen_features
from tools.index import SUFFIX

if TYPE_CHECKING:
    from core_model.encoders.vit import TileEncoder
    from core_model.features.extract import Progress
    from core_model.features.store import FeatureStore
    from core_model.features.tiles import EncoderIdentity, SlideIdentity, TileFeatures
    from core_model.slides.slide import Slide

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class IndexPlan:
    """By what slides are indexed, and where to. It can be sent to a worker."""

    encoder: str = "mini"
    """Name, folder or hub id of the tile encoder."""
    encoder_mpp: float | None = None
    out: Path | None = None
    """A feature store; None: the cache."""
    mpp: float | None = None
    """µm per level-0 px where the file does not say."""
    mpp_override: float | None = None
    batch: int | None = None
    """Tiles handed to the encoder at once; None: what memory and cores allow."""
    readers: int | None = None
    """Threads that read tiles; None: by the cores."""
    compiled: bool = False
    """Whether torch compiles the encoder's network."""
    isolate: bool = True
    """Whether a child process reads each slide, within limits of memory and time."""
    chosen: Chosen | None = None
    """Which tiles are indexed; None: those of all tissue."""

    def __post_init__(self) -> None:
        for name, number in (("batch", self.batch), ("readers", self.readers)):
            if number is not None and number < 1:
                raise UsageError(f"{number} {name} mean nothing", fix=f"Give --{name} of at least 1")
        if self.chosen is not None and self.out is None:
            raise UsageError(
                "an index of chosen tiles has a folder of its own, apart from that of all tissue",
                fix="Give --out DIR",
            )


@dataclass(frozen=True)
class SlideJob:
    """One slide to index."""

    path: Path
    """By which it is known, and named in errors."""
    local: Path | None = None
    """Where a copy of it lies that is read in its place."""
    error: str | None = None
    """Why it cannot be read: in one line that names it."""
    name: str | None = None
    """The pseudonym by which alone it goes; None: its own name."""

    @property
    def shown(self) -> str:
        """What lines about it call it."""
        return printable(str(self.path)) if self.name is None else self.name

    def text(self, line: str) -> str:
        """A line about it: with its path in place of its copy's, or with its pseudonym in place of both."""
        if self.name is None:
            return line if self.local is None else line.replace(str(self.local), str(self.path))
        for path in (self.local, self.path):
            line = line if path is None else Alias(path, self.name).text(line)
        return line


@dataclass(frozen=True)
class Indexed:
    """A slide that has its index."""

    path: Path
    """Of the index file."""
    tiles: int
    failed: int
    """Tiles that could not be read."""
    new: bool
    """False where the features were there already."""

    def __str__(self) -> str:
        unread = f", {self.failed} unreadable" if self.failed else ""
        return f"{self.tiles} tiles{unread}" if self.new else f"complete already, {self.tiles} tiles{unread}"


@dataclass(frozen=True)
class SlideFailed:
    """A slide that could not be indexed."""

    path: Path
    error: str
    """One line that names the slide."""


class Indexer:
    """A tile encoder and a feature store, and the slides that go through them."""

    def __init__(self, plan: IndexPlan) -> None:
        """Raises `GiantError` where there is no such encoder, or the plan asks what it cannot do."""
        from core_model.features.reading import STEP, choose_pace
        from core_model.models.tile_encoders import load_tile_encoder

        self.plan, self.store = plan, store_at(plan.out)
        self.encoder = load_tile_encoder(plan.encoder, mpp=plan.encoder_mpp)
        if plan.compiled:
            _compile(self.encoder)
        self.pace = choose_pace(
            self.encoder.tile_px, getattr(self.encoder, "step", STEP), batch=plan.batch, readers=plan.readers
        )

    def index(self, job: SlideJob, progress: Progress | None = None) -> Indexed | SlideFailed:
        """Compute and keep features and index of a slide, going on where an earlier process was killed.

        Raises only what no slide would be spared: `UsageError`, and `FeatureStoreError` of a full disk.
        """
        if job.error is not None:
            return SlideFailed(job.path, job.text(job.error))
        try:
            return self._index(job, progress)
        except UsageError:
            raise
        except GiantError as error:
            if isinstance(error, FeatureStoreError) and disk_trouble(error) is not None:
                raise
            return SlideFailed(job.path, job.text(str(error)))
        except Exception as error:  # a bug must not cost a night's work
            trace = "".join(traceback.format_exception(error))
            log.error("%s: a bug of giant ended the work on it\n%s", job.shown, job.text(trace))
            what = str(error).strip().splitlines()[:1] or ["no message"]
            said = GiantError(f"bug: {type(error).__name__}: {what[0]}", where=job.shown)
            return SlideFailed(job.path, job.text(str(said)))

    def _index(self, job: SlideJob, progress: Progress | None) -> Indexed:
        from core_model.slides.parts import slide_name
        from core_model.slides.slide import open_slide

        told: list[int] = []

        def tell(done: int, total: int) -> None:
            told.append(done)
            if progress is not None:
                progress(done, total)

        mpp, override, isolate = self.plan.mpp, self.plan.mpp_override, self.plan.isolate
        with open_slide(job.local or job.path, mpp, override, isolate=isolate, name=job.name) as slide:
            if job.local is not None and job.name is None:
                slide.name = slide_name(job.path)
            tiles = self._tiles(slide, slide_name(job.path), tell)
            with self.store.lock(slide, self.encoder.name):
                path = save_index(slide, tiles, self.encoder, self.store)
            self.store.tidy(slide, self.encoder.name)
        return Indexed(path, len(tiles), len(tiles.failed), bool(told))

    def _tiles(self, slide: Slide, name: str, progress: Progress) -> TileFeatures:
        """Features of all tissue, or of the tiles that were chosen of the slide known as `name`."""
        from core_model.features.extract import extract

        if self.plan.chosen is None:
            return extract(slide, self.encoder, self.store, progress, self.pace)
        grid = self.plan.chosen.grid(slide, name, self.encoder.tile_um)
        return chosen_features(slide, self.encoder, grid, self.store, progress, self.pace)


def index_slide(plan: IndexPlan, job: SlideJob) -> Indexed | SlideFailed:
    """`Indexer.index` in a worker, which keeps its encoder from slide to slide."""
    return _indexer(plan).index(job)


@cache
def _indexer(plan: IndexPlan) -> Indexer:
    return Indexer(plan)


def _compile(encoder: TileEncoder) -> None:
    compile_network = getattr(encoder, "compile", None)
    if compile_network is None:
        raise UsageError(f"the tile encoder '{encoder.name}' cannot be compiled", fix="Leave out --compile")
    compile_network()


def save_index(
    slide: SlideIdentity, tiles: TileFeatures, encoder: EncoderIdentity, store: FeatureStore
) -> Path:
    """Keep the vectors of a slide beside its features; call under the store's lock. Returns their file."""
    from core_model.files import leftovers
    from tools.index import TileIndex

    path = store.path(slide, encoder.name).with_suffix(SUFFIX)
    facts = {"slide": slide.id, "encoder": encoder.name, "mpp": repr(float(slide.mpp))}
    TileIndex.build(tiles.features, tiles).save(path, facts | identity_of(encoder))
    for left in leftovers(path):  # of killed processes: nobody else writes here now
        left.unlink(missing_ok=True)
    return path


def identity_of(encoder: EncoderIdentity) -> dict[str, str]:
    """The facts of an index; only indexes with equal ones are compared."""
    return {"space": "tile", "fingerprint": encoder.fingerprint, "tile_um": f"{encoder.tile_um:g}"}


def store_at(folder: Path | None, kept: bool = True) -> FeatureStore:
    """The feature store in a folder; None: the cache. `kept` as in `FeatureStore`."""
    from core_model.features.store import FeatureStore, cache_folder

    return FeatureStore(folder if folder is not None else cache_folder(), kept)
