"""Which test slides, and whose patients, a model has already seen in training.

WSI-Bench's training and test files, as published, share most of their slides; the paper's split does not.
A figure measured on slides that were trained on says little.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict

SHOWN = 3
"""Names that are told."""
_BARCODE = re.compile(r"TCGA-[0-9A-Z]{2}-[0-9A-Z]{4}", re.IGNORECASE)


def tcga_patient(slide: str) -> str:
    """A TCGA barcode's first three fields; any other slide stands for a patient of its own."""
    barcode = _BARCODE.match(slide)
    return barcode.group().upper() if barcode else slide


class Overlap(BaseModel):
    """The slides and patients that test and training files have in common."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    slides: tuple[str, ...]
    """Test slides that also occur in the training files, in alphabetical order."""
    test_slides: int
    patients: tuple[str, ...]
    """Test patients that also occur in the training files, by the same or another slide."""
    test_patients: int

    def lines(self) -> list[str]:
        """In words, with the first names."""
        return [
            _told(self.slides, self.test_slides, "slide"),
            _told(self.patients, self.test_patients, "patient"),
        ]


def find_overlap(train: Iterable[str], test: Iterable[str]) -> Overlap:
    """Compare slide names."""
    train, test = set(train), set(test)
    patients, test_patients = (
        {tcga_patient(slide) for slide in train},
        {tcga_patient(slide) for slide in test},
    )
    return Overlap(
        slides=tuple(sorted(train & test)),
        test_slides=len(test),
        patients=tuple(sorted(patients & test_patients)),
        test_patients=len(test_patients),
    )


def _told(common: tuple[str, ...], of: int, noun: str) -> str:
    if not common:
        return f"no test {noun} of {of:,} occurs in the training files"
    more = f" and {len(common) - SHOWN:,} more" if len(common) > SHOWN else ""
    names = f"{', '.join(common[:SHOWN])}{more}"
    return f"{len(common):,} of {of:,} test {noun}s also occur in the training files: {names}"
