"""Tiles to pretrain on: labelled photographs of real tissue, and tiles of phantom slides with their truth.

A real tile's class is all that is known of it. A phantom tile is known cell by cell: the truth maps have
cells of 16 µm, so that a tile of 112 µm shows exactly 7 x 7 of them.

Letters: N tiles, P px of a side, K truth cells of a side.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from core_model.errors import CohortError

if TYPE_CHECKING:
    from training.phantom.truth import PhantomTruth

Bytes = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

CELLS = 7
"""Truth cells along a phantom tile: 112 µm of 16 µm."""
HELD_OUT_SHARE = 0.25
"""Share of each class's groups that real tiles are judged on and never trained on."""


@dataclass(frozen=True)
class RealTiles:
    """Labelled tiles; those of one group are variants of one photograph."""

    pixels: Bytes
    """(N, P, P, 3)."""
    labels: npt.NDArray[np.int64]
    """(N,) index into `classes`."""
    groups: npt.NDArray[np.str_]
    """(N,)."""
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def split_groups(self, seed: int = 0, share: float = HELD_OUT_SHARE) -> Mask:
        """(N,) True for held-out tiles: a share of every class's groups, whole groups only."""
        return split_groups(self.groups, self.labels, seed, share)


def split_groups(groups: npt.NDArray[Any], labels: npt.NDArray[Any], seed: int, share: float) -> Mask:
    """(N,) True for held-out rows, by whole groups; the same for the same groups, labels and seed.

    At least one group of each class is held out and at least one is kept; a class of a single group
    raises CohortError, as does a group of two classes.
    """
    rng = np.random.default_rng(seed)
    held_out: set[str] = set()
    label_of: dict[str, str] = {}
    for label in np.unique(labels):
        names = np.unique(groups[labels == label])
        for name in names:
            if label_of.setdefault(str(name), str(label)) != str(label):
                raise CohortError(f"the group '{name}' holds tiles of two classes", fix="correct tiles.csv")
        if len(names) < 2:
            raise CohortError("a class needs at least two groups to be split", where=f"class {label}")
        count = min(max(1, int(len(names) * share)), len(names) - 1)
        held_out |= {str(name) for name in rng.permutation(names)[:count]}
    return np.isin(groups, sorted(held_out))


def load_real_tiles(folder: str | Path, side: int = 224, limit: int | None = None) -> RealTiles:
    """The tiles of a folder with `tiles.csv` (columns file, class, group), resized to `side` px.

    `limit` keeps that many tiles, spread over the file. Raises CohortError for a missing or malformed
    table, and for a tile that does not decode.
    """
    folder = Path(folder)
    rows = _table(folder / "tiles.csv")
    if limit is not None and limit < len(rows):
        rows = [rows[i] for i in np.linspace(0, len(rows) - 1, limit).astype(int)]
    classes = tuple(sorted({row["class"] for row in rows}))
    with ThreadPoolExecutor(2) as threads:
        pixels = list(threads.map(lambda row: _picture(folder / row["file"], side), rows))
    return RealTiles(
        np.stack(pixels),
        np.array([classes.index(row["class"]) for row in rows], dtype=np.int64),
        np.array([row["group"] for row in rows]),
        classes,
    )


def _table(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise CohortError(f"the table cannot be read ({error})", where=path) from error
    if not rows or any(not row.get(key) for row in rows for key in ("file", "class", "group")):
        raise CohortError("the table needs rows with file, class and group", where=path)
    return rows


def _picture(path: Path, side: int) -> Bytes:
    from PIL import Image

    try:
        with Image.open(path) as image:
            rgb = image.convert("RGB")
    except (OSError, ValueError) as error:
        raise CohortError(f"this tile does not decode ({error})", where=path) from error
    return np.asarray(rgb if rgb.size == (side, side) else rgb.resize((side, side), Image.Resampling.BICUBIC))


@dataclass(frozen=True)
class PhantomTiles:
    """Tiles of procedural slides; K = `CELLS` truth cells a side."""

    pixels: Bytes
    """(N, P, P, 3)."""
    zones: Bytes
    """(N, K, K) values of `Zone`."""
    lymphocytes: Bytes
    """(N, K, K) lymphocytes centred in each cell."""
    mitoses: Bytes
    """(N, K, K) mitoses centred in each cell."""
    diagnosis: npt.NDArray[np.int64]
    """(N,) index into DIAGNOSES: the slide's tumour, whether or not this tile shows it."""
    grade: npt.NDArray[np.int64]
    """(N,) 1, 2 or 3; 0 on slides without tumour."""
    slides: npt.NDArray[np.str_]
    """(N,) name of the slide."""

    def __len__(self) -> int:
        return len(self.slides)


def read_split(cohort: str | Path) -> dict[str, list[str]]:
    """`split.json` of a cohort: names of the slides to train on and to validate on. Raises CohortError."""
    path = Path(cohort) / "split.json"
    try:
        splits = json.loads(path.read_text(encoding="utf-8"))
        return {part: [str(name) for name in splits[part]] for part in ("train", "val")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CohortError(
            f"the file cannot be read ({error})", where=path, fix="write the cohort with `giant phantom`"
        ) from error


def collect_phantom_tiles(
    cohort: str | Path,
    names: Sequence[str],
    per_slide: int,
    *,
    seed: int = 0,
    tile_px: int = 224,
    mpp: float = 0.5,
) -> PhantomTiles:
    """Up to `per_slide` random tissue tiles of each named slide, with the truth of their cells.

    Tiles that show a mitosis or necrosis, which are rare, are drawn three times as often. Raises
    CohortError for a slide without truth or whose cells do not fit the tiles, and what `open_slide` and
    `Slide.read` raise.
    """
    from training.phantom.truth import DIAGNOSES

    def of(i: int) -> tuple[list[Bytes], list[tuple[Bytes, ...]], PhantomTruth]:
        return _from_slide(Path(cohort), names[i], per_slide, seed + i, tile_px, mpp)

    with ThreadPoolExecutor(2) as threads:
        per_slide_tiles = list(threads.map(of, range(len(names))))
    cells = [maps for _, rows, _ in per_slide_tiles for maps in rows]
    truths = [truth for images, _, truth in per_slide_tiles for _ in images]
    if not cells:
        raise CohortError("the cohort has no slides to take tiles from", where=cohort)
    zones, lymphocytes, mitoses = (np.stack(maps) for maps in zip(*cells, strict=True))
    return PhantomTiles(
        np.stack([image for images, _, _ in per_slide_tiles for image in images]),
        zones,
        lymphocytes,
        mitoses,
        np.array([DIAGNOSES.index(truth.diagnosis) for truth in truths], dtype=np.int64),
        np.array([truth.grade or 0 for truth in truths], dtype=np.int64),
        np.array([truth.name for truth in truths]),
    )


def _from_slide(
    cohort: Path, name: str, per_slide: int, seed: int, tile_px: int, mpp: float
) -> tuple[list[Bytes], list[tuple[Bytes, ...]], PhantomTruth]:
    from core_model.features.grid import tile_grid
    from core_model.slides.slide import open_slide
    from core_model.slides.tissue import find_tissue
    from training.phantom.truth import PhantomTruth, Zone

    truth = PhantomTruth.load(cohort, name)
    with open_slide(cohort / "slides" / f"{name}.tiff") as slide:
        grid = tile_grid(slide, find_tissue(slide), tile_px * mpp).whole()  # truth ends at the edge
        if grid.size != CELLS * truth.cell_px:
            raise CohortError(
                f"a tile of {grid.size} px does not show {CELLS} x {CELLS} truth cells of {truth.cell_px} px",
                where=name,
                fix="use an encoder whose tiles measure 112 µm",
            )
        cells = [_cells(truth, x, y) for x, y in grid.coords]
        weights = np.array(
            [3.0 if maps[2].any() or (maps[0] == Zone.NECROSIS).any() else 1.0 for maps in cells]
        )
        picks = np.random.default_rng(seed).choice(
            len(grid), size=min(per_slide, len(grid)), replace=False, p=weights / weights.sum()
        )
        images = [np.asarray(slide.read(grid.box(i), mpp)) for i in picks]
    return images, [cells[i] for i in picks], truth


def _cells(truth: PhantomTruth, x: int, y: int) -> tuple[Bytes, ...]:
    """The three truth maps under a tile at (x, y) level-0 px, each (K, K)."""
    column, row = x // truth.cell_px, y // truth.cell_px
    window = (slice(row, row + CELLS), slice(column, column + CELLS))
    return tuple(plane[window] for plane in (truth.zones, truth.lymphocytes, truth.mitoses))
