"""The structures of each zone: glands, nests, fronds, lumina, on the field grid.

`build_architecture` turns zones into materials and lists the sites that already follow from a structure
(the palisade of a gland). Everything is in field cells; `um` converts.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from training.phantom.fields import Field, Mask, at, scattered, smooth_noise, top_share
from training.phantom.layout import Layout
from training.phantom.spec import ADENO, PAPILLARY, SMALL, SQUAMOUS, SlideSpec
from training.phantom.truth import Zone


class Material(IntEnum):
    """What a field cell is made of."""

    CLEAR = 0
    STROMA = 1
    NECROSIS = 2
    NORMAL = 3
    TUMOUR = 4
    KERATIN = 5


@dataclass(frozen=True)
class Sites:
    """Places of one sort of nucleus: x, y in field cells (N, 2), direction of the long axis (N,)."""

    xy: Field
    angle: Field

    @classmethod
    def join(cls, parts: list[Sites]) -> Sites:
        """All parts one after another."""
        if not parts:
            return cls(np.zeros((0, 2), np.float32), np.zeros(0, np.float32))
        return cls(np.concatenate([p.xy for p in parts]), np.concatenate([p.angle for p in parts]))

    def where(self, keep: npt.NDArray[np.bool_]) -> Sites:
        """The sites that a boolean or index array selects."""
        return Sites(self.xy[keep], self.angle[keep])


@dataclass(frozen=True)
class Architecture:
    """Materials of the field grid and the nuclei that line structures."""

    material: npt.NDArray[np.uint8]
    normal: Sites
    """Palisades of normal glands."""
    tumour: Sites
    """Palisades of tumour glands and fronds; solid parts are filled later."""
    pearls: Field
    """Keratin pearls: x, y, radius in field cells (N, 3)."""


class GlandStyle(NamedTuple):
    """Shape of glands: lengths in µm."""

    spacing: float
    radius: tuple[float, float]
    lumen: tuple[float, float]
    """Radius of the lumen as a share of the gland's."""
    irregular: float
    """Amplitude of the outline's waves as a share of the radius."""
    stretch: float
    """Largest ratio of long to short axis."""
    jitter: float
    cell_um: float
    """Distance between nuclei along the palisade."""
    layer: tuple[float, float]
    """Where the nuclei stand, from lumen (0) to basement membrane (1)."""


NORMAL_GLAND = GlandStyle(78, (24, 32), (0.38, 0.5), 0.04, 1.15, 0.12, 6.5, (0.68, 0.78))
GRADE1_GLAND = GlandStyle(88, (28, 44), (0.4, 0.62), 0.16, 1.9, 0.24, 6.5, (0.35, 0.72))


def build_architecture(spec: SlideSpec, layout: Layout) -> Architecture:
    """Fill the zones of `layout` with the structures that `spec` asks for."""
    rng = spec.rng(2)
    material = np.full(layout.shape, Material.CLEAR, np.uint8)
    material[layout.mask(Zone.STROMA, Zone.NORMAL_GLAND, Zone.TUMOUR, Zone.FAT)] = Material.STROMA
    material[layout.mask(Zone.NECROSIS)] = Material.NECROSIS
    normal = draw_glands(rng, material, layout, Zone.NORMAL_GLAND, NORMAL_GLAND, Material.NORMAL)
    _draw_fat(rng, material, layout)
    tumour, pearls = Sites.join([]), np.zeros((0, 3), np.float32)
    area = layout.mask(Zone.TUMOUR)
    if spec.diagnosis == ADENO and spec.grade == 1:
        tumour = draw_glands(rng, material, layout, Zone.TUMOUR, GRADE1_GLAND, Material.TUMOUR)
    elif spec.diagnosis == ADENO:
        _draw_fused(rng, material, area, layout.um, spec.grade or 3)
    elif spec.diagnosis == SQUAMOUS:
        pearls = _draw_nests(rng, material, area, layout.um, spec.grade or 1)
    elif spec.diagnosis == PAPILLARY:
        tumour = _draw_fronds(rng, material, area, layout.um, spec.grade or 1)
    elif spec.diagnosis == SMALL:
        sheets = top_share(smooth_noise(rng, layout.shape, 26 / layout.um), area, 0.9)
        material[sheets] = Material.TUMOUR
    return Architecture(material, normal, tumour, pearls)


def draw_glands(
    rng: np.random.Generator,
    material: npt.NDArray[np.uint8],
    layout: Layout,
    zone: Zone,
    style: GlandStyle,
    wall: Material,
) -> Sites:
    """Glands with a lumen all over a zone; returns the palisade of nuclei that stand along their walls."""
    um = layout.um
    centres = scattered(rng, layout.shape, style.spacing / um, style.jitter)
    centres = centres[at(layout.zones, centres) == zone]
    sites = []
    for centre in centres:
        radius = float(rng.uniform(*style.radius)) / um
        outline = _Outline(rng, style.irregular, style.stretch)
        lumen = float(rng.uniform(*style.lumen))
        inner = _Outline(rng, style.irregular, 1.2)
        window, distance, theta = _polar(centre, radius * 1.8, layout.shape)
        rim = radius * outline(theta)
        patch = material[window]
        inside = (distance < rim) & (layout.zones[window] == zone)
        patch[inside] = wall
        patch[inside & (distance < rim * lumen * inner(theta))] = Material.CLEAR
        sites.append(_palisade(rng, centre, radius, outline, lumen, style, um))
    palisades = Sites.join(sites)
    height, width = layout.shape
    on = (palisades.xy >= 0).all(1) & (palisades.xy[:, 0] < width - 1) & (palisades.xy[:, 1] < height - 1)
    palisades = palisades.where(on)
    return palisades.where(at(material, palisades.xy) == wall)


class _Outline:
    """A closed curve: relative radius as a function of the angle."""

    def __init__(self, rng: np.random.Generator, irregular: float, stretch: float) -> None:
        self.waves = rng.normal(0, irregular, 4) / np.array([1.4, 1.0, 1.3, 1.8])
        self.phases = rng.uniform(0, 2 * np.pi, 4)
        self.long = float(np.sqrt(rng.uniform(1.0, stretch)))
        self.turn = float(rng.uniform(0, np.pi))

    def __call__(self, theta: Field) -> Field:
        oval = 1.0 / np.hypot(np.cos(theta - self.turn) / self.long, np.sin(theta - self.turn) * self.long)
        waves = [
            a * np.cos(k * theta + p) for k, a, p in zip((2, 3, 4, 6), self.waves, self.phases, strict=True)
        ]
        return np.asarray(oval * np.clip(1 + np.sum(waves, axis=0), 0.4, 1.7), np.float32)


def _polar(centre: Field, reach: float, shape: tuple[int, int]) -> tuple[tuple[slice, slice], Field, Field]:
    """Window around `centre` with the distance and angle of each of its cells from it."""
    x, y = float(centre[0]), float(centre[1])
    rows = slice(max(int(y - reach), 0), min(int(y + reach) + 2, shape[0]))
    columns = slice(max(int(x - reach), 0), min(int(x + reach) + 2, shape[1]))
    dy = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None] - y
    dx = np.arange(columns.start, columns.stop, dtype=np.float32)[None, :] - x
    return (rows, columns), np.hypot(dx, dy), np.arctan2(dy, dx)


def _palisade(
    rng: np.random.Generator,
    centre: Field,
    radius: float,
    outline: _Outline,
    lumen: float,
    style: GlandStyle,
    um: float,
) -> Sites:
    """Nuclei along the wall of one gland, their long axes pointing to the lumen."""
    count = max(int(2 * np.pi * radius * 0.8 * um / style.cell_um), 6)
    steps = np.arange(count) + rng.uniform(-0.25, 0.25, count)
    theta: Field = (steps * (2 * np.pi / count)).astype(np.float32)
    share = lumen + (1 - lumen) * rng.uniform(*style.layer, count)
    distance = radius * outline(theta) * share
    xy = np.stack([centre[0] + distance * np.cos(theta), centre[1] + distance * np.sin(theta)], axis=1)
    angle: Field = theta + rng.normal(0, 0.12, count).astype(np.float32)
    return Sites(xy.astype(np.float32), angle)


def _draw_fat(rng: np.random.Generator, material: npt.NDArray[np.uint8], layout: Layout) -> None:
    """Round empty fat cells that leave thin walls between them."""
    centres = scattered(rng, layout.shape, 56 / layout.um, 0.14)
    for centre in centres[at(layout.zones, centres) == Zone.FAT]:
        radius = float(rng.uniform(25, 31)) / layout.um
        window, distance, theta = _polar(centre, radius * 1.4, layout.shape)
        inside = distance < radius * _Outline(rng, 0.04, 1.2)(theta)
        material[window][inside & (layout.zones[window] == Zone.FAT)] = Material.CLEAR


def _draw_fused(
    rng: np.random.Generator, material: npt.NDArray[np.uint8], area: Mask, um: float, grade: int
) -> None:
    """Adenocarcinoma of grade 2 (cribriform masses with punched-out lumina) or 3 (solid, rare lumina)."""
    share, scale, spacing, radii = (0.78, 24, 33, (5.5, 10.5)) if grade == 2 else (0.88, 30, 105, (3.5, 7.0))
    masses = top_share(smooth_noise(rng, _shape(area), scale / um), area, share)
    material[masses] = Material.TUMOUR
    centres = scattered(rng, _shape(area), spacing / um, 0.22 if grade == 2 else 0.4)
    for centre in centres[at(_inner(masses, 11 / um), centres)]:
        radius = float(rng.uniform(*radii)) / um
        window, distance, theta = _polar(centre, radius * 2, _shape(area))
        hole = distance < radius * _Outline(rng, 0.1 if grade == 2 else 0.25, 1.8)(theta)
        material[window][hole & masses[window]] = Material.CLEAR


def _draw_nests(
    rng: np.random.Generator, material: npt.NDArray[np.uint8], area: Mask, um: float, grade: int
) -> Field:
    """Solid squamous nests; returns their keratin pearls, many in grade 1 and few in grade 3."""
    nests = top_share(smooth_noise(rng, _shape(area), 30 / um), area, {1: 0.72, 2: 0.75, 3: 0.8}[grade])
    material[nests] = Material.TUMOUR
    spacing = {1: 92.0, 2: 150.0, 3: 330.0}[grade]
    centres = scattered(rng, _shape(area), spacing / um, 0.3)
    centres = centres[at(_inner(nests, 14 / um), centres)]
    radii = rng.uniform(15, 32 if grade == 1 else 25, len(centres)).astype(np.float32) / um
    for centre, radius in zip(centres, radii, strict=True):
        window, distance, theta = _polar(centre, radius * 1.5, _shape(area))
        pearl = distance < radius * _Outline(rng, 0.06, 1.4)(theta)
        material[window][pearl & nests[window]] = Material.KERATIN
    return np.concatenate([centres, radii[:, None]], axis=1)


def _draw_fronds(
    rng: np.random.Generator, material: npt.NDArray[np.uint8], area: Mask, um: float, grade: int
) -> Sites:
    """Papillary fronds: thin stromal cores, lined by one to several rows of cells, in empty space."""
    noise = smooth_noise(rng, _shape(area), {1: 20, 2: 21, 3: 21}[grade] / um)
    noise += 0.15 * smooth_noise(rng, _shape(area), 9 / um)
    core = area & (np.abs(noise) < 0.2)
    rows = {1: 1, 2: 2, 3: 3}[grade]
    thickness = {1: 11.0, 2: 15.0, 3: 21.0}[grade]
    depth = ndimage.distance_transform_edt(~core).astype(np.float32) * um
    material[area] = Material.CLEAR
    material[area & (depth < thickness)] = Material.TUMOUR
    material[core] = Material.STROMA
    slope_y, slope_x = np.gradient(depth)
    angle = np.arctan2(slope_y, slope_x)
    points = scattered(rng, _shape(area), 7.0 / um, 0.18)
    points = points[at(area & (depth > 0) & (depth < thickness - 1), points)]
    depth_here, across = at(depth, points), at(angle, points)
    # Draw each nucleus towards the middle of its row.
    pitch = thickness / (rows + 0.25)
    row = np.clip(np.floor(depth_here / pitch), 0, rows - 1)
    shift = 0.75 * ((row + 0.6) * pitch - depth_here) / um
    places = points + np.stack([shift * np.cos(across), shift * np.sin(across)], axis=1)
    height, width = _shape(area)
    places = np.clip(places, 0, [width - 2, height - 2]).astype(np.float32)
    on = at(material, places) == Material.TUMOUR
    angles = across + rng.normal(0, {1: 0.15, 2: 0.3, 3: 0.6}[grade], len(across))
    return _thin(Sites(places[on], angles[on].astype(np.float32)), 6.0 / um)


def _thin(sites: Sites, distance: float) -> Sites:
    """Drop the later of any two sites closer than `distance` field cells."""
    from scipy.spatial import cKDTree

    pairs = cKDTree(sites.xy).query_pairs(distance, output_type="ndarray")
    keep = np.ones(len(sites.xy), bool)
    keep[pairs[:, 1]] = False
    return sites.where(keep)


def _inner(mask: Mask, margin: float) -> Mask:
    """The part of a mask at least `margin` cells from its border (found on every second cell)."""
    depth = ndimage.distance_transform_edt(mask[::2, ::2]) * 2
    inner = np.repeat(np.repeat(depth >= margin, 2, axis=0), 2, axis=1)
    return np.asarray(inner[: mask.shape[0], : mask.shape[1]])


def _shape(mask: Mask) -> tuple[int, int]:
    return mask.shape[0], mask.shape[1]
