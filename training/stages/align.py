"""Stage 1: slides and texts meet in one space; the slide encoder, the text tower and their heads learn.

Letters: B regions of a step, b of them in one call, T texts, L words of a text, N tiles of a region,
C channels of a tile, n slide tokens, D channels of a slide token, E channels of the common space.

The head reads the mean of the very tokens that the language model will be given, so what the texts tell
apart ends up in those tokens. Under several processes each computes its share of the regions and texts, and
every region is compared with every text all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from core_model.devices import default_device
from training.cohort.cohort import Cohort
from training.cohort.regions import sample_regions, whole_slide
from training.cohort.texts import fitting
from training.engine import ranks
from training.engine.fit import StageBatch, StageProgress, Trainable, fit, quiet, require_part
from training.engine.shares import BatchShare
from training.stages.alignments import AlignmentData, encode_texts, stack_tiles, texts_of
from training.stages.losses import contrastive_loss, retrieval_precision

if TYPE_CHECKING:
    from core_model.checkpoints.parts import Parts
    from core_model.features.tiles import TileFeatures
    from training.settings import Recipe

__all__ = ["AlignmentData", "AlignmentTask", "align", "retrieval", "stack_tiles"]


class AlignmentTask(Trainable):
    """The network that stage 1 trains, and its loss."""

    uses_all = False  # a pretrained text encoder may have parts that nothing reads

    def __init__(
        self,
        parts: Parts,
        n_tokens: int,
        short_weight: float = 1.0,
        at_once: int | None = None,
        pooling: str = "tokens",
    ) -> None:
        """`at_once`: texts that go through the text tower in one call, at most."""
        super().__init__()
        self.slide_encoder, self.alignment = require_part(parts.slide_encoder), require_part(parts.alignment)
        self.n_tokens, self.short_weight, self.at_once = n_tokens, short_weight, at_once
        self.pooling = pooling
        self.requires_grad_(True)

    def forward(
        self, groups: list[tuple[Tensor, Tensor]], places: Tensor, long: StageBatch, short: StageBatch
    ) -> dict[str, Tensor]:
        """Loss of one step, the same in every process.

        `groups`: tiles (b, N, C) and coordinates (b, N, 2) of this process's regions, each call of one
        length; `places` (B,) says which of the regions of all processes are the B of the step. `long`,
        `short`: ids and mask (t, L) of this process's texts, their `places` (T,), and which text fits which
        region (B, T).

        All processes have the whole loss, so `gather` sums their equal gradients, and averaging over
        processes, as DDP and ZeRO do, divides that sum again. The temperature's needs no more than that.
        """
        image = self.embed(groups)
        scale = self.alignment.logit_scale.clamp(max=float(np.log(100))).exp()
        text_batches = [t for t in (long, short) if len(t["ids"])]
        words = [self.words(t["ids"], t["mask"]) for t in text_batches]
        with torch.autocast(image.device.type, enabled=False):  # bf16 is too coarse for similarities
            image = ranks.gather(image)[places]  # (B, E)
            words = [
                ranks.gather(w)[t["places"]] for w, t in zip(words, text_batches, strict=True)
            ]  # each (T, E)
            losses = [
                contrastive_loss(image, w, t["fits"], scale.float())
                for w, t in zip(words, text_batches, strict=True)
            ]
        return {"loss": losses[0] + self.short_weight * sum(losses[1:])}

    def embed(self, groups: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Unit vectors (B, E) of all regions, float32."""
        dtype = self.slide_encoder.patch_embed["proj"].weight.dtype
        tokens = [
            self.slide_encoder.slide_tokens(x.to(dtype), at, self.n_tokens, pooling=self.pooling)
            for x, at in groups
        ]
        return self.alignment.head(torch.cat(tokens)).float()  # (B, n, D) → (B, E)

    def words(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Unit vectors (T, E) of texts (T, L), float32."""
        calls = zip(ids.split(self.at_once or len(ids)), mask.split(self.at_once or len(ids)), strict=True)
        return torch.cat([self.alignment.text(*call) for call in calls]).float()


def align(
    parts: Parts,
    cohort: Cohort,
    features: Mapping[str, TileFeatures],
    recipe: Recipe,
    folder: Path,
    *,
    resume: bool = False,
    progress: StageProgress = quiet,
) -> dict[str, float]:
    """Train slide encoder and alignment of `parts` in place.

    Returns the stage's figures on validation; to the main process alone, the others get none.
    """
    settings = recipe.stage1
    schedule = settings.schedule.over(len(cohort.train))
    task = AlignmentTask(parts, recipe.n_tokens, settings.short_weight, schedule.micro_batch, recipe.pooling)
    task.slide_encoder.recompute = schedule.recompute
    tokenizer = parts.text_tokenizer or parts.tokenizer
    data = AlignmentData(cohort, features, tokenizer, recipe, BatchShare.here(schedule.micro_batch))
    fit(task, data.batch, schedule, folder, seed=recipe.seed, resume=resume, progress=progress)
    if not ranks.is_main():
        return {}
    task.to(default_device())
    figures = {"retrieval": retrieval(task, cohort, features, tokenizer, recipe)}
    task.to("cpu")
    return figures


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
    regions = [whole_slide(name, texts_per_region) for name, texts_per_region in val.items()]
    if extents:
        regions += sample_regions(val, extents, per_slide * len(val), 0.0, rng)
    texts_per_region = [texts_of(cohort, region, rng) for region in regions]
    texts = [short or long for _, long, short in texts_per_region]
    device = task.alignment.logit_scale.device
    stacks = (stack_tiles(val, [r], [r.tiles], recipe) for r in regions)
    image = torch.cat([task.embed([(tiles.to(device), places.to(device))]) for tiles, places in stacks])
    ids_and_mask = encode_texts(tokenizer, texts, recipe.stage1.text_length)
    words = task.words(ids_and_mask["ids"].to(device), ids_and_mask["mask"].to(device))
    fits = torch.from_numpy(fitting([attributes for attributes, _, _ in texts_per_region], texts)).to(device)
    return retrieval_precision(image, words, fits)
