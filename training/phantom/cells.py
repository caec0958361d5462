"""Which cell stands where: fills the architecture with nuclei, lymphocytes, mitoses and debris.

Sites are in field cells (FIELD_PX level-0 pixels). The counts of lymphocytes and mitoses follow from the
densities of the specification and the areas of the truth map, so that truth and drawing agree exactly.

Letters: N cells, (h, w) rows and columns of the field grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from training.phantom.architecture import Architecture, Material, Sites
from training.phantom.fields import Field, at, scattered, smooth_noise
from training.phantom.layout import FIELD_PX, Layout
from training.phantom.spec import ADENO, SMALL, SQUAMOUS, SlideSpec
from training.phantom.truth import Zone

_SPACING = {
    (ADENO, 2): 10.5,
    (ADENO, 3): 14.0,
    (SQUAMOUS, 1): 15.5,
    (SQUAMOUS, 2): 15.5,
    (SQUAMOUS, 3): 16.0,
    (SMALL, 3): 7.8,
}
"""Distance in µm between the nuclei of solid tumour. Glands and fronds place theirs along structures."""


@dataclass(frozen=True)
class Cells:
    """Every nucleus of a slide, by sort."""

    normal: Sites
    tumour: Sites
    fibroblast: Sites
    squame: Sites
    ghost: Sites
    debris: Sites
    lymphocyte: Field
    """Centres (N, 2) in field cells."""
    mitosis: Field
    """Centres (N, 2) in field cells."""


def place_cells(
    spec: SlideSpec, layout: Layout, building: Architecture, truth_zones: npt.NDArray[np.uint8], flow: Field
) -> Cells:
    """Put every cell of the slide in its place.

    `flow` (h, w) is the direction of the stroma's fibres in radians, along which fibroblasts lie.
    """
    rng = spec.rng(3)
    tumour = Sites.join([building.tumour, _solid(rng, spec, layout, building)])
    mitosis, resting = _mitoses(rng, spec, tumour, truth_zones)
    tumour = tumour.where(resting)
    lymphocyte = _lymphocytes(rng, spec, layout, building, truth_zones, mitosis)
    fibroblast = _fibroblasts(rng, layout, building, flow)
    necrosis = layout.mask(Zone.NECROSIS)
    return Cells(
        normal=building.normal,
        tumour=tumour,
        fibroblast=fibroblast,
        squame=_squames(rng, building, layout),
        ghost=_anywhere(rng, necrosis, 15 / layout.um, 0.5),
        debris=_anywhere(rng, necrosis, 7.5 / layout.um, 0.45),
        lymphocyte=lymphocyte,
        mitosis=mitosis,
    )


def _anywhere(rng: np.random.Generator, mask: npt.NDArray[np.bool_], spacing: float, jitter: float) -> Sites:
    """Sites all over a mask in random directions; `spacing` in field cells."""
    points = scattered(rng, (mask.shape[0], mask.shape[1]), spacing, jitter)
    points = points[at(mask, points).astype(bool)]
    return Sites(points, rng.uniform(0, np.pi, len(points)).astype(np.float32))


def _solid(rng: np.random.Generator, spec: SlideSpec, layout: Layout, building: Architecture) -> Sites:
    spacing = _SPACING.get((spec.diagnosis, spec.grade or 0))
    if spacing is None:
        return Sites.join([])
    return _anywhere(rng, building.material == Material.TUMOUR, spacing / layout.um, 0.24)


def _fibroblasts(rng: np.random.Generator, layout: Layout, building: Architecture, flow: Field) -> Sites:
    stroma = building.material == Material.STROMA
    points = _anywhere(rng, stroma, 17 / layout.um, 0.45).xy
    return Sites(points, (at(flow, points) + rng.normal(0, 0.2, len(points))).astype(np.float32))


def _squames(rng: np.random.Generator, building: Architecture, layout: Layout) -> Sites:
    """Flattened nuclei around keratin pearls."""
    parts = []
    for x, y, radius in building.pearls:
        count = max(int(2 * np.pi * radius * layout.um / 13), 4)
        theta = (np.arange(count) * (2 * np.pi / count) + rng.uniform(-0.3, 0.3, count)).astype(np.float32)
        reach = radius * rng.uniform(0.85, 1.1, count)
        xy = np.stack([x + reach * np.cos(theta), y + reach * np.sin(theta)], axis=1)
        parts.append(Sites(xy.astype(np.float32), theta + np.float32(np.pi / 2)))
    sites = Sites.join(parts)
    high = np.array([layout.shape[1] - 1, layout.shape[0] - 1], np.float32)
    inside = (sites.xy >= 0) & (sites.xy < high)
    sites = sites.where(np.all(inside, axis=1))
    return sites.where(np.isin(at(building.material, sites.xy), (Material.TUMOUR, Material.KERATIN)))


def truth_cell(spec: SlideSpec, points: Field) -> npt.NDArray[np.intp]:
    """Column and row (N, 2) in the truth maps of points given in field cells."""
    return (points * (FIELD_PX / spec.cell_px)).astype(np.intp)


def _zone_of(spec: SlideSpec, zones: npt.NDArray[np.uint8], points: Field) -> npt.NDArray[np.uint8]:
    cell = truth_cell(spec, points)
    return zones[cell[:, 1], cell[:, 0]]


def _mitoses(
    rng: np.random.Generator, spec: SlideSpec, tumour: Sites, zones: npt.NDArray[np.uint8]
) -> tuple[Field, npt.NDArray[np.bool_]]:
    """Tumour cells that divide, and which of the others are kept as resting ones."""
    area_mm2 = np.count_nonzero(zones == Zone.TUMOUR) * (spec.cell_px * spec.mpp * 1e-3) ** 2
    candidates = np.flatnonzero(_zone_of(spec, zones, tumour.xy) == Zone.TUMOUR)
    count = min(round(spec.mitoses_per_mm2 * area_mm2), len(candidates))
    dividing = rng.choice(candidates, count, replace=False) if count else np.zeros(0, np.intp)
    resting = np.ones(len(tumour.xy), bool)
    resting[dividing] = False
    return tumour.xy[dividing], resting


def _lymphocytes(
    rng: np.random.Generator,
    spec: SlideSpec,
    layout: Layout,
    building: Architecture,
    zones: npt.NDArray[np.uint8],
    mitoses: Field,
) -> Field:
    """An infiltrate of the given density all over the living tissue, slightly clustered."""
    solid = np.isin(building.material, (Material.STROMA, Material.TUMOUR, Material.NORMAL))
    points = _anywhere(rng, solid, 7.6 / layout.um, 0.3).xy
    living = (Zone.STROMA, Zone.NORMAL_GLAND, Zone.TUMOUR)
    if len(mitoses):
        far, _ = cKDTree(mitoses).query(points)
        points = points[far > 11 / layout.um]
    clumps = at(smooth_noise(rng, layout.shape, 30 / layout.um), points)
    stroma = at(building.material, points) == Material.STROMA
    weight = np.exp(0.3 * clumps) * np.where(stroma, 1.4, 1.0)
    zone_of = _zone_of(spec, zones, points)
    picks = []
    for zone in living:
        # Each zone for itself: open spaces in one must not drive its share into another.
        area_mm2 = np.count_nonzero(zones == zone) * (spec.cell_px * spec.mpp * 1e-3) ** 2
        inside = np.flatnonzero(zone_of == zone)
        count = min(round(spec.lymphocytes_per_mm2 * area_mm2), len(inside))
        share = weight[inside] / max(weight[inside].sum(), 1e-9)
        picks.append(rng.choice(inside, count, replace=False, p=share) if count else inside[:0])
    return points[np.concatenate(picks)]


def count_map(spec: SlideSpec, points: Field, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """The number of points (in field cells) in each cell of the truth maps."""
    cell = truth_cell(spec, points)
    counts = np.zeros(shape, np.int64)
    np.add.at(counts, (cell[:, 1], cell[:, 0]), 1)
    return np.minimum(counts, 255).astype(np.uint8)
