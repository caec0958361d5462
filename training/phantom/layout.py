"""Where the tissue lies on the glass and which zone is where.

All maps are on the field grid, one cell per 4 x 4 level-0 pixels (2 µm at 0.5 µm/px).

Letters: (h, w) rows and columns of the field grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from training.phantom.fields import Field, Mask, block_mean, enlarge, smooth_noise, top_share
from training.phantom.spec import SlideSpec
from training.phantom.truth import Zone

FIELD_PX = 4
"""Level-0 pixels per cell of the field grid."""


@dataclass(frozen=True)
class Layout:
    """The zones of a slide."""

    um: float
    """Side of a field cell in µm."""
    zones: npt.NDArray[np.uint8]
    """Zone of each field cell."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the field grid."""
        return self.zones.shape[0], self.zones.shape[1]

    def mask(self, *zones: Zone) -> Mask:
        """Where the slide is one of these zones."""
        return np.isin(self.zones, zones)

    def truth_zones(self, cell_um: float = 16.0) -> npt.NDArray[np.uint8]:
        """The most common zone of each cell of the truth grid."""
        size = round(cell_um / self.um)
        shares = [block_mean(self.zones == zone, size) for zone in Zone]
        return np.argmax(np.stack(shares), axis=0).astype(np.uint8)


def make_layout(spec: SlideSpec) -> Layout:
    """Outline the tissue of `spec` and divide it into zones with the shares it asks for."""
    rng = spec.rng(1)
    um = spec.mpp * FIELD_PX
    shape = (spec.height // FIELD_PX, spec.width // FIELD_PX)
    # Zones are planned at 8 µm and enlarged: they are smooth on that scale.
    plan = (int(spec.height * spec.mpp / 8), int(spec.width * spec.mpp / 8))
    tissue_score = _cores(rng, plan) if spec.form == "core" else _blobs(rng, plan)
    tissue_score += 0.16 * smooth_noise(rng, plan, 12) + 0.07 * smooth_noise(rng, plan, 4)
    tissue = enlarge(tissue_score, shape) > 0
    zones = np.where(tissue, Zone.STROMA, Zone.GLASS).astype(np.uint8)

    tumour = top_share(enlarge(_tumour_score(rng, plan), shape), tissue, spec.tumour_share)
    zones[tumour] = Zone.TUMOUR
    if spec.necrosis_share > 0:
        zones[_necrosis(rng, tumour, um, plan, spec.necrosis_share)] = Zone.NECROSIS

    rest = tissue & ~tumour
    glands = top_share(enlarge(smooth_noise(rng, plan, 14), shape), rest, float(rng.uniform(0.5, 0.7)))
    zones[glands] = Zone.NORMAL_GLAND
    if rng.random() < 0.35:
        fat = top_share(enlarge(smooth_noise(rng, plan, 16), shape), rest & ~glands, rng.uniform(0.15, 0.4))
        zones[fat] = Zone.FAT
    return Layout(um=um, zones=zones)


def _axes(plan: tuple[int, int]) -> tuple[Field, Field]:
    y, x = np.mgrid[0 : plan[0], 0 : plan[1]].astype(np.float32)
    return x / plan[1], y / plan[0]


def _blobs(rng: np.random.Generator, plan: tuple[int, int]) -> Field:
    """One large piece, or two side by side, positive inside."""
    x, y = _axes(plan)
    if rng.random() < 0.65:
        pieces = [(0.5, 0.5, rng.uniform(0.38, 0.47), rng.uniform(0.36, 0.46))]
    else:
        split = rng.uniform(0.42, 0.58)
        pieces = [
            (split / 2, rng.uniform(0.42, 0.58), split * 0.42, rng.uniform(0.3, 0.44)),
            ((1 + split) / 2, rng.uniform(0.42, 0.58), (1 - split) * 0.42, rng.uniform(0.3, 0.44)),
        ]
    flat = float(rng.uniform(2.0, 3.5))  # 2 is an ellipse; higher is boxier
    scores = [
        1 - (np.abs((x - cx) / rx) ** flat + np.abs((y - cy) / ry) ** flat) for cx, cy, rx, ry in pieces
    ]
    return np.clip(np.max(scores, axis=0), -2, 1).astype(np.float32)


def _cores(rng: np.random.Generator, plan: tuple[int, int]) -> Field:
    """Two or three needle cores lying across the slide, positive inside."""
    x, y = _axes(plan)
    if rng.random() < 0.5:
        x, y = y, x
    count = int(rng.integers(2, 4))
    scores = []
    for i in range(count):
        middle = (i + 0.5) / count + rng.uniform(-0.02, 0.02)
        bend = 0.06 / count * np.sin(2 * np.pi * (x * rng.uniform(0.5, 1.2) + rng.random()))
        half = rng.uniform(0.27, 0.36) / count
        across = 1 - np.abs((y - middle - bend) / half) ** 2
        along = 1 - np.abs((x - 0.5) / rng.uniform(0.42, 0.47)) ** 8
        scores.append(np.minimum(across, along))
    return np.clip(np.max(scores, axis=0), -2, 1).astype(np.float32)


def _tumour_score(rng: np.random.Generator, plan: tuple[int, int]) -> Field:
    """High where tumour grows: a few large fields that lean to one side, with a ragged front."""
    x, y = _axes(plan)
    angle = rng.uniform(0, 2 * np.pi)
    slope = (x - 0.5) * np.cos(angle) + (y - 0.5) * np.sin(angle)
    noise = smooth_noise(rng, plan, float(rng.uniform(25, 40))) + 0.15 * smooth_noise(rng, plan, 5)
    return (noise + rng.uniform(1.0, 4.0) * slope).astype(np.float32)


def _necrosis(rng: np.random.Generator, tumour: Mask, um: float, plan: tuple[int, int], share: float) -> Mask:
    """Patches of `share` of the tumour, rather in its depth than at its rim."""
    shape = (tumour.shape[0], tumour.shape[1])
    small = tumour[::4, ::4]
    depth = ndimage.distance_transform_edt(small).astype(np.float32) * (4 * um)
    depth = np.minimum(enlarge(depth, shape) / np.float32(90), 1)
    noise = smooth_noise(rng, plan, float(rng.uniform(13, 20))) + 0.12 * smooth_noise(rng, plan, 4)
    score: Field = enlarge(noise, shape) + np.float32(1.6) * depth
    return top_share(score, tumour, share)
