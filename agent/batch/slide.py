"""One slide of a batch: its questions through the agent, then report, pages and manifest in its folder.

OUT/<slide>/<question>/     a run folder for each question, as `ask` leaves it
OUT/<slide>/report.json, report.html, report.md, thumbnail.jpg
OUT/<slide>/begun.json, manifest.json     see `agent.manifest`
OUT/<slide>/error.txt       the traceback, where a bug ended it

A worker runs this for one slide after another. It keeps its models, and leaves everything above the slide's
folder to the driver.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from agent.batch import manifest
from agent.batch.pages import write_slide_pages
from agent.batch.plan import Plan
from agent.batch.questions import Asked
from agent.batch.records import SlideReport, Specimen
from agent.batch.sections import Told, findings, in_words, overview_of, sections
from agent.evidence.coverage import LEVELS, SAME
from agent.llm.redact import Redactor
from agent.run.records import Cost
from core_model.atomic import write_json, write_text
from core_model.errors import CheckpointError, GiantError, RunError, UsageError
from core_model.locks import held

if TYPE_CHECKING:
    from core_model.slides.slide import Slide
    from core_model.slides.tissue import TissueMask

ERROR = "error.txt"


@dataclass(frozen=True)
class Job:
    """One slide, and the name of its folder."""

    path: Path
    name: str


@dataclass(frozen=True)
class Reported:
    """A slide that has its report."""

    report: SlideReport
    new: bool
    """False where it was complete already."""


@dataclass(frozen=True)
class Failed:
    """A slide that has none, and why."""

    kind: str
    """Class of the error."""
    error: str


def report_slide(plan: Plan, job: Job) -> Reported | Failed:
    """Report on one slide. Raises only `UsageError` and `CheckpointError`: no slide would be spared these."""
    from agent.session.models import quieten_libraries

    quieten_libraries(plan.quiet)
    try:
        return _report(plan, job)
    except (UsageError, CheckpointError):
        raise
    except GiantError as error:
        return Failed(type(error).__name__, Redactor().text(str(error)))
    except Exception as error:  # a bug must not cost a night's reports
        return _bug(plan.out / job.name, error)


def _report(plan: Plan, job: Job) -> Reported:
    from core_model.slides.slide import open_slide
    from core_model.slides.tissue import find_tissue

    folder = plan.out / job.name
    with open_slide(job.path, plan.mpp) as slide:
        about = manifest.Begun(slide=manifest.slide_file(slide), settings=plan.settings())
        if (kept := _complete(folder, about)) is not None:
            return Reported(kept, new=False)
        models, tissue = plan.opened(), find_tissue(slide)  # a blank slide leaves no folder
        with held(folder, wait=True):  # only what a dying worker left can hold it
            if (kept := _complete(folder, about)) is not None:
                return Reported(kept, new=False)
            manifest.prepare(folder, about)
            told = [_told(plan, asked, slide, folder, models) for asked in plan.asked]
            made = _written(job.name, slide, tissue, told)
            write_slide_pages(folder, made)
            write_json(folder / manifest.REPORT, made)
            (folder / ERROR).unlink(missing_ok=True)
            manifest.complete(folder, about, made.giant)
    return Reported(made, new=True)


def _complete(folder: Path, about: manifest.Begun) -> SlideReport | None:
    """The report of a folder that is complete; None where there is work to do."""
    if not manifest.is_complete(folder, about):
        return None
    try:
        return SlideReport.model_validate_json((folder / manifest.REPORT).read_bytes())
    except (OSError, ValidationError):
        return None  # of another version


def _told(plan: Plan, asked: Asked, slide: Slide, folder: Path, models: dict[str, Any]) -> Told:
    """One question through the agent, going on where a run was interrupted.

    A run folder that cannot be gone on with is set aside, and the question asked anew.
    """
    from agent.session.ask import ask

    run, options = folder / asked.name, plan.options(asked) | models
    begun = run.exists()
    try:
        ask(slide, asked.question, out=run, **options)
    except RunError:
        if not begun:
            raise
        manifest.set_aside(folder, [asked.name])
        ask(slide, asked.question, out=run, **options)
    return Told.read(asked, run)


def _written(name: str, slide: Slide, tissue: TissueMask, told: Sequence[Told]) -> SlideReport:
    specimen = Specimen(
        id=slide.id,
        width=slide.width,
        height=slide.height,
        mpp=slide.mpp,
        mpp_source=slide.mpp_source,
        tissue_mm2=round(tissue.area_mm2, 4),
        pieces=len(tissue.boxes()),
        unreadable=round(float(tissue.unknown.mean()), 4),
    )
    coverage = _coverage(told, tissue)
    parts, overview = sections(told, specimen, coverage), overview_of(told)
    model = told[0].run.model
    return SlideReport(
        slide=name,
        report=in_words(parts),
        sections=parts,
        findings=findings(told),
        specimen=specimen,
        coverage=coverage,
        overview=overview[0] if overview else None,
        model=f"{model.name} {model.version}".strip(),
        giant=told[0].run.giant,
        cost=_cost([one.answer.cost for one in told]),
    )


def _coverage(told: Sequence[Told], tissue: TissueMask) -> dict[str, float]:
    """Share of the tissue that was shown in any of the runs, at each resolution or finer."""
    looks = [step.observation for one in told for step in one.steps.values()]
    seen = [(look.box, look.mpp) for look in looks if look.image and look.box and look.mpp]
    return {
        str(level): round(tissue.covered(box for box, mpp in seen if mpp <= level * SAME), 4)
        for level in LEVELS
    }


def _cost(costs: Sequence[Cost]) -> Cost:
    total: dict[str, Any] = {
        name: sum(getattr(cost, name) for cost in costs)
        for name in ("seconds", "regions", "pixels", "tokens_in", "tokens_out", "calls")
    }
    paid = [cost.usd for cost in costs if cost.calls]
    known = [usd for usd in paid if usd is not None]
    return Cost(
        **total | {"seconds": round(total["seconds"], 3)},
        usd=sum(known) if paid and len(known) == len(paid) else None,
    )


def _bug(folder: Path, error: Exception) -> Failed:
    redacted, told = Redactor(), "".join(traceback.format_exception(error))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / ERROR, redacted.text(told))
        where = f" (see {folder.name}/{ERROR})"
    except (OSError, RunError):
        where = ""  # the disk is full, say: the line in failures.csv has to do
    first = str(error).strip().splitlines()
    return Failed(type(error).__name__, redacted.text(f"bug: {first[0] if first else 'no message'}{where}"))
