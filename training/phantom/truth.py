"""What a procedural slide truly shows, for the whole slide and for any box of it.

The generator records where it drew what on a grid of cells of about 16 µm: the zone of each cell and the
number of lymphocytes and mitoses whose centre lies in it. Every description, whether of a slide or of one
tile, is computed from these maps with the same thresholds. The sampled classes keep clear of the
thresholds (see `spec.py`), so that a slide never lies on a border.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from core_model.errors import BoxError, CohortError
from core_model.files import replacing

DIAGNOSES = (
    "adenocarcinoma",
    "squamous cell carcinoma",
    "papillary carcinoma",
    "small cell carcinoma",
    "benign tissue",
)
BENIGN = "benign tissue"
NECROSIS_LEVELS = ("absent", "focal", "extensive")
LYMPHOCYTE_LEVELS = ("sparse", "moderate", "dense")
MITOSIS_LEVELS = ("low", "moderate", "high")

NECROSIS_BORDERS = (0.015, 0.18)
"""Shares of necrosis in (tumour + necrosis) that part absent | focal | extensive."""
LYMPHOCYTE_BORDERS = (300.0, 1150.0)
"""Lymphocytes per mm² of living tissue that part sparse | moderate | dense."""
MITOSIS_BORDERS = (12.0, 50.0)
"""Mitoses per mm² of living tumour that part low | moderate | high."""
TUMOUR_PRESENT = 0.05
"""A box whose tissue holds a smaller share of tumour than this is described as benign."""

Mask = npt.NDArray[np.bool_]


class Zone(IntEnum):
    """Values of the label map."""

    GLASS = 0
    STROMA = 1
    NORMAL_GLAND = 2
    TUMOUR = 3
    NECROSIS = 4
    FAT = 5


def level_of(value: float, borders: tuple[float, float], words: tuple[str, str, str]) -> str:
    """The word for a value: the first below the first border, the last from the second border on."""
    return words[int(np.searchsorted(borders, value, side="right"))]


@dataclass(frozen=True)
class BoxTruth:
    """What is inside one box (or the whole slide)."""

    area_mm2: float
    """Area of the box in mm²."""
    tissue_share: float
    """Share of the box that is tissue."""
    tumour_share: float
    """Share of the tissue that is tumour, its necrosis included."""
    necrosis_share: float
    """Share of necrosis in tumour + necrosis; 0 where there is no tumour."""
    lymphocytes_per_mm2: float
    """Lymphocytes per mm² of tissue that is neither necrotic nor fat."""
    mitoses_per_mm2: float
    """Mitoses per mm² of living tumour; 0 where there is no tumour."""
    diagnosis: str
    """One of DIAGNOSES."""
    grade: int | None
    """1, 2 or 3; None where there is no tumour."""

    @property
    def tumour(self) -> bool:
        """Whether there is tumour in the box."""
        return self.diagnosis != BENIGN

    @property
    def necrosis(self) -> str:
        """One of NECROSIS_LEVELS."""
        return level_of(self.necrosis_share, NECROSIS_BORDERS, NECROSIS_LEVELS)

    @property
    def lymphocytes(self) -> str:
        """One of LYMPHOCYTE_LEVELS."""
        return level_of(self.lymphocytes_per_mm2, LYMPHOCYTE_BORDERS, LYMPHOCYTE_LEVELS)

    @property
    def mitoses(self) -> str:
        """One of MITOSIS_LEVELS."""
        return level_of(self.mitoses_per_mm2, MITOSIS_BORDERS, MITOSIS_LEVELS)


@dataclass(frozen=True)
class PhantomTruth:
    """The truth of one procedural slide. Maps are (rows, columns) over cells of `cell_px` level-0 pixels."""

    name: str
    seed: int
    index: int
    width: int
    """Level-0 width in px."""
    height: int
    """Level-0 height in px."""
    mpp: float
    cell_px: int
    """Side of a map cell in level-0 px (about 16 µm)."""
    stain: str
    diagnosis: str
    grade: int | None
    zones: npt.NDArray[np.uint8]
    """Zone of each cell."""
    lymphocytes: npt.NDArray[np.uint8]
    """Lymphocytes whose centre lies in each cell."""
    mitoses: npt.NDArray[np.uint8]
    """Mitoses whose centre lies in each cell."""
    mitosis_xy: npt.NDArray[np.int32]
    """Centres of the mitoses in level-0 px, (M, 2)."""

    def describe(self, box: tuple[int, int, int, int] | None = None) -> BoxTruth:
        """The truth inside `box` (x, y, w, h in level-0 px), or of the whole slide.

        A map cell counts when its centre lies in the box; a box that holds no centre is described by the
        one cell under its middle. Raises BoxError for a box that leaves the slide.
        """
        x, y, w, h = box if box is not None else (0, 0, self.width, self.height)
        if w < 1 or h < 1 or x < 0 or y < 0 or x + w > self.width or y + h > self.height:
            raise BoxError(
                f"the box ({x}, {y}, {w}, {h}) leaves the slide",
                where=self.name,
                fix=f"x + w must be at most {self.width}, y + h at most {self.height}",
            )
        window = (self._cells(y, h, self.zones.shape[0]), self._cells(x, w, self.zones.shape[1]))
        return self._summary(window, w * h * self.mpp**2 * 1e-6)

    def _cells(self, start: int, length: int, count: int) -> slice:
        """Cells along one axis whose centre lies in [start, start + length)."""
        half = self.cell_px / 2
        first = int(np.ceil((start - half) / self.cell_px))
        stop = int(np.ceil((start + length - half) / self.cell_px))
        if stop <= first:
            first = min(int((start + length / 2) // self.cell_px), count - 1)
            stop = first + 1
        return slice(first, stop)

    def _summary(self, window: tuple[slice, slice], area_mm2: float) -> BoxTruth:
        zones = self.zones[window]
        cell_mm2 = (self.cell_px * self.mpp) ** 2 * 1e-6
        area = np.bincount(zones.ravel(), minlength=len(Zone)) * cell_mm2
        tissue = float(area[1:].sum())
        cancer = float(area[Zone.TUMOUR] + area[Zone.NECROSIS])
        living = tissue - float(area[Zone.NECROSIS] + area[Zone.FAT])
        tumour_share = cancer / tissue if tissue else 0.0
        present = self.grade is not None and tumour_share >= TUMOUR_PRESENT
        tumour_mm2 = float(area[Zone.TUMOUR])
        return BoxTruth(
            area_mm2=area_mm2,
            tissue_share=float(np.mean(zones != Zone.GLASS)),
            tumour_share=tumour_share,
            necrosis_share=float(area[Zone.NECROSIS]) / cancer if present else 0.0,
            lymphocytes_per_mm2=float(self.lymphocytes[window].sum()) / living if living else 0.0,
            mitoses_per_mm2=float(self.mitoses[window].sum()) / tumour_mm2 if present and tumour_mm2 else 0.0,
            diagnosis=self.diagnosis if present else BENIGN,
            grade=self.grade if present else None,
        )

    def save(self, cohort: Path) -> None:
        """Write truth/<name>.npz under the cohort folder, whole or not at all."""
        keys = ("name", "seed", "index", "width", "height", "mpp", "cell_px", "stain", "diagnosis", "grade")
        meta = json.dumps({"version": 1} | {key: getattr(self, key) for key in keys})
        maps = {key: getattr(self, key) for key in MAPS}
        with replacing(Path(cohort) / "truth" / f"{self.name}.npz") as part, part.open("wb") as file:
            np.savez_compressed(file, meta=np.array(meta), **maps)

    @classmethod
    def load(cls, cohort: Path, name: str) -> PhantomTruth:
        """Read truth/<name>.npz of a cohort folder. Raises CohortError if it is missing or malformed."""
        path = Path(cohort) / "truth" / f"{name}.npz"
        try:
            with np.load(path, allow_pickle=False) as file:
                meta: dict[str, Any] = json.loads(str(file["meta"]))
                maps = {key: file[key] for key in MAPS}
            if meta.pop("version") != 1:
                raise ValueError("unknown version")
            return cls(**meta, **maps)
        except (OSError, KeyError, ValueError, TypeError, EOFError) as error:
            raise CohortError(
                f"the truth of this slide cannot be read ({error})",
                where=path,
                fix="write the cohort again with `giant phantom`",
            ) from error


MAPS = ("zones", "lymphocytes", "mitoses", "mitosis_xy")
"""The arrays of a truth file."""
