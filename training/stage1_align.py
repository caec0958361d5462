"""Stage 1: slides and texts meet in one space; the slide encoder, the text tower and their heads learn.

Letters: B regions, T texts, L words of a text, N tiles of a region, C channels of a tile, n slide tokens,
D channels of a slide token, E channels of the common space.

Each step shows B regions of many sizes, each with a long text (report or caption) and a short one (phrase
or question). The head reads the mean of the very tokens that the language model will be given, so what
the texts tell apart ends up in those tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from core_model.conversation import clean
from core_model.slide_encoder import encoder_coords
from training.claims import Attributes, Text, attributes_of, fitting, long_text, short_text, told_in_full
from training.data import Cohort
from training.fit import Batch, Progress, Trainable, fit, needed, quiet
from training.losses import contrastive_loss, retrieval_precision
from training.regions import Region, batches_by_length, even_length, sample_regions, thin, whole_slide

if TYPE_CHECKING:
    from core_model.features import TileFeatures
    from core_model.parts import Parts
    from training.recipes import Recipe


class AlignmentTask(Trainable):
    """What stage 1 trains."""

    def __init__(self, parts: Parts, n_tokens: int, short_weight: float) -> None:
        super().__init__()
        self.slide_encoder, self.alignment = needed(parts.slide_encoder), needed(parts.alignment)
        self.n_tokens, self.short_weight = n_tokens, short_weight
        self.requires_grad_(True)

    def forward(self, groups: list[tuple[Tensor, Tensor]], long: Batch, short: Batch) -> dict[str, Tensor]:
        """Loss of one step.

        `groups`: tiles (b, N, C) and places (b, N, 2) of regions of one length each; together they are the
        B regions in order. `long`, `short`: ids and mask (T, L), and which text fits which region (B, T).
        """
        image = self.embed(groups)  # (B, E)
        scale = self.alignment.logit_scale.clamp(max=float(np.log(100))).exp()
        shown = [t for t in (long, short) if len(t["ids"])]
        words = [self.alignment.text(t["ids"], t["mask"]).float() for t in shown]  # each (T, E)
        with torch.autocast(image.device.type, enabled=False):  # bf16 is too coarse for similarities
            losses = [contrastive_loss(image, w, t["fits"], scale) for w, t in zip(words, shown, strict=True)]
        return {"loss": losses[0] + self.short_weight * sum(losses[1:])}

    def embed(self, groups: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Unit vectors (B, E) of all regions."""
        tokens = [self.slide_encoder.slide_tokens(tiles, at, self.n_tokens) for tiles, at in groups]
        return self.alignment.head(torch.cat(tokens)).float()  # (B, n, D) → (B, E)


class AlignmentData:
    """Batches of regions with texts, each a function of its number."""

    def __init__(
        self, cohort: Cohort, features: Mapping[str, TileFeatures], tokenizer: Any, recipe: Recipe
    ) -> None:
        self.cohort, self.tokenizer, self.recipe = cohort, tokenizer, recipe
        self.features = {name: features[name] for name in cohort.train}
        self.extents = {name: size for name, size in cohort.extents.items() if name in self.features}
        self._round, self._regions, self._batches = -1, [], []  # type: tuple[int, list[Region], list[Any]]

    def batch(self, step: int) -> Batch:
        """The arguments of `AlignmentTask.forward` for one step."""
        turn, place = divmod(step, self.recipe.regions.refresh)
        self._draw(turn)
        rng = np.random.default_rng([self.recipe.seed, 12, step])
        groups = [[self._regions[i] for i in group] for group in self._batches[place]]
        regions = [region for group in groups for region in group]
        found = [texts_of(self.cohort, region, rng) for region in regions]
        attributes = [own for own, _, _ in found]
        return {
            "groups": [self._tiles(group, rng) for group in groups],
            "long": self._encoded([long for _, long, _ in found], attributes),
            "short": self._encoded([short for _, _, short in found if short], attributes),
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

    def _tiles(self, group: Sequence[Region], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Tiles (b, N, C) and places (b, N, 2) of regions of one even length."""
        length = even_length(len(group[0].tiles))
        return stack_tiles(self.features, group, [thin(r.tiles, length, rng) for r in group], self.recipe)

    def _encoded(self, texts: Sequence[Text], attributes: Sequence[Attributes]) -> Batch:
        return encode_texts(self.tokenizer, texts, self.recipe.stage1.text_length) | {
            "fits": torch.from_numpy(fitting(attributes, texts).reshape(len(attributes), len(texts)))
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
        own = {"report": report}
        return own, told_in_full(report, own), None
    described = truth.describe(region.box)
    own = attributes_of(described)
    whole = region.box is None
    if whole and rng.random() < 0.5:
        return own, told_in_full(cohort.reports[region.slide], own), short_text(described, rng)
    return own, long_text(described, whole, rng), short_text(described, rng)


def stack_tiles(
    features: Mapping[str, TileFeatures],
    regions: Sequence[Region],
    tiles: Sequence[np.ndarray],
    recipe: Recipe,
) -> tuple[Tensor, Tensor]:
    """The chosen tiles of each region: (b, N, C) and their places in px at encoder mpp (b, N, 2)."""
    found = [features[region.slide] for region in regions]
    rows = np.stack([f.features[chosen] for f, chosen in zip(found, tiles, strict=True)])
    places = [
        encoder_coords(f.coords[chosen], f.slide_mpp, recipe.slide_encoder.encoder_mpp)
        for f, chosen in zip(found, tiles, strict=True)
    ]
    return torch.from_numpy(rows), torch.from_numpy(np.stack(places))


def encode_texts(tokenizer: Any, texts: Sequence[Text], length: int) -> Batch:
    """Token ids and mask (T, L)."""
    if not texts:
        empty = torch.zeros((0, 1), dtype=torch.long)
        return {"ids": empty, "mask": empty}
    found = tokenizer(
        [clean(text.words) for text in texts],
        padding=True,
        truncation=True,
        max_length=length,
        return_tensors="pt",
    )
    return {"ids": found["input_ids"], "mask": found["attention_mask"]}


def align(
    parts: Parts,
    cohort: Cohort,
    features: Mapping[str, TileFeatures],
    recipe: Recipe,
    folder: Path,
    *,
    resume: bool = False,
    progress: Progress = quiet,
) -> dict[str, float]:
    """Train slide encoder and alignment of `parts` in place; returns the stage's figures on validation."""
    settings = recipe.stage1
    task = AlignmentTask(parts, recipe.n_tokens, settings.short_weight)
    data = AlignmentData(cohort, features, parts.tokenizer, recipe)
    fit(
        task,
        data.batch,
        settings.schedule,
        folder,
        seed=recipe.seed,
        resume=resume,
        progress=progress,
    )
    return {"retrieval": retrieval(task, cohort, features, parts.tokenizer, recipe)}


@torch.inference_mode()
def retrieval(
    task: AlignmentTask,
    cohort: Cohort,
    features: Mapping[str, TileFeatures],
    tokenizer: Any,
    recipe: Recipe,
    per_slide: int = 4,
) -> float:
    """Share of texts whose nearest validation region is one that they fit.

    With truth maps: phrases and questions about single regions. Without: each slide's report.
    """
    task.eval()
    rng = np.random.default_rng([recipe.seed, 13])
    val = {name: features[name] for name in cohort.val}
    extents = {name: size for name, size in cohort.extents.items() if name in val}
    regions = [whole_slide(name, found) for name, found in val.items()]
    if extents:
        regions += sample_regions(val, extents, per_slide * len(val), 0.0, rng)
    found = [texts_of(cohort, region, rng) for region in regions]
    texts = [short or long for _, long, short in found]
    image = torch.cat([task.embed([stack_tiles(val, [r], [r.tiles], recipe)]) for r in regions])
    encoded = encode_texts(tokenizer, texts, recipe.stage1.text_length)
    words = task.alignment.text(encoded["ids"], encoded["mask"])
    fits = torch.from_numpy(fitting([own for own, _, _ in found], texts))
    return retrieval_precision(image, words, fits)
