"""Stage 2: the projector alone learns to say slide tokens in the language model's words.

As in LLaVA's first stage: template `plain` (image tokens, then a description), everything else frozen.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from training.cohort.cohort import Cohort
from training.engine.fit import StageProgress, fit, quiet, require_part
from training.engine.shares import BatchShare
from training.stages.conversations import LlavaTask, SampleBatches, plain_samples
from training.stages.pool import TokenPool

if TYPE_CHECKING:
    from core_model.checkpoints.parts import Parts
    from training.settings import Recipe


def project(
    parts: Parts,
    cohort: Cohort,
    pool: TokenPool,
    recipe: Recipe,
    folder: Path,
    *,
    resume: bool = False,
    progress: StageProgress = quiet,
) -> None:
    """Train the projector of `parts` in place."""
    llava = require_part(parts.llava).requires_grad_(False)
    llava.model.multi_modal_projector.requires_grad_(True)
    schedule = recipe.stage2.schedule.over(len(pool))
    batches = SampleBatches(
        pool,
        plain_samples(cohort, pool, parts.tokenizer, recipe),
        schedule.batch,
        [recipe.seed, 22],
        int(parts.tokenizer.pad_token_id),
        BatchShare.here(schedule.micro_batch),
    )
    fit(
        LlavaTask(llava, schedule.recompute),
        batches.batch,
        schedule,
        folder,
        seed=recipe.seed + 2,
        parts=batches.parts,
        resume=resume,
        progress=progress,
    )
