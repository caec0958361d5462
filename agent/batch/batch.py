"""Many slides: each is reported on in a worker, and the driver keeps the pages that list them all.

OUT/<slide>/        what `agent.batch_slide` leaves
OUT/index.html, OUT/reports.jsonl, OUT/failures.csv      written by the driver alone, after each slide

    slides ──> jobs ──> workers (processes, or a Ray cluster) ──> results as they come ──> pages, in order
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from agent.batch.pages import FAILURES, REPORTS, Done, Failure, write_index
from agent.batch.plan import BatchPlan
from agent.batch.slide import Failed, Job, Reported, report_slide
from agent.batch.workers import Event, Lost, Started, in_processes, in_this_process
from agent.session.options import LOCAL_MODEL
from core_model.errors import RunError, UsageError
from core_model.files import held
from core_model.slides.discover import Slides, slides_under
from core_model.slides.parts import SUFFIXES, Skipped, from_anywhere, slide_name

SLOW_PAGES = 0.1
"""Seconds that the pages may take before they are written less often than after each slide."""


def find_slides(paths: Sequence[str]) -> Slides:
    """The slides named, and those in the folders named and below, as `slides_under` finds them.

    Raises `UsageError` for a folder without slides, and where nothing is left.
    """
    found: dict[Path, None] = {}
    skipped: list[Skipped] = []
    for path in paths:
        slides = slides_under([path])
        if not slides.paths and Path(path).is_dir():
            fix = " ".join(slides.summary(3)) or f"Slides end in {' '.join(SUFFIXES)}"
            raise UsageError("this folder holds no slides", where=path, fix=fix)
        found |= dict.fromkeys(slides.paths)
        skipped += slides.skipped
    if not found:
        raise UsageError("none of these is a slide", fix=" ".join(Slides([], skipped).summary(3)))
    return Slides(list(found), skipped)


def folder_names(slides: Sequence[Path]) -> dict[Path, str]:
    """A folder name for each slide: its name; where names are equal, with a part of a hash of its path."""
    names = {path: slide_name(path) for path in slides}
    counts = Counter(name.casefold() for name in names.values())
    return {
        path: name if counts[name.casefold()] == 1 else f"{name}-{_path_digest(path)}"
        for path, name in names.items()
    }


def _path_digest(path: Path) -> str:
    return hashlib.sha256(os.fsencode(from_anywhere(path))).hexdigest()[:8]


class Watcher(Protocol):
    """Follows a batch: which slides were started, and what became of them."""

    def started(self, name: str) -> None:
        """A worker has taken up a slide."""

    def ended(self, name: str, message: str, new: bool) -> None:
        """A slide is done; or (not `new`) it failed, or was complete already."""


class Nobody:
    """Watches nothing."""

    def started(self, name: str) -> None:
        """Nobody is watching."""

    def ended(self, name: str, message: str, new: bool) -> None:
        """Nobody is watching."""


Events = Generator[Event[Reported | Failed], None, None]


@dataclass(frozen=True)
class Batch:
    """One `giant report`: what is asked, and who does the work."""

    plan: BatchPlan
    workers: int | None = None
    """Slides at once; by default 1, and on a cluster as many as it has CPUs."""
    ray: str | None = None
    """Address of a Ray cluster; without one the workers are processes of this machine."""
    resume: bool = False
    """Go on in a folder that holds reports on these slides."""
    key: Path | None = None
    """A key file: slides go by the pseudonyms that it makes."""

    def run(self, slides: Sequence[Path], watch: Watcher | None = None) -> tuple[int, int]:
        """Report on each slide; returns how many are reported and how many failed.

        A slide that fails is listed and stops nothing. Raises `RunError` where the folder is in use, cannot
        be written, or holds reports already; `UsageError`, `CheckpointError` and other `GiantError`s where
        no slide could be asked about. A loaded model cannot be sent: with one the work is done here.
        """
        if self.workers is not None and self.workers < 1:
            raise UsageError(f"{self.workers} workers cannot work", fix="Give at least 1")
        plan = _absolute(self.plan)
        plan.check(locally=self.ray is None)
        out, names = plan.out, self._names(slides, plan)
        if not self.resume and any((out / name).exists() for name in names.values()):
            raise RunError(
                "the folder already holds reports on these slides",
                where=out,
                fix="Add --resume, or choose another --out",
            )
        hidden = self.key is not None
        jobs = [Job(from_anywhere(path), name, hidden) for path, name in names.items()]
        with held(out, wait=False):
            ledger = _Ledger(out, jobs, watch or Nobody())
            try:
                with closing(self._events(plan, jobs)) as events:  # else workers would be left behind
                    for event in events:
                        ledger.hear(event)
            finally:
                ledger.write()
        return len(ledger.done), len(ledger.failed)

    def _names(self, slides: Sequence[Path], plan: BatchPlan) -> dict[Path, str]:
        """A folder name for each slide: its own, or its pseudonym."""
        from core_model.privacy.key import claim_folder, open_key, pseudonyms

        if self.key is None:
            claim_folder(plan.out, None, used=False)
            return folder_names(slides)
        key = open_key(self.key, outside=plan.out)
        claim_folder(plan.out, key, used=any((plan.out / name).exists() for name in (REPORTS, FAILURES)))
        return pseudonyms(key, slides, plan.isolates)

    def _events(self, plan: BatchPlan, jobs: Sequence[Job]) -> Events:
        work = partial(report_slide, plan)
        if self.ray is not None:
            from agent.batch.ray_workers import on_ray

            return on_ray(work, jobs, self.ray, self.workers)
        if not isinstance(plan.ask.model, str | Path):
            return in_this_process(work, jobs)
        return in_processes(work, jobs, self.workers or 1)


def _absolute(plan: BatchPlan) -> BatchPlan:
    """The plan with paths that hold wherever a worker runs."""
    models = {name: getattr(plan.ask, name) for name in ("model", "slide_model")}
    paths: dict[str, Any] = {
        name: Path(model).absolute()
        for name, model in models.items()
        if isinstance(model, str | Path) and str(model) != LOCAL_MODEL and Path(model).is_dir()
    }
    if plan.ask.prices is not None:
        paths["prices"] = Path(plan.ask.prices).absolute()
    return replace(plan, out=plan.out.absolute(), ask=replace(plan.ask, **paths))


@dataclass
class _Ledger:
    """The slides that are done or failed so far, and the pages that list them."""

    out: Path
    jobs: Sequence[Job]
    watch: Watcher
    clock: Callable[[], float] = time.monotonic
    done: dict[int, Done] = field(default_factory=dict)
    failed: dict[int, Failure] = field(default_factory=dict)
    _took: float = 0.0
    _written: float = 0.0

    def hear(self, event: Event[Reported | Failed]) -> None:
        """Take in what a worker has to say."""
        job = self.jobs[event.job]
        if isinstance(event, Started):
            self.watch.started(job.name)
            return
        result = Failed("WorkerLost", event.why) if isinstance(event, Lost) else event.value
        if isinstance(result, Failed):
            failure = Failure(job.name, job.shown, result.kind, result.error)
            self.failed[event.job], message, new = failure, result.error, False
        else:
            self.done[event.job], new = Done(job.shown, result.report), result.new
            message = "reported" if new else "complete already"
        # With thousands of slides the pages grow long: at most a tenth of the time goes into them.
        if self._took < SLOW_PAGES or self.clock() - self._written > 9 * self._took:
            self.write()
        self.watch.ended(job.name, message, new)

    def write(self) -> None:
        """The pages, in the order in which the slides were given; none where nothing is known yet."""
        if not self.done and not self.failed:
            return
        start = self.clock()
        reports = [self.done[number] for number in sorted(self.done)]
        failures = [self.failed[number] for number in sorted(self.failed)]
        write_index(self.out, reports, failures, len(self.jobs))
        self._written = self.clock()
        self._took = self._written - start
