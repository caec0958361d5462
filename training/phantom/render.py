"""Draws a specification: geometry on the field grid, nuclei as stamps, then colours block by block.

Pixels are rendered at the slide's own mpp: nuclei and textures are never enlarged. Letters: (h, w) the
field grid, (H, W) = 4 x (h, w) the level-0 pixels.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from training.phantom.architecture import build_architecture
from training.phantom.canvas import Canvas
from training.phantom.cells import Cells, count_map, place_cells
from training.phantom.fields import Field, smooth_noise, texture
from training.phantom.ground import Ground, make_ground
from training.phantom.layout import FIELD_PX, make_layout
from training.phantom.spec import SlideSpec
from training.phantom.stain import blur, scan, sensor_noise
from training.phantom.truth import PhantomTruth

INKS = {"green": (50, 140, 90), "blue": (45, 60, 165), "black": (45, 45, 50)}


BLOCK = 512
"""Side in px of the blocks that are coloured one after another."""


def render_slide(spec: SlideSpec) -> tuple[npt.NDArray[np.uint8], PhantomTruth]:
    """The pixels (height, width, 3) of a slide and its truth."""
    layout = make_layout(spec)
    zones = layout.truth_zones()
    building = build_architecture(spec, layout)
    flow, phase = _fibres(spec, layout.shape, layout.um)
    cells = place_cells(spec, layout, building, zones, flow)
    canvas = Canvas(spec)
    canvas.draw(cells, building)
    ground = make_ground(spec, layout, building, phase)
    pixels = _colour(spec, ground, canvas)
    if spec.artefact == "pen":
        draw_pen(pixels, spec.rng(8), spec.mpp)
    return pixels, _truth(spec, zones, cells)


def _truth(spec: SlideSpec, zones: npt.NDArray[np.uint8], cells: Cells) -> PhantomTruth:
    return PhantomTruth(
        name=spec.name,
        seed=spec.seed,
        index=spec.index,
        width=spec.width,
        height=spec.height,
        mpp=spec.mpp,
        cell_px=spec.cell_px,
        stain=spec.stain.name,
        diagnosis=spec.diagnosis,
        grade=spec.grade,
        zones=zones,
        lymphocytes=count_map(spec, cells.lymphocyte, zones.shape),
        mitoses=count_map(spec, cells.mitosis, zones.shape),
        mitosis_xy=np.round(cells.mitosis * FIELD_PX).astype(np.int32),
    )


def _fibres(spec: SlideSpec, shape: tuple[int, int], um: float) -> tuple[Field, Field]:
    """Direction of the stroma's fibres (radians) and their phase (radians): level lines of smooth noise."""
    rng = spec.rng(4)
    height = smooth_noise(rng, shape, 110 / um) + 0.12 * smooth_noise(rng, shape, 28 / um)
    slope_y, slope_x = np.gradient(height)
    along = np.arctan2(slope_y, slope_x) + np.float32(np.pi / 2)
    return along.astype(np.float32), height * np.float32(65.0)


def _seamless(rng: np.random.Generator, scale: float) -> Field:
    """Texture for one block and 1 px around it; neighbouring blocks continue it without a seam."""
    return np.pad(texture(rng, BLOCK, scale), 1, mode="wrap")


def _colour(spec: SlideSpec, ground: Ground, canvas: Canvas) -> npt.NDArray[np.uint8]:
    rng = spec.rng(6)
    fine, coarse = _seamless(rng, 0.5 / spec.mpp), _seamless(rng, 0.9 / spec.mpp)
    noise = sensor_noise(rng, spec.stain, BLOCK + 150)
    image = np.empty((spec.height, spec.width, 3), np.uint8)
    for rows, columns in _blocks(spec):
        height, width = rows.stop - rows.start, columns.stop - columns.start
        y_px, x_px = (int(v) for v in rng.integers(0, 150, 2))
        sensor = noise[y_px : y_px + height, x_px : x_px + width]
        field = (
            slice(rows.start // FIELD_PX, rows.stop // FIELD_PX),
            slice(columns.start // FIELD_PX, columns.stop // FIELD_PX),
        )
        if ground.empty(field):
            tint = np.zeros((height, width), np.float32)
            image[rows, columns] = scan(spec.stain, tint, tint + np.float32(0.01), sensor)
            continue
        wide = (slice(0, height + 2), slice(0, width + 2))
        haematoxylin, eosin, tissue = ground.concentrations(field, fine[wide], coarse[wide])
        nuclei, cytoplasm = canvas.block(rows, columns, margin=1)
        eosin = np.where(cytoplasm > 0, cytoplasm * np.float32(0.01) * (1 + 0.1 * fine[wide]) * tissue, eosin)
        nuclei_dye = nuclei * np.float32(0.01)
        eosin *= 1 - 0.4 * np.minimum(nuclei_dye, 1)
        haematoxylin = np.maximum(haematoxylin, nuclei_dye)
        weight = spec.stain.blur
        image[rows, columns] = scan(spec.stain, blur(haematoxylin, weight), blur(eosin, weight), sensor)
    return image


def _blocks(spec: SlideSpec) -> Iterator[tuple[slice, slice]]:
    for y_px in range(0, spec.height, BLOCK):
        for x_px in range(0, spec.width, BLOCK):
            yield (
                slice(y_px, min(y_px + BLOCK, spec.height)),
                slice(x_px, min(x_px + BLOCK, spec.width)),
            )


def draw_pen(pixels: npt.NDArray[np.uint8], rng: np.random.Generator, mpp: float) -> None:
    """Draw, in place, a felt pen's stroke down one side of the slide (H, W, 3)."""
    height, width = pixels.shape[:2]
    ink = np.array(INKS[str(rng.choice(list(INKS)))], np.float32)
    half = float(rng.uniform(45, 90)) / mpp
    y_px, bottom = sorted(rng.uniform(0.05, 0.95, 2) * height)
    rows = np.arange(int(y_px), max(int(bottom), int(y_px) + 1))
    place = float(rng.choice([0.04, 0.96])) * width
    middle = place + 30 / mpp * np.sin(rows / (250 / mpp) + rng.uniform(0, 6))
    x_px = int(np.clip(middle.min() - half - 2, 0, width - 1))
    right = int(np.clip(middle.max() + half + 2, x_px + 1, width))
    across = np.abs(np.arange(x_px, right)[None, :] - middle[:, None])  # (rows, columns)
    cover = np.clip((half - across) * mpp / 6, 0, 1) * (0.85 - 0.15 * np.cos(across / half * 3))
    patch = pixels[rows[0] : rows[-1] + 1, x_px:right]
    patch[:] = (patch * (1 - cover[..., None]) + ink * cover[..., None]).astype(np.uint8)
