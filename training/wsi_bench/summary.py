"""The summary of a cohort made of WSI-Bench: what was read, what it holds, what was left out and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from training.wsi_bench.overlap import Overlap

SHOWN = 5
"""Names that are told in words; summary.json has them all."""


Role = Literal["train", "test", "reports"]
"""What a file was read for."""


class FileSummary(BaseModel):
    """One file that was read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Role
    file: str
    rows: int
    """Rows that are as they should be."""
    malformed: int
    double_ids: int
    """Rows whose id an earlier row of the file has."""

    def line(self) -> str:
        return (
            f"{self.role} {self.file}: {self.rows:,} rows, {self.malformed:,} malformed,"
            f" {self.double_ids:,} ids repeated"
        )


class Summary(BaseModel):
    """summary.json of a cohort made of WSI-Bench's files."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    seed: int
    by_patient: bool
    files: tuple[FileSummary, ...]
    malformed: tuple[str, ...]
    """Rows that were left out, with the reason."""
    double_pairs: int
    """Conversations about a slide that stand in the training files more than once. They are kept."""
    slides: int
    """In the training files."""
    overlap: Overlap
    kept_overlap: bool
    """Whether slides that the test files share are trained on."""
    left_out: dict[str, tuple[str, ...]]
    """Slides by reason."""
    train: int
    val: int
    test: int
    """Slides of each split."""
    conversations: int
    """Of the slides of train and val."""
    conversations_left: int
    """Of slides that were left out."""
    reports_left: int
    """Reports of slides that the cohort does not have."""
    double_reports: tuple[str, ...]
    """Slides with reports that differ, of which the first is taken."""
    val_questions: int
    test_questions: int
    """In questions.csv."""
    open_test_questions: int
    """Without options, so not in questions.csv."""
    unusable_questions: tuple[str, ...]
    """With options, but not in questions.csv, with the reason."""
    links: dict[str, int]
    """Feature files by kind."""

    def lines(self) -> list[str]:
        """The summary in words."""
        sentences = [file.line() for file in self.files]
        if self.malformed:
            sentences.append(f"left out {counted(self.malformed, 'malformed row')}")
        if self.double_pairs:
            sentences.append(f"conversations that repeat an earlier one, kept: {self.double_pairs:,}")
        if self.overlap.test_slides:
            sentences += self.overlap.lines()
            if self.kept_overlap and self.overlap.slides:
                sentences.append("these are trained on: figures measured on them say nothing of new slides")
        sentences += [f"left out {counted(names, 'slide', why)}" for why, names in self.left_out.items()]
        if self.double_reports:
            sentences.append(
                f"took the first of {counted(self.double_reports, 'slide', 'with several reports')}"
            )
        return [*sentences, *self._contents()]

    def _contents(self) -> list[str]:
        slide_count = self.train + self.val
        disjoint = "no patient" if self.by_patient else "no slide"
        sentences = [
            f"{slide_count:,} of {self.slides:,} slides of the training files: {self.train:,} train,"
            f" {self.val:,} val ({disjoint} in both, seed {self.seed}); {self.test:,} test slides",
            f"{self.conversations:,} conversations, {self.conversations_left:,} more about slides left out;"
            f" {slide_count:,} reports, {self.reports_left:,} more about other slides",
            f"questions.csv: {self.val_questions:,} about val, {self.test_questions:,} about test slides;"
            f" {self.open_test_questions:,} open test questions have no options and are not in it",
        ]
        if self.unusable_questions:
            sentences.append(f"not in questions.csv: {counted(self.unusable_questions, 'question')}")
        link_counts = " and ".join(f"{kind} of {count:,}" for kind, count in self.links.items())
        return [*sentences, f"links to {link_counts} slides"]


def counted(names: Sequence[str], thing: str, why: str = "") -> str:
    """The number of names and the first of them: "2 slides without a report (a; b)"."""
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    noun = f"{thing}{'s' * (len(names) != 1)} {why}".strip()
    return f"{len(names):,} {noun} ({'; '.join(names[:SHOWN])}{more})"
