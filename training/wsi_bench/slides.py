"""Which slides make a cohort: what is left out and why, and who is held back."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from core_model.errors import CohortError
from training.wsi_bench.overlap import tcga_patient
from training.wsi_bench.rows import Row


class Pool:
    """Slides in the order of their rows, of which some are left out, each for one reason."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self.slides = list(dict.fromkeys(row.slide for row in rows))
        self.left_out: dict[str, tuple[str, ...]] = {}

    def leave_out(self, why: str, names: Iterable[str]) -> None:
        """Take slides out; a reason that meets nobody is not kept."""
        members = set(names) & set(self.slides)
        if members:
            self.left_out[why] = tuple(name for name in self.slides if name in members)
            self.slides = [name for name in self.slides if name not in members]


def reports_of(rows: Iterable[Row]) -> tuple[dict[str, str], list[str]]:
    """The first report of each slide, and the slides of which a later one says something else."""
    reports: dict[str, str] = {}
    double: dict[str, None] = {}
    for row in rows:
        if row.is_report and reports.setdefault(row.slide, row.turns[0].answer) != row.turns[0].answer:
            double[row.slide] = None
    return reports, list(double)


def divide(slides: Sequence[str], share: float, seed: int, by_patient: bool) -> tuple[list[str], list[str]]:
    """Slides to train on, and about `share` of them held back; in alphabetical order, by patient or slide.

    Who is held back depends on nothing but the seed, the names and how many there are. Raises CohortError
    where one part would be empty.
    """
    groups: dict[str, list[str]] = {}
    for name in sorted(slides):
        groups.setdefault(tcga_patient(name) if by_patient else name, []).append(name)
    target, held_back = max(1, round(share * len(slides))), set[str]()
    # a hash rather than a shuffle: a slide more or less moves few others between the parts
    for group in sorted(groups, key=lambda group: hashlib.sha256(f"{seed} {group}".encode()).digest()):
        if len(held_back) < target:
            held_back.update(groups[group])
    train = [name for name in sorted(slides) if name not in held_back]
    if not train or not held_back:
        raise CohortError(
            f"{len(slides)} slides of {len(groups)} {'patients' if by_patient else 'names'} cannot be divided"
            " into train and val",
            fix="give more training rows, reports or features",
        )
    return train, sorted(held_back)
