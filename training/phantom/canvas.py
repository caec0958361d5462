"""Level-0 planes on which nuclei are stamped: haematoxylin of nuclei and eosin of drawn cytoplasm.

Letters: N sites of nuclei.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from training.phantom.architecture import Architecture, Material, Sites
from training.phantom.cells import Cells
from training.phantom.fields import Field, at
from training.phantom.layout import FIELD_PX
from training.phantom.spec import ADENO, SMALL, SQUAMOUS, SlideSpec
from training.phantom.stamps import (
    DEBRIS,
    FIBROBLAST,
    GHOST,
    LYMPHOCYTE,
    NORMAL,
    SMALL_CELL,
    SQUAME,
    Bank,
    NucleusStyle,
    Stamp,
    grid_um,
    mitosis,
    tumour_style,
)

MARGIN = 128
"""Pixels around the slide, so that a stamp at its edge needs no clipping."""


class Canvas:
    """Two uint8 planes in hundredths of a unit of dye; 0 in `eosin` means that the ground shows."""

    def __init__(self, spec: SlideSpec) -> None:
        self.spec = spec
        self.rng = spec.rng(7)
        shape = (spec.height + 2 * MARGIN, spec.width + 2 * MARGIN)
        self.haematoxylin = np.zeros(shape, np.uint8)
        self.eosin = np.zeros(shape, np.uint8)

    def block(self, rows: slice, columns: slice, margin: int) -> tuple[npt.NDArray[np.uint8], ...]:
        """Both planes inside a block of the slide and `margin` px around it."""
        window = (
            slice(rows.start + MARGIN - margin, rows.stop + MARGIN + margin),
            slice(columns.start + MARGIN - margin, columns.stop + MARGIN + margin),
        )
        return self.haematoxylin[window], self.eosin[window]

    def draw(self, cells: Cells, building: Architecture) -> None:
        """Stamp every cell, from the background to what must stay visible."""
        if self.spec.diagnosis == SQUAMOUS or (self.spec.diagnosis == ADENO and self.spec.grade == 3):
            inside = at(building.material, cells.tumour.xy) == Material.TUMOUR
            self._cytoplasm(cells.tumour.xy[inside])
            self._uncover(building)
        self._nuclei(cells.ghost, GHOST)
        self._nuclei(cells.debris, DEBRIS)
        self._nuclei(cells.fibroblast, FIBROBLAST)
        self._nuclei(cells.normal, NORMAL)
        self._nuclei(cells.squame, SQUAME)
        self._nuclei(cells.tumour, self._tumour_style())
        turns = self.rng.uniform(0, np.pi, len(cells.lymphocyte)).astype(np.float32)
        self._nuclei(Sites(cells.lymphocyte, turns), LYMPHOCYTE)
        self._mitoses(cells.mitosis)

    def _tumour_style(self) -> NucleusStyle:
        spec = self.spec
        if spec.diagnosis == SMALL:
            return SMALL_CELL
        length, ratio = {SQUAMOUS: (8.2, 0.82), ADENO: (9.4, 0.66)}.get(spec.diagnosis, (8.6, 0.7))
        if spec.diagnosis == ADENO and spec.grade != 1:
            length, ratio = 8.6, 0.78
        return tumour_style(spec.grade or 1, length, ratio)

    def _nuclei(self, sites: Sites, style: NucleusStyle) -> None:
        if not len(sites.xy):
            return
        bank = Bank(self.rng, style, self.spec.mpp)
        self._stamp(bank.stamps, bank.choose(self.rng, sites.angle), sites.xy)

    def _stamp(self, stamps: list[Stamp], choice: npt.NDArray[np.intp], xy: Field) -> None:
        """Lay the chosen stamp over each site (field cells, N x 2)."""
        plane = self.haematoxylin
        half = np.array([stamp[0].shape[0] // 2 for stamp in stamps])[choice]
        corner = np.round(xy * FIELD_PX).astype(np.int64) + MARGIN - half[:, None]
        for (x, y), index in zip(corner.tolist(), choice.tolist(), strict=True):
            value, mask = stamps[index]
            side = value.shape[0]
            np.copyto(plane[y : y + side, x : x + side], value, where=mask)

    def _cytoplasm(self, xy: Field) -> None:
        """Polygonal cells: domes of eosin whose valleys become the borders between neighbours."""
        squamous = self.spec.diagnosis == SQUAMOUS
        peak = (0.86 - 0.08 * (self.spec.grade or 1)) if squamous else 0.5
        radius = 10.5 if squamous else 9.5
        x, y = grid_um(radius, self.spec.mpp)
        domes = []
        for _ in range(24):
            stretch, turn = self.rng.uniform(0.85, 1.15), self.rng.uniform(0, np.pi)
            u = np.hypot(
                (x * np.cos(turn) + y * np.sin(turn)) / stretch,
                (y * np.cos(turn) - x * np.sin(turn)) * stretch,
            )
            level = peak * self.rng.uniform(0.85, 1.15) * (1 - 0.8 * (u / radius) ** 3)
            domes.append(np.where(u < radius, level * 100, 0).astype(np.uint8))
        half = domes[0].shape[0] // 2
        corner = np.round(xy * FIELD_PX).astype(np.int64) + MARGIN - half
        choice = self.rng.integers(0, len(domes), len(xy))
        side = domes[0].shape[0]
        for (x_px, y_px), index in zip(corner.tolist(), choice.tolist(), strict=True):
            region = self.eosin[y_px : y_px + side, x_px : x_px + side]
            np.maximum(region, domes[index], out=region)

    def _uncover(self, building: Architecture) -> None:
        """Let the ground's keratin show through the cytoplasm drawn over it."""
        for x, y, radius in building.pearls:
            y_px, x_px = max(int(y - radius * 1.5), 0), max(int(x - radius * 1.5), 0)
            patch = building.material[y_px : int(y + radius * 1.5) + 2, x_px : int(x + radius * 1.5) + 2]
            keratin = (patch == Material.KERATIN).repeat(FIELD_PX, axis=0).repeat(FIELD_PX, axis=1)
            y0, x0 = y_px * FIELD_PX + MARGIN, x_px * FIELD_PX + MARGIN
            self.eosin[y0 : y0 + keratin.shape[0], x0 : x0 + keratin.shape[1]][keratin] = 0

    def _mitoses(self, xy: Field) -> None:
        if not len(xy):
            return
        stamps = [mitosis(self.rng, self.spec.mpp) for _ in range(48)]
        choice = self.rng.integers(0, len(stamps), len(xy))
        self._stamp(stamps, choice, xy)
        half = stamps[0][0].shape[0] // 2
        corner = np.round(xy * FIELD_PX).astype(np.int64) + MARGIN - half
        for (x_px, y_px), index in zip(corner.tolist(), choice.tolist(), strict=True):
            mask = stamps[index][1]
            region = self.eosin[y_px : y_px + mask.shape[0], x_px : x_px + mask.shape[1]]
            np.copyto(region, np.uint8(16), where=mask)
