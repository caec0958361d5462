"""Stage 2: the projector alone learns to say slide tokens in the language model's words.

As in LLaVA's first stage: template `plain` (image tokens, then a description), everything else frozen.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from training.cohort.cohort import Cohort
from training.engine.fit import FitOptions, require_part
from training.stages.conversations import SampleBatches, fit_llava, plain_samples
from training.stages.pool import TokenPool

if TYPE_CHECKING:
    from core_model.checkpoints.parts import Parts
    from training.settings import Recipe


def project(
    parts: Parts, cohort: Cohort, pool: TokenPool, recipe: Recipe, folder: Path, **options: Unpack[FitOptions]
) -> None:
    """Train the projector of `parts` in place."""
    llava = require_part(parts.llava).requires_grad_(False)
    llava.model.multi_modal_projector.requires_grad_(True)
    schedule = recipe.stage2.schedule.over(len(pool))
    make = plain_samples(cohort, pool, parts.tokenizer, recipe)
    batches = SampleBatches.of_stage(2, parts, pool, make, schedule, recipe.seed)
    fit_llava(llava, batches, schedule, folder, seed=recipe.seed + 2, **options)
