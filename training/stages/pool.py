"""Slide tokens of a fixed pool of regions, computed once: stages 2 and 3 leave the slide encoder alone.

Letters: P regions in the pool, n slide tokens, C channels of a slide token.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from core_model.errors import RunError
from core_model.files import replacing, write_value, writing
from core_model.slides.box import Box
from training.cohort.cohort import Cohort
from training.cohort.regions import batches_by_length, sample_regions, whole_slide
from training.cohort.stored import TokenFiles, TokenMatrix
from training.engine.fit import StageProgress, quiet, require_part
from training.stages.align import stack_tiles

if TYPE_CHECKING:
    from core_model.checkpoints.parts import Parts
    from core_model.features.tiles import TileFeatures
    from training.phantom.truth import BoxTruth
    from training.settings import Recipe

TOKENS, INDEX = "tokens.npy", "index.json"
"""In a pool's folder: the matrix (float16: as exact as bf16 weights allow), and what its rows show."""


class Tokens(Protocol):
    """Slide tokens by position."""

    def __getitem__(self, rows: Any, /) -> Tensor:
        """(b, n, C) of these rows."""


@dataclass(frozen=True)
class TokenPool:
    """Regions as the language model will see them."""

    tokens: Tokens
    """`tokens[[i, …]]` gives (b, n, C): a tensor (P, n, C), or what reads one from disk."""
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
        positions = np.where(
            rng.random(count) < whole_share, rng.choice(whole, count), rng.choice(windows, count)
        )
        return [int(i) for i in positions]

    def truth(self, i: int, cohort: Cohort) -> BoxTruth | None:
        """The truth of the region; None where its slide has no truth map."""
        truth = cohort.truths.get(self.slides[i])
        return truth.describe(self.boxes[i]) if truth is not None else None

    def save(self, folder: Path) -> None:
        """Write the pool; index.json comes last."""
        boxes = [list(box) if box is not None else None for box in self.boxes]
        with writing("the pool of slide tokens", folder):
            with replacing(folder / TOKENS) as part, part.open("wb") as file:
                np.save(file, np.asarray(self.tokens))
            write_value(folder / INDEX, {"slides": self.slides, "boxes": boxes})

    @classmethod
    def load(cls, folder: Path) -> TokenPool:
        """Open a pool, its tokens left on disk. Raises RunError where it is not whole."""
        try:
            index = json.loads((folder / INDEX).read_text("utf-8"))
            tokens = TokenMatrix(folder / TOKENS)
            if len(tokens) != len(index["slides"]):
                raise ValueError(f"{len(tokens)} rows for {len(index['slides'])} regions")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"the slide tokens cannot be read ({error})", where=folder) from error
        boxes = (Box(*box) if box is not None else None for box in index["boxes"])
        return cls(tokens, tuple(index["slides"]), tuple(boxes))

    @classmethod
    def of_files(cls, cohort: Cohort, names: Sequence[str], n: int, channels: int) -> TokenPool:
        """Whole slides whose tokens the cohort holds, in float32 as they were released."""
        files = TokenFiles([cohort.tokens[name] for name in names], n, channels)
        return cls(files, tuple(names), (None,) * len(names))


@torch.inference_mode()
def make_pool(
    parts: Parts,
    cohort: Cohort,
    features: Mapping[str, TileFeatures],
    recipe: Recipe,
    progress: StageProgress = quiet,
) -> TokenPool:
    """Every training slide whole, and `recipe.regions.pool` windows where there are truth maps."""
    train = {name: features[name] for name in cohort.train}
    extents = {name: size for name, size in cohort.extents.items() if name in train}
    rng = np.random.default_rng([recipe.seed, 21])
    regions = [whole_slide(name, slide_tokens) for name, slide_tokens in train.items()]
    if extents:
        with_truth = {name: train[name] for name in extents}
        regions += sample_regions(with_truth, extents, recipe.regions.pool, 0.0, rng)
    lengths = [len(region.tiles) for region in regions]  # exact: no tile is left out here
    groups = [g for b in batches_by_length(lengths, len(lengths), 64, rng) for g in b]
    tokens = torch.empty((len(regions), recipe.n_tokens, recipe.model.feature_dim), dtype=torch.float16)
    encoder: Any = require_part(parts.slide_encoder)
    for count, group in enumerate(groups, start=1):
        members = [regions[i] for i in group]
        tiles, places = stack_tiles(features, members, [region.tiles for region in members], recipe)
        slide_tokens = encoder.slide_tokens(
            tiles, places, recipe.n_tokens, recipe.model.feature_dim, pooling=recipe.pooling
        )
        tokens[group] = slide_tokens.to(torch.float16)  # (b, n, C)
        progress("tokens", count, len(groups))
    return TokenPool(
        tokens, tuple(region.slide for region in regions), tuple(region.box for region in regions)
    )
