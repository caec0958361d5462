"""Stage 3: the projector and LoRA on the language model learn to answer questions.

LoRA (Hu et al. 2021) lies on every linear layer of the language model except the output head, as in
WSI-LLaVA's recipe; the loss falls on the assistant's words alone. At the end LoRA is merged, so that the
checkpoint needs no adapter library.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import torch
from torch import nn

from training.cohort.cohort import Cohort
from training.engine.fit import FitOptions, require_part
from training.stages.conversations import SampleBatches, conversations, fit_llava, instruction_samples
from training.stages.pool import TokenPool

if TYPE_CHECKING:
    from core_model.checkpoints.parts import Parts
    from training.settings import InstructSettings, Recipe

PROJECTOR = "llava.model.multi_modal_projector."


def instruct(
    parts: Parts, cohort: Cohort, pool: TokenPool, recipe: Recipe, folder: Path, **options: Unpack[FitOptions]
) -> None:
    """Train projector and language model of `parts` in place."""
    llava = require_part(parts.llava)
    lora_model = add_lora(llava, recipe.stage3, recipe.seed)
    samples = len(pool) if cohort.truths else len(conversations(cohort, pool, recipe.stage3.turns))
    schedule = recipe.stage3.schedule.over(samples)
    make = instruction_samples(cohort, pool, parts.tokenizer, recipe)
    batches = SampleBatches.of_stage(3, parts, pool, make, schedule, recipe.seed)
    rates = {PROJECTOR: recipe.stage3.projector_rate}
    fit_llava(llava, batches, schedule, folder, seed=recipe.seed + 3, rates=rates, **options)
    lora_model.merge_and_unload()


def add_lora(llava: Any, settings: InstructSettings, seed: int = 0) -> Any:
    """Freeze all but the projector and put LoRA on the language model, in place.

    Its first weights are those of `seed`: the same in every process. Returns peft's wrapper of the language
    model, whose `merge_and_unload` undoes the change of structure.
    """
    from peft import LoraConfig, PeftModel

    llava.requires_grad_(False)
    language_model = llava.model.language_model
    targets = [name for name, module in language_model.named_modules() if isinstance(module, nn.Linear)]
    lora = LoraConfig(
        r=settings.rank, lora_alpha=settings.alpha, lora_dropout=settings.dropout, target_modules=targets
    )
    with warnings.catch_warnings(), torch.random.fork_rng():
        warnings.simplefilter(
            "ignore", FutureWarning
        )  # peft reads an attribute that transformers has renamed
        torch.manual_seed(seed)
        lora_model = PeftModel(language_model, lora)
    llava.model.multi_modal_projector.requires_grad_(True)
    return lora_model
