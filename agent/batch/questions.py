"""The questions of a report: a list for a local model, one request for a whole report for a chat model.

Another list can be given as a JSON file, for a checkpoint that was trained to answer other questions:
    [{"name": "type", "section": "diagnosis", "question": "Which type?", "options": ["lobular", "ductal"]}]
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from core_model.errors import UsageError
from core_model.records import Record

SectionName = Literal[
    "specimen", "microscopic description", "diagnosis", "grade", "ancillary findings", "limits"
]
SECTIONS: tuple[SectionName, ...] = (
    "specimen",
    "microscopic description",
    "diagnosis",
    "grade",
    "ancillary findings",
    "limits",
)
"""Parts of every report, in order."""
ASKED_OF_MODELS = SECTIONS[1:5]
"""Sections whose sentences come from a model; the others state what was measured."""

NAME = r"[a-z][a-z0-9_]{0,39}"


class ReportQuestion(Record):
    """One question that every report answers."""

    name: str = Field(pattern=f"^{NAME}$")
    """Names the run folder too."""
    section: SectionName
    question: str
    options: tuple[str, ...] | None = None
    says: dict[str, str] = Field(default_factory=dict)
    """The sentence that an option becomes in the report; without one it is the option itself."""
    mode: Literal["agent", "slide"] = "agent"

    @model_validator(mode="after")
    def _whole(self) -> ReportQuestion:
        if self.section not in ASKED_OF_MODELS:
            raise ValueError(f"section '{self.section}' is measured, not asked")
        if unknown := set(self.says) - set(self.options or ()):
            raise ValueError(f"'says' names {sorted(unknown)}, which are no options")
        return self


def _by_degree(name: str, question: str, **sentences: str) -> ReportQuestion:
    """A question on an ancillary finding, whose options are degrees with the sentence that each becomes."""
    options = tuple(sentences)
    return ReportQuestion(
        name=name, section="ancillary findings", question=question, options=options, says=sentences
    )


BUILT_IN = (
    # Over the whole slide only: what is said of regions differs, so words do not pool.
    ReportQuestion(
        name="description",
        section="microscopic description",
        question="Describe this slide.",
        mode="slide",
    ),
    ReportQuestion(
        name="tumour",
        section="diagnosis",
        question="Is there tumour?",
        options=("yes", "no"),
        says={"yes": "Tumour is present.", "no": "No tumour was found."},
    ),
    ReportQuestion(
        name="diagnosis",
        section="diagnosis",
        question="What is the diagnosis?",
        options=(
            "adenocarcinoma",
            "squamous cell carcinoma",
            "papillary carcinoma",
            "small cell carcinoma",
            "benign tissue",
        ),
    ),
    ReportQuestion(
        name="grade",
        section="grade",
        question="What is the grade?",
        options=("grade 1", "grade 2", "grade 3", "no tumour"),
        says={"no tumour": "No grade: no tumour was found."},
    ),
    _by_degree(
        "necrosis",
        "How much necrosis is there?",
        absent="No necrosis was found.",
        focal="Necrosis is focal.",
        extensive="Necrosis is extensive.",
    ),
    _by_degree(
        "lymphocytes",
        "How dense are the lymphocytes?",
        sparse="Lymphocytes are sparse.",
        moderate="Lymphocytes are moderately dense.",
        dense="Lymphocytes are dense.",
    ),
    _by_degree(
        "mitoses",
        "How high is the mitotic activity?",
        low="Mitotic activity is low.",
        moderate="Mitotic activity is moderate.",
        high="Mitotic activity is high.",
    ),
)
"""What the embedded model was trained to say: its own description first, then one finding after another."""

REPORT_QUESTION = """\
Write a structured pathology report on this slide. Make every sentence of it a claim of its own, with the \
steps that show it, and give each claim its section, in exactly these words:
- microscopic description: architecture, cells, stroma, in the order in which a pathologist would tell them
- diagnosis: what it is, or the shortest list of what it may be
- grade: by the system that fits the diagnosis, with its components; or that none applies
- ancillary findings: what else bears on treatment or prognosis, such as necrosis, mitoses, \
lymphocytes, invasion of vessels or nerves, margins where they can be seen
- limits: what this slide cannot show
Nothing is known of patient, site or history: do not suppose it. Leave a section out where what you saw \
does not carry it. Give the diagnosis in a few words as the answer itself."""

REPORT = ReportQuestion(name="report", section="diagnosis", question=REPORT_QUESTION)
"""What a chat model is asked: everything in one run, in which its claims name their sections."""


def read_questions(path: Path) -> tuple[ReportQuestion, ...]:
    """The questions of a JSON file. Raises `UsageError` naming what is wrong with which."""
    try:
        questions = TypeAdapter(tuple[ReportQuestion, ...]).validate_json(path.read_bytes())
    except OSError as error:
        raise UsageError(f"this file cannot be read ({error.strerror})", where=path) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(1 + p) if isinstance(p, int) else str(p) for p in first["loc"])
        raise UsageError(
            f"this file is no list of questions: {place or 'all'}: {first['msg']}",
            where=path,
            fix='Give [{"name": "necrosis", "section": "ancillary findings", "question": "…"}, …]',
        ) from error
    names = [question.name for question in questions]
    if not names or len(set(names)) < len(names):
        fault = "two questions have the same name" if names else "the list holds no question"
        raise UsageError(fault, where=path, fix="Give each question a name of its own")
    return questions


_STEMS: dict[str, SectionName] = {
    "diagnos": "diagnosis",
    "grad": "grade",
    "ancill": "ancillary findings",
    "limit": "limits",
}


def section_of(heading: str | None) -> SectionName:
    """The section that a model meant; what it says of the specimen, it saw through the microscope too."""
    word = (heading or "").casefold().strip()
    sections = (section for stem, section in _STEMS.items() if word.startswith(stem))
    return next(sections, "microscopic description")
