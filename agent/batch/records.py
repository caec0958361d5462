"""The report on one slide, as `report.json` and as a line of `reports.jsonl`.

Boxes are level-0 px; images are paths relative to the slide's folder.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from agent.batch.questions import SectionName
from agent.run.records import Cost
from core_model.records import Record
from tools.records import SolidBox


class Cited(Record):
    """A step that a sentence rests on, with what it showed where."""

    run: str
    """Run folder, relative to the slide's folder."""
    step: int
    tool: str
    box: SolidBox | None
    mpp: float | None
    image: str | None
    finding: str


class Sentence(Record):
    """One sentence with its evidence."""

    text: str
    seen: str | None = None
    """How much of the tissue was seen, where the text says that something is absent."""
    run: str | None = None
    """Run folder of the question it answers; None where it states what was measured or counted."""
    confidence: float | None = None
    """Of the answer that it belongs to; None where nothing was asked."""
    evidence: list[Cited] = Field(default_factory=list)
    abstained: bool = False
    """True where the sentence says that there is no answer."""
    why: str | None = None
    """Then: the reason."""
    against: bool = False
    """True where it speaks against the answer given."""
    unsupported: str | None = None
    """What the evidence check found wrong with it; None where it stands."""
    unchecked: str | None = None
    """Why what it says was not checked; None where it was."""

    @property
    def whole(self) -> str:
        """Text, and what belongs to it."""
        return " ".join(part for part in (self.text, self.seen, self.why) if part)


class Section(Record):
    """One part of the report."""

    name: SectionName
    sentences: list[Sentence]


class Finding(Record):
    """The outcome of one question."""

    name: str
    section: SectionName
    said: str
    """The option chosen, or the model's own words."""
    choice: str | None
    confidence: float
    abstained: bool
    reason: str | None
    """Why it abstained, or what limits the answer."""


class Specimen(Record):
    """Measurements of the slide; never what a label or a file name says."""

    id: str
    width: int
    height: int
    mpp: float
    mpp_source: str
    mpp_x: float | None = None
    mpp_y: float | None = None
    """µm per level-0 px along x and y where pixels are not square; else None, and `mpp` is both."""
    tissue_mm2: float
    pieces: int
    """Connected pieces of tissue."""
    unreadable: float
    """Share of the slide that does not decode."""
    sections: int = 1
    """Sections that the pieces form."""
    cores: int = 0
    """Cores of a tissue microarray; 0 where the slide is none."""
    out_of_focus: float = 0.0
    """Share of the tissue."""
    folded: float = 0.0
    """Share of the tissue."""
    warnings: list[str] = Field(default_factory=list)
    """What contradicts in what the file states, a sentence each."""

    @property
    def sides(self) -> tuple[float, float]:
        """µm per level-0 px along x and y."""
        return self.mpp_x or self.mpp, self.mpp_y or self.mpp


class Overview(Record):
    """The image of the scanned part that a run left, and which part of the image is that."""

    image: str
    width_px: int
    height_px: int
    box: SolidBox
    """The scanned part, in level-0 px."""


class SlideReport(Record):
    """The report on one slide."""

    version: Literal[2] = 2
    slide: str
    """Name of its folder: the file's stem where no other slide has it."""
    report: str
    """The whole report in words."""
    sections: list[Section]
    """All six, in order."""
    findings: list[Finding]
    """One for each question asked."""
    specimen: Specimen
    coverage: dict[str, float]
    """Share of the tissue shown in all runs together, at an mpp no coarser than the key."""
    overview: Overview | None
    model: str
    """Name and version of who answered."""
    giant: str
    cost: Cost

    def section(self, name: SectionName) -> Section:
        """One part by name."""
        return next(section for section in self.sections if section.name == name)

    @property
    def unanswered(self) -> list[Sentence]:
        """Sentences that say that there is no answer."""
        return [s for section in self.sections for s in section.sentences if s.abstained]

    @property
    def unsupported(self) -> list[Sentence]:
        """Sentences that the evidence does not carry."""
        return [s for section in self.sections for s in section.sentences if s.unsupported]
