"""Batches for stage 1: regions of slides, and texts that fit them.

Letters: B regions of a step, b of them in one call, T texts, L words of a text, N tiles of a region,
C channels of a tile.

Each step shows B regions of many sizes, each with a long text (report or caption) and a short one (phrase
or question). Under several processes each is given its share of regions and texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from core_model.encoders.slide_encoder import encoder_coords
from core_model.language.conversation import without_special_tokens
from training.cohort.cohort import Cohort
from training.cohort.regions import Indices, Region, batches_by_length, even_length, sample_regions, thin
from training.cohort.texts import (
    Attributes,
    Text,
    attributes_of,
    fitting,
    long_text,
    short_text,
    told_in_full,
)
from training.engine.fit import StageBatch
from training.engine.shares import ALONE, BatchShare, deal, places_of_regions
from training.engine.step_log import COUNTS

if TYPE_CHECKING:
    from core_model.features.tiles import TileFeatures
    from training.settings import Recipe


class AlignmentData:
    """Batches of regions with texts, each a function of its number."""

    def __init__(
        self,
        cohort: Cohort,
        features: Mapping[str, TileFeatures],
        tokenizer: Any,
        recipe: Recipe,
        share: BatchShare = ALONE,
    ) -> None:
        self.cohort, self.tokenizer, self.recipe, self.share = cohort, tokenizer, recipe, share
        self.features = {name: features[name] for name in cohort.train}
        self.extents = {name: size for name, size in cohort.extents.items() if name in self.features}
        self._round, self._regions, self._batches = -1, [], []  # type: tuple[int, list[Region], list[Any]]

    def batch(self, step: int) -> StageBatch:
        """The arguments of `AlignmentTask.forward` for one step."""
        turn, place = divmod(step, self.recipe.regions.refresh)
        self._draw(turn)
        rng = np.random.default_rng([self.recipe.seed, 12, step])
        regions = [self._regions[i] for group in self._batches[place] for i in group]
        triples = [texts_of(self.cohort, region, rng) for region in regions]
        attributes = [values for values, _, _ in triples]
        tiles = [thin(region.tiles, even_length(len(region.tiles)), rng) for region in regions]
        groups = self._batches[place]
        lengths = [even_length(len(self._regions[group[0]].tiles)) for group in groups]
        calls = deal([len(group) for group in groups], lengths, self.share)
        return {
            "groups": [self._tiles(regions, tiles, call) for call in calls[self.share.rank]],
            "places": torch.tensor(places_of_regions(calls)),
            "long": self._encoded([long for _, long, _ in triples], attributes),
            "short": self._encoded([short for _, _, short in triples if short], attributes),
            COUNTS: {"samples": len(regions), "tiles": sum(map(len, tiles))},
        }

    def _draw(self, turn: int) -> None:
        """New regions for the next steps, dealt into batches."""
        if turn == self._round:
            return
        regions, batch = self.recipe.regions, self.recipe.stage1.schedule.batch
        rng = np.random.default_rng([self.recipe.seed, 11, turn])
        self._regions = sample_regions(
            self.features, self.extents, batch * regions.refresh, regions.whole_share, rng
        )
        lengths = [even_length(len(region.tiles)) for region in self._regions]
        self._batches = batches_by_length(lengths, batch, regions.together, rng)
        self._round = turn

    def _tiles(
        self, regions: Sequence[Region], tiles: Sequence[Indices], call: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """Tiles (b, N, C) and coordinates (b, N, 2) of the regions of one call."""
        call_regions = [regions[i] for i in call]
        return stack_tiles(self.features, call_regions, [tiles[i] for i in call], self.recipe)

    def _encoded(self, texts: Sequence[Text], attributes: Sequence[Attributes]) -> StageBatch:
        """This process's texts, padded to the longest of all processes."""
        ids_and_mask = encode_texts(self.tokenizer, texts, self.recipe.stage1.text_length)
        rows = self.share.rows(len(texts))
        return {key: value[rows] for key, value in ids_and_mask.items()} | {
            "places": torch.tensor(self.share.places_of_rows(len(texts)), dtype=torch.long),
            "fits": torch.from_numpy(fitting(attributes, texts).reshape(len(attributes), len(texts))),
        }


def texts_of(
    cohort: Cohort, region: Region, rng: np.random.Generator
) -> tuple[Attributes, Text, Text | None]:
    """Attributes of a region, a long text about it, and a short one where there is a truth map.

    A slide without truth map is known by its report alone: its only attribute.
    """
    truth = cohort.truths.get(region.slide)
    if truth is None:
        report = cohort.reports[region.slide]
        attributes = {"report": report}
        return attributes, told_in_full(report, attributes), None
    box_truth = truth.describe(region.box)
    attributes = attributes_of(box_truth)
    whole = region.box is None
    if whole and rng.random() < 0.5:
        return attributes, told_in_full(cohort.reports[region.slide], attributes), short_text(box_truth, rng)
    return attributes, long_text(box_truth, whole, rng), short_text(box_truth, rng)


def stack_tiles(
    features: Mapping[str, TileFeatures],
    regions: Sequence[Region],
    tiles: Sequence[np.ndarray],
    recipe: Recipe,
) -> tuple[Tensor, Tensor]:
    """The chosen tiles of each region: (b, N, C) and their places in px at encoder mpp (b, N, 2)."""
    slides = [features[region.slide] for region in regions]
    rows = np.stack([f.features[chosen_rows] for f, chosen_rows in zip(slides, tiles, strict=True)])
    places = [
        encoder_coords(*f.squared, recipe.slide_encoder.encoder_mpp)[chosen_rows]
        for f, chosen_rows in zip(slides, tiles, strict=True)
    ]
    return torch.from_numpy(rows), torch.from_numpy(np.stack(places))


def encode_texts(tokenizer: Any, texts: Sequence[Text], length: int) -> StageBatch:
    """Token ids and mask (T, L)."""
    if not texts:
        empty = torch.zeros((0, 1), dtype=torch.long)
        return {"ids": empty, "mask": empty}
    encoding = tokenizer(
        [without_special_tokens(text.words) for text in texts],
        padding=True,
        truncation=True,
        max_length=length,
        return_tensors="pt",
    )
    return {"ids": encoding["input_ids"], "mask": encoding["attention_mask"]}
