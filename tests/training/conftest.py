"""A small world to train in: truth maps drawn at random, and tile features that tell them linearly."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from core_model.features.tiles import TileFeatures
from training.cohort.cohort import ClosedQuestion, Cohort
from training.phantom.language import benchmark_questions, pathology_report
from training.phantom.truth import BENIGN, DIAGNOSES, PhantomTruth, Zone

sys.path.insert(0, str(Path(__file__).parent / "support"))

CELLS, CELL_PX = 7, 32
"""Truth cells along a tile, and px along a cell, at 0.5 µm/px."""


def draw_truth(index: int, seed: int = 5) -> PhantomTruth:
    """A slide of 6 x 5 tiles: stroma with a band of tumour, of which some is necrotic."""
    rng = np.random.default_rng([seed, index])
    rows, columns = 5 * CELLS, 6 * CELLS
    grade = [None, 1, 2, 3][index % 4]
    diagnosis = BENIGN if grade is None else DIAGNOSES[index // 4 % 3]
    zones = np.full((rows, columns), Zone.STROMA, np.uint8)
    zones[:, :3] = Zone.GLASS
    if grade is not None:
        zones[:, 10:32] = Zone.TUMOUR
        zones[: rows * (index // 2 % 3) // 5, 12:30] = Zone.NECROSIS
    living = (zones != Zone.GLASS) & (zones != Zone.NECROSIS)
    density = (0.02, 0.17, 0.6)[index // 3 % 3]
    counts = np.array([0.0005, 0.007, 0.024])[rng.integers(3)]
    return PhantomTruth(
        name=f"slide_{index:02d}",
        seed=seed,
        index=index,
        width=columns * CELL_PX,
        height=rows * CELL_PX,
        mpp=0.5,
        cell_px=CELL_PX,
        stain="none",
        diagnosis=diagnosis,
        grade=grade,
        zones=zones,
        lymphocytes=rng.poisson(density * living).astype(np.uint8),
        mitoses=rng.poisson(counts * (zones == Zone.TUMOUR)).astype(np.uint8),
        mitosis_xy=np.zeros((0, 2), np.int32),
    )


def linear_features(truth: PhantomTruth, channels: int, noise: float = 0.1) -> TileFeatures:
    """Features that are a fixed linear map of what each tile shows, plus noise."""
    rng = np.random.default_rng([9, truth.index])
    mix = np.random.default_rng(1).normal(size=(16, channels))
    rows, coords = [], []
    for y in range(0, truth.zones.shape[0], CELLS):
        for x in range(0, truth.zones.shape[1], CELLS):
            cell = (slice(y, y + CELLS), slice(x, x + CELLS))
            shown = np.zeros(16)
            shown[:6] = [(truth.zones[cell] == zone).mean() for zone in Zone]
            shown[6] = truth.lymphocytes[cell].sum() / 30
            shown[7] = truth.mitoses[cell].sum()
            if truth.grade is not None:
                shown[8 + DIAGNOSES.index(truth.diagnosis)] = shown[Zone.TUMOUR]
                shown[12 + truth.grade] = shown[Zone.TUMOUR]
            rows.append(shown @ mix + noise * rng.normal(size=channels))
            coords.append((x * CELL_PX, y * CELL_PX))
    return TileFeatures(
        features=np.array(rows, np.float32),
        coords=np.array(coords, np.int64),
        size=CELLS * CELL_PX,
        tile_um=112.0,
        slide_mpp=0.5,
        encoder="tiny",
    )


class World(NamedTuple):
    """Everything that a stage reads."""

    features: dict[str, TileFeatures]
    cohort: Cohort
    tokenizer: Any
    recipe: Any


@pytest.fixture(scope="session")
def world() -> World:
    """A world for all tests."""
    return make_world()


def make_world() -> World:
    """24 slides with truth, their features, a tokenizer and the tiny recipe. No slide file exists."""
    from training.cohort.corpus import truth_document
    from training.language.tokenizer import train_tokenizer
    from training.recipes import tiny

    recipe = tiny()
    truths = {truth.name: truth for truth in map(draw_truth, range(24))}
    names = tuple(truths)
    rng = np.random.default_rng(0)
    reports = {name: pathology_report(truth.describe(), rng) for name, truth in truths.items()}
    questions = [
        ClosedQuestion(name, qa.question, qa.options or (), qa.answer, qa.family)
        for name, truth in truths.items()
        for qa in benchmark_questions(truth.describe(), rng)
    ]
    texts = [truth_document(truth.describe(), rng) for truth in truths.values() for _ in range(10)]
    return World(
        cohort=Cohort(
            root=Path("nowhere"),
            paths={name: Path("nowhere") / f"{name}.tiff" for name in names},
            train=names[:18],
            val=names[18:],
            reports=reports,
            turns=dict.fromkeys(names, ()),
            questions=tuple(questions),
            truths=truths,
        ),
        features={name: linear_features(truth, 24) for name, truth in truths.items()},
        tokenizer=train_tokenizer(texts, recipe.vocabulary),
        recipe=recipe,
    )
