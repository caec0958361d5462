"""Many slides, one after another: for each a structured report, and pages that list them all.

OUT/<slide>/<finding>/     a run folder for each question, as `ask` leaves it
OUT/<slide>/report.json    the slide's report, written last: a slide that has it is complete
OUT/<slide>/report.html
OUT/index.html, OUT/reports.jsonl, OUT/failures.csv
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from agent.batch_pages import Failure, Finding, SlideReport, in_words, render, write_pages
from agent.records import Answer
from agent.trace import read_trace, write_json, write_text
from core_model.errors import GiantError, RunError, UsageError

if TYPE_CHECKING:
    from core_model.extract import Progress
    from core_model.slide import Slide

SUFFIXES = (
    *(".svs", ".tif", ".tiff", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".czi", ".dcm"),
    *(".svslide", ".png", ".jpg", ".jpeg"),
)
"""Files of a folder that are taken for slides."""

REPORT = "report.json"


@dataclass(frozen=True)
class Asked:
    """One question that every report answers."""

    name: str
    question: str
    options: tuple[str, ...] | None = None
    mode: str = "agent"


ASKED = (
    Asked("description", "Describe this slide.", mode="slide"),  # regions differ, so words do not pool
    Asked("tumour", "Is there tumour?", ("yes", "no")),
    Asked(
        "diagnosis",
        "What is the diagnosis?",
        (
            "adenocarcinoma",
            "squamous cell carcinoma",
            "papillary carcinoma",
            "small cell carcinoma",
            "benign tissue",
        ),
    ),
    Asked("grade", "What is the grade?", ("grade 1", "grade 2", "grade 3", "no tumour")),
    Asked("necrosis", "How much necrosis is there?", ("absent", "focal", "extensive")),
    Asked("lymphocytes", "How dense are the lymphocytes?", ("sparse", "moderate", "dense")),
    Asked("mitoses", "How high is the mitotic activity?", ("low", "moderate", "high")),
)
"""What the embedded model was trained to say: its own description first, then one finding after another."""


def find_slides(given: Sequence[str]) -> list[Path]:
    """The slides named, and those of the folders named (not of folders inside them), each once.

    A path that is no folder is kept as it is: opening it will say what is wrong. Raises `UsageError` for
    a folder without slides.
    """
    found: dict[Path, None] = {}
    for item in map(Path, given):
        if not item.is_dir():
            found[item] = None
            continue
        inside = [p for p in sorted(item.iterdir()) if p.suffix.lower() in SUFFIXES and p.is_file()]
        inside = [p for p in inside if not p.name.startswith(".")]
        if not inside:
            raise UsageError("holds no slides", where=item, fix=f"Slides end in {' '.join(SUFFIXES)}")
        found |= dict.fromkeys(inside)
    return list(found)


def folder_names(slides: Sequence[Path]) -> dict[Path, str]:
    """A folder name for each slide: its stem; where stems are equal, with a part of a hash of its path."""
    stems = Counter(path.stem for path in slides)
    return {
        path: path.stem
        if stems[path.stem] == 1
        else f"{path.stem}-{hashlib.sha256(str(path.absolute()).encode()).hexdigest()[:8]}"
        for path in slides
    }


@dataclass
class Batch:
    """One `giant report`: where it goes and how each slide is asked."""

    out: Path
    model: Any = "mini"
    max_steps: int = 16
    seed: int = 0
    mpp: float | None = None
    resume: bool = False

    def run(
        self,
        slides: Sequence[Path],
        progress: Progress | None = None,
        say: Callable[[str], None] | None = None,
    ) -> tuple[int, int]:
        """Report on each slide; returns how many are reported and how many failed.

        The pages are written anew after every slide. Raises `RunError` where `out` is in use or cannot be
        written, and `CheckpointError` for a model that cannot be loaded; a slide that fails is listed.
        """
        from core_model import load_model

        names = folder_names(slides)
        complete = {path: self._complete(path, name) for path, name in names.items()}
        if not self.resume and any((self.out / name).exists() for name in names.values()):
            raise RunError(
                "already holds reports on these slides",
                where=self.out,
                fix="Add --resume, or choose another --out",
            )
        model = load_model(self.model) if isinstance(self.model, str | Path) else self.model
        reports: list[SlideReport] = []
        failures: list[Failure] = []
        for number, (path, name) in enumerate(names.items(), 1):
            try:
                made = complete[path] or self._report(path, name, model, progress)
            except GiantError as error:
                failures.append(Failure(name, str(path), str(error)))
            else:
                reports.append(made)
            write_pages(self.out, reports, failures)
            if say:
                failed = failures and failures[-1].path == str(path)
                say(f"{number}/{len(slides)} {failures[-1].error if failed else f'{name}: reported'}")
        return len(reports), len(failures)

    def _complete(self, path: Path, name: str) -> SlideReport | None:
        """The report of a slide that is complete and is of this file; None where it is to be done."""
        file = self.out / name / REPORT
        if not file.is_file():
            return None
        try:
            found = SlideReport.model_validate_json(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, ValidationError):
            return None  # damaged: the slide is reported on again from its run folders
        return found if found.path == str(path.absolute()) else None

    def _report(self, path: Path, name: str, model: Any, progress: Progress | None) -> SlideReport:
        from core_model.slide import open_slide

        with open_slide(path, self.mpp) as slide:
            answers = dict(self._answers(slide, self.out / name, model, progress))
        facts = next(iter(answers.values())).slide
        findings = [_finding(asked, answer) for asked, answer in answers.items()]
        made = SlideReport(
            slide=name,
            path=str(path.absolute()),
            report=in_words(findings),
            findings=findings,
            facts=facts,
            model=f"{model.name} {model.version}",
        )
        write_text(self.out / name / "report.html", render("slide.html.j2", made=made))
        write_json(self.out / name / REPORT, made)
        return made

    def _answers(
        self, slide: Slide, folder: Path, model: Any, progress: Progress | None
    ) -> Iterator[tuple[Asked, Answer]]:
        """Each question through the agent; runs of an interrupted batch are gone on with."""
        from agent.session import ask

        for asked in ASKED:
            yield (
                asked,
                ask(
                    slide,
                    asked.question,
                    options=asked.options,
                    model=model,
                    mpp=self.mpp,
                    mode=asked.mode,
                    max_steps=self.max_steps,
                    seed=self.seed,
                    out=folder / asked.name,
                    resume=self.resume,
                    progress=progress,
                ),
            )


def _finding(asked: Asked, answer: Answer) -> Finding:
    return Finding(
        name=asked.name,
        said=answer.choice or _own_words(Path(answer.run_dir)) or answer.answer,
        answer=answer.answer,
        choice=answer.choice,
        confidence=answer.confidence,
        abstained=answer.abstained,
        reason=answer.reason,
        run=asked.name,
    )


def _own_words(run: Path) -> str | None:
    """What the model said of the whole slide, without what the agent says about it."""
    said = (step.observation.data.get("answer") for step in read_trace(run))
    return next((str(words) for words in said if words), None)
