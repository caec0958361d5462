"""Slide tokens of a fixed pool of regions, computed once: stages 2 and 3 leave the slide encoder alone.

Letters: P regions in the pool, n slide tokens, C channels of a slide token.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from core_model.errors import RunError
from core_model.slide import Box
from training.data import Cohort
from training.fit import Progress, needed, quiet
from training.regions import batches_by_length, sample_regions, whole_slide
from training.stage1_align import stack_tiles

if TYPE_CHECKING:
    from core_model.features import TileFeatures
    from core_model.parts import Parts
    from training.phantom.truth import BoxTruth
    from training.recipes import Recipe

WHOLE = (-1, -1, -1, -1)
"""Stands in the file for the box of a whole slide."""


@dataclass(frozen=True)
class TokenPool:
    """Regions as the language model will see them."""

    tokens: Tensor
    """(P, n, C) float16: as exact as bf16 weights allow, and half the memory."""
    slides: tuple[str, ...]
    """Slide of each region."""
    boxes: tuple[Box | None, ...]
    """Box of each region; None for a whole slide."""

    def __len__(self) -> int:
        return len(self.slides)

    @property
    def whole(self) -> np.ndarray:
        """Positions of whole slides."""
        return np.array([i for i, box in enumerate(self.boxes) if box is None], dtype=np.int64)

    @property
    def windows(self) -> np.ndarray:
        """Positions of windows; there are none without truth maps."""
        return np.array([i for i, box in enumerate(self.boxes) if box is not None], dtype=np.int64)

    def draw(self, count: int, whole_share: float, rng: np.random.Generator) -> list[int]:
        """Positions of `count` random regions, of which a share are whole slides."""
        whole, windows = self.whole, self.windows
        if not len(windows):
            return [int(i) for i in rng.choice(whole, count)]
        chosen = np.where(
            rng.random(count) < whole_share, rng.choice(whole, count), rng.choice(windows, count)
        )
        return [int(i) for i in chosen]

    def truth(self, i: int, cohort: Cohort) -> BoxTruth | None:
        """What the region shows, where its slide has a truth map."""
        truth = cohort.truths.get(self.slides[i])
        return truth.describe(self.boxes[i]) if truth is not None else None

    def save(self, path: Path) -> None:
        """Write the pool beside its place and rename it."""
        boxes = np.array([box if box is not None else WHOLE for box in self.boxes], dtype=np.int64)
        part = path.with_name(f".{path.name}.{os.getpid()}.part.npz")
        np.savez(part, tokens=self.tokens.numpy(), slides=np.array(self.slides), boxes=boxes)
        part.replace(path)

    @classmethod
    def load(cls, path: Path) -> TokenPool:
        """Read a pool. Raises RunError where the file is not whole."""
        try:
            with np.load(path, allow_pickle=False) as file:
                tokens, slides, boxes = (file[key] for key in ("tokens", "slides", "boxes"))
        except (OSError, ValueError, KeyError) as error:
            raise RunError(f"slide tokens cannot be read ({error})", where=path) from error
        return cls(
            torch.from_numpy(tokens),
            tuple(str(name) for name in slides),
            tuple(None if tuple(box) == WHOLE else Box(*(int(v) for v in box)) for box in boxes),
        )


@torch.inference_mode()
def make_pool(
    parts: Parts,
    cohort: Cohort,
    features: Mapping[str, TileFeatures],
    recipe: Recipe,
    progress: Progress = quiet,
) -> TokenPool:
    """Every training slide whole, and `recipe.regions.pool` windows where there are truth maps."""
    train = {name: features[name] for name in cohort.train}
    extents = {name: size for name, size in cohort.extents.items() if name in train}
    rng = np.random.default_rng([recipe.seed, 21])
    regions = [whole_slide(name, found) for name, found in train.items()]
    if extents:
        known = {name: train[name] for name in extents}
        regions += sample_regions(known, extents, recipe.regions.pool, 0.0, rng)
    lengths = [len(region.tiles) for region in regions]  # exact: no tile is left out here
    groups = [g for b in batches_by_length(lengths, len(lengths), 64, rng) for g in b]
    tokens = torch.empty((len(regions), recipe.n_tokens, recipe.model.feature_dim), dtype=torch.float16)
    encoder: Any = needed(parts.slide_encoder)
    for done, group in enumerate(groups, start=1):
        chosen = [regions[i] for i in group]
        tiles, places = stack_tiles(features, chosen, [region.tiles for region in chosen], recipe)
        found = encoder.slide_tokens(tiles, places, recipe.n_tokens, recipe.model.feature_dim)
        tokens[group] = found.to(torch.float16)
        progress("tokens", done, len(groups))
    return TokenPool(
        tokens, tuple(region.slide for region in regions), tuple(region.box for region in regions)
    )
