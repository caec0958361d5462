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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from agent.batch import manifest
from agent.batch.pages import write_slide_pages
from agent.batch.plan import BatchPlan
from agent.batch.questions import ReportQuestion
from agent.batch.records import SlideReport, Specimen
from agent.batch.sections import QuestionRun, findings, overview_of, report_text, sections
from agent.evidence.coverage import LEVELS, SAME
from agent.llm.redact import Redactor
from agent.run.records import Cost
from core_model.errors import CheckpointError, GiantError, RunError, UsageError, printable
from core_model.files import held, write_json, write_text
from core_model.slides.renamed import Alias

if TYPE_CHECKING:
    from core_model.slides.slide import Slide
    from core_model.slides.tissue import TissueMask

ERROR = "error.txt"


@dataclass(frozen=True)
class Job:
    """One slide, and the name of its folder."""

    path: Path
    name: str
    hidden: bool = False
    """Whether the name is a pseudonym, and nothing that is left may say another."""

    @property
    def alias(self) -> Alias | None:
        """The pseudonym, where it has one."""
        return Alias(self.path, self.name) if self.hidden else None

    @property
    def shown(self) -> str:
        """What the pages say in place of its path."""
        return self.name if self.hidden else printable(str(self.path))

    def text(self, text: str) -> str:
        """A text that the pages may show: without keys, and without the slide's own name if it is hidden."""
        text = Redactor().text(text)
        return text if (alias := self.alias) is None else alias.text(text)


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


def report_slide(plan: BatchPlan, job: Job) -> Reported | Failed:
    """Report on one slide. Raises only `UsageError` and `CheckpointError`: no slide would be spared these."""
    from agent.session.models import quieten_libraries

    quieten_libraries(plan.quiet)
    try:
        return _report(plan, job)
    except (UsageError, CheckpointError):
        raise
    except GiantError as error:
        return Failed(type(error).__name__, job.text(str(error)))
    except Exception as error:  # a bug must not cost a night's reports
        return _bug(plan.out / job.name, job, error)


def _report(plan: BatchPlan, job: Job) -> Reported:
    from core_model.slides.slide import open_slide
    from core_model.slides.tissue import find_tissue

    folder = plan.out / job.name
    mpp, override, name = plan.ask.mpp, plan.ask.mpp_override, job.name if job.hidden else None
    with open_slide(job.path, mpp, override, isolate=plan.isolates, name=name) as slide:
        subject = manifest.Begun(slide=manifest.slide_file(slide), settings=plan.settings())
        if (report := _complete(folder, subject)) is not None:
            return Reported(report, new=False)
        open_plan, tissue = plan.opened(), find_tissue(slide)  # a blank slide leaves no folder
        with held(folder, wait=True):  # only what a dying worker left can hold it
            if (report := _complete(folder, subject)) is not None:
                return Reported(report, new=False)
            manifest.prepare(folder, subject)
            runs = [_answered(open_plan, question, slide, folder) for question in plan.report_questions]
            report = _report_of(job.name, slide, tissue, runs)
            write_slide_pages(folder, report)
            write_json(folder / manifest.REPORT, report)
            (folder / ERROR).unlink(missing_ok=True)
            manifest.complete(folder, subject, report.giant)
    return Reported(report, new=True)


def _complete(folder: Path, subject: manifest.Begun) -> SlideReport | None:
    """The report of a folder that is complete; None where there is work to do."""
    if not manifest.is_complete(folder, subject):
        return None
    try:
        return SlideReport.model_validate_json((folder / manifest.REPORT).read_bytes())
    except (OSError, ValidationError):
        return None  # of another version


def _answered(plan: BatchPlan, question: ReportQuestion, slide: Slide, folder: Path) -> QuestionRun:
    """One question through the agent, going on where a run was interrupted.

    A run folder that cannot be gone on with is set aside, and the question asked anew.
    """
    from agent.session.ask import ask_with

    run = folder / question.name
    options = replace(plan.options(question), out=run)
    is_begun = run.exists()
    try:
        ask_with(slide, question.question, options)
    except RunError:
        if not is_begun:
            raise
        manifest.set_aside(folder, [question.name])
        ask_with(slide, question.question, options)
    return QuestionRun.read(question, run)


def _report_of(name: str, slide: Slide, tissue: TissueMask, runs: Sequence[QuestionRun]) -> SlideReport:
    specimen = Specimen(
        id=slide.id,
        width=slide.width,
        height=slide.height,
        mpp=slide.mpp,
        mpp_source=slide.mpp_source,
        mpp_x=None if slide.square else slide.mpp_x,
        mpp_y=None if slide.square else slide.mpp_y,
        tissue_mm2=round(tissue.area_mm2, 4),
        pieces=len(tissue.boxes()),
        unreadable=round(float(tissue.unknown.mean()), 4),
        **_seen(slide, tissue),
        warnings=list(slide.warnings),
    )
    coverage = _coverage(runs, tissue)
    parts, overview = sections(runs, specimen, coverage), overview_of(runs)
    model = runs[0].record.model
    return SlideReport(
        slide=name,
        report=report_text(parts),
        sections=parts,
        findings=findings(runs),
        specimen=specimen,
        coverage=coverage,
        overview=overview[0] if overview else None,
        model=f"{model.name} {model.version}".strip(),
        giant=runs[0].record.giant,
        cost=Cost.total([run.answer.cost for run in runs]),
    )


def _seen(slide: Slide, tissue: TissueMask) -> dict[str, Any]:
    """What lies on the slide, and how well it can be seen: fields of `Specimen`."""
    from core_model.specimen.folds import find_folds
    from core_model.specimen.quality import find_quality
    from core_model.specimen.sections import find_layout, share_of

    layout = find_layout(tissue)
    return {
        "sections": max(1, len(layout.parts)) if layout.kind == "section" else 1,
        "cores": len(layout.parts) if layout.kind == "core" else 0,
        "out_of_focus": round(find_quality(slide, tissue).blurred_share, 4),
        "folded": round(share_of(find_folds(slide, tissue), tissue), 4),
    }


def _coverage(runs: Sequence[QuestionRun], tissue: TissueMask) -> dict[str, float]:
    """Share of the tissue that was shown in any of the runs, at each resolution or finer."""
    looks = [step.observation for run in runs for step in run.steps.values()]
    regions = [(look.box, look.mpp) for look in looks if look.image and look.box and look.mpp]
    return {
        str(level): round(tissue.covered(box for box, mpp in regions if mpp <= level * SAME), 4)
        for level in LEVELS
    }


def _bug(folder: Path, job: Job, error: Exception) -> Failed:
    text = "".join(traceback.format_exception(error))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / ERROR, job.text(text))
        where = f" (see {folder.name}/{ERROR})"
    except (OSError, RunError):
        where = ""  # the disk is full, say: the line in failures.csv has to do
    first = str(error).strip().splitlines()
    return Failed(type(error).__name__, job.text(f"bug: {first[0] if first else 'no message'}{where}"))
