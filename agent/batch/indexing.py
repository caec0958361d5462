"""Many slides are indexed: in this process, in worker processes, or on a Ray cluster.

    slides ──> copies on a local disk, one ahead (--stage) ──> workers ──> index files, as they come

Each worker has a share of the processors, and a GPU of its own where there are several.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from agent.batch.batch import Nobody, Watcher, folder_names
from agent.batch.workers import Event, LazyJobs, Lost, Started, in_processes, in_this_process
from core_model.errors import GiantError, UsageError
from core_model.privacy.key import claim_folder, open_key, pseudonyms
from core_model.slides.parts import from_anywhere
from tools.indexing import Indexed, Indexer, IndexPlan, SlideFailed, SlideJob, index_slide
from tools.staging import Staging

if TYPE_CHECKING:
    from core_model.features.extract import Progress

Events = Generator[Event[Indexed | SlideFailed], None, None]


@dataclass(frozen=True)
class IndexBatch:
    """One `giant index`: how slides are indexed, and who does the work."""

    plan: IndexPlan
    workers: int | None = None
    """Processes; None: this one, or on a cluster as many as it has CPUs or GPUs."""
    ray: str | None = None
    """Address of a Ray cluster."""
    stage: Path | None = None
    """Folder on a local disk to copy each slide to before it is read."""
    key: Path | None = None
    """A key file: slides go by the pseudonyms that it makes."""

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise UsageError(f"{self.workers} workers cannot work", fix="Give at least 1")
        if self.ray is not None and self.stage is not None:
            raise UsageError(
                "slides cannot be staged for a cluster: its nodes do not see this machine's disk",
                fix="Leave out --stage or --ray",
            )

    def run(
        self, slides: Sequence[Path], watch: Watcher | None = None, progress: Progress | None = None
    ) -> Iterator[Indexed | SlideFailed]:
        """Index each slide; what became of it, as it comes. A slide that fails stops no other.

        `progress` is told of the tiles where this process does the work. Raises `GiantError` where no slide
        could be indexed: no such encoder, a full disk, no cluster.
        """
        watch, named = watch or Nobody(), self._names(slides)
        names = list(named.values())
        jobs = _Jobs(list(named), names if self.key is not None else None)
        with ExitStack() as stack:
            if self.stage is not None:
                jobs.staging = stack.enter_context(Staging(self.stage, jobs.slides))
            events = stack.enter_context(closing(self._events(jobs, progress)))
            for event in events:
                path = jobs.slides[event.job]
                if isinstance(event, Started):
                    watch.started(names[event.job])
                    continue
                jobs.release(event.job)
                made = SlideFailed(path, jobs.lost(event)) if isinstance(event, Lost) else event.value
                if isinstance(made, SlideFailed):
                    watch.ended(names[event.job], made.error, new=False)
                else:
                    watch.ended(names[event.job], str(made), made.new)
                yield made

    def _names(self, slides: Sequence[Path]) -> dict[Path, str]:
        """What each slide is called: its own name, or its pseudonym."""
        out = self.plan.out
        if self.key is None:
            if out is not None:
                claim_folder(out, None, used=False)
            return folder_names(slides)
        if out is None:
            raise UsageError("the cache knows slides by their own names", fix="Give --out DIR")
        key = open_key(self.key, outside=out)
        claim_folder(out, key, used=any(out.glob("features_*")))
        return pseudonyms(key, slides, self.plan.isolate)

    def _events(self, jobs: _Jobs, progress: Progress | None) -> Events:
        plan = _absolute(self.plan)
        if self.ray is not None:
            from agent.batch.ray_workers import on_ray

            return on_ray(partial(index_slide, plan), list(jobs), self.ray, self.workers, gpus=True)
        if self.workers is None:
            return in_this_process(partial(Indexer(plan).index, progress=progress), jobs)
        return in_processes(partial(index_slide, plan), jobs, self.workers, environments())


def environments() -> list[dict[str, str]]:
    """For each GPU of this machine the variables of a worker that has it to itself."""
    from core_model.machine import GPUS, gpu_names

    return [{GPUS: name} for name in gpu_names()]


class _Jobs(LazyJobs[SlideJob]):
    """The slides as jobs; with a staging each is copied when its turn comes."""

    def __init__(self, slides: Sequence[Path], names: Sequence[str] | None) -> None:
        """`names` are pseudonyms; None: the slides go by their own names."""
        self.slides = [from_anywhere(path) for path in slides]
        self.names = names
        self.staging: Staging | None = None

    def __len__(self) -> int:
        return len(self.slides)

    def __getitem__(self, number: int, /) -> SlideJob:
        path = self.slides[number]
        job = SlideJob(path, name=self.names[number] if self.names is not None else None)
        if self.staging is None:
            return job
        try:
            return replace(job, local=self.staging.local(number))
        except GiantError as error:
            return replace(job, error=str(error))

    def __iter__(self) -> Iterator[SlideJob]:
        return (self[number] for number in range(len(self)))

    def lost(self, event: Lost) -> str:
        """Why a slide was given up, in one line that names it."""
        path = self.slides[event.job]
        where = path if self.names is None else self.names[event.job]
        return str(GiantError(event.why, where=where))

    def release(self, number: int) -> None:
        """The slide is done: its copy goes."""
        if self.staging is not None:
            self.staging.release(number)


def _absolute(plan: IndexPlan) -> IndexPlan:
    """The plan with paths that hold wherever a worker runs."""
    out = plan.out.absolute() if plan.out is not None else None
    local = Path(plan.encoder).exists()
    return replace(plan, out=out, encoder=str(Path(plan.encoder).absolute()) if local else plan.encoder)
