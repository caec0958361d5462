"""What is measured on validation slides: closed-question accuracy by kind, or the loss of answers.

Letters: n slide tokens, C channels of a slide token, O options, L tokens of a text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from core_model.checkpoints.folder import load_checkpoint
from core_model.language.conversation import IGNORE, Turn, encode_turns
from core_model.language.wsi_llava import option_log_likelihoods
from core_model.models.wsi_llava import WsiLlava
from training.cohort.cohort import ClosedQuestion
from training.context import TrainingRun
from training.settings import PretrainedLanguage, Recipe
from training.stages.pool import TokenPool

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from core_model.config import ModelConfig
    from core_model.features.tiles import TileFeatures


def language_dtype(recipe: Recipe) -> torch.dtype:
    """Type of a language model while it is trained on and measured: 7B in float32 would take 27 GB."""
    import torch

    if not isinstance(recipe.language, PretrainedLanguage):
        return torch.float32
    dtype: torch.dtype = getattr(torch, recipe.language.dtype)
    return dtype


def measure_checkpoint(run: TrainingRun, folder: Path) -> dict[str, float]:
    """What a saved model makes of the validation slides.

    Accuracy at closed questions where there are any and tiles to look at, else the loss of answers.
    """
    cohort, questions = run.cohort, run.cohort.closed_questions("val")
    parts, config = load_checkpoint(folder, dtype=language_dtype(run.recipe))
    model = WsiLlava(folder, parts, config)
    if questions and not cohort.tokens:
        return closed_accuracy(model, questions, run.features)
    if cohort.tokens:
        token_files = TokenPool.of_files(cohort, cohort.val, config.n_tokens, config.feature_dim).tokens
        tokens = (token_files[[i]][0] for i in range(len(cohort.val)))  # (n, C) each
    else:
        tokens = (model.slide_tokens(run.features[name]) for name in cohort.val)  # (n, C) each
    samples = (
        (slide_tokens, cohort.turns_about(name))
        for slide_tokens, name in zip(tokens, cohort.val, strict=True)
    )
    return {"val_loss": answer_loss(parts.llava, parts.tokenizer, config, samples)}


def answer_loss(
    llava: Any, tokenizer: Any, config: ModelConfig, samples: Iterable[tuple[Tensor, Sequence[Turn]]]
) -> float:
    """Mean negative log-likelihood (nats) per token of the answers; nan where there is no sample.

    `samples`: slide tokens (n, C) with the turns of one conversation about them. Answers are cut where the
    model's reach ends.
    """
    total, count = 0.0, 0
    for tokens, turns in samples:
        ids_and_labels = encode_turns(
            tokenizer,
            turns,
            config.n_tokens,
            config.language_model.max_positions,
            system=config.system,
            template=config.template,
        )
        likelihood = option_log_likelihoods(llava, tokens[None].to(llava.device), [ids_and_labels])
        total -= float(likelihood[0, 0])
        count += sum(label != IGNORE for label in ids_and_labels[1])
    return total / count if count else float("nan")


def closed_accuracy(
    model: WsiLlava, questions: Sequence[ClosedQuestion], features: Mapping[str, TileFeatures]
) -> dict[str, float]:
    """Share of questions whose likeliest option is right: per family, and under "closed" over all."""
    hits: dict[str, list[bool]] = {}
    for item in questions:
        probabilities = model.score_options(features[item.slide], item.question, item.options)  # (O,)
        right = item.options[int(np.argmax(probabilities))] == item.answer
        hits.setdefault(item.family, []).append(right)
    every = [right for family in hits.values() for right in family]
    scores = {family: float(np.mean(hits[family])) for family in sorted(hits)}
    return {"closed": float(np.mean(every)) if every else float("nan")} | scores


def guessing(questions: Sequence[ClosedQuestion]) -> dict[str, float]:
    """What a blind guesser gets: at random, and with the best constant answer of each family."""
    counts: dict[str, dict[str, int]] = {}
    for item in questions:
        family = counts.setdefault(item.family, {})
        family[item.answer] = family.get(item.answer, 0) + 1
    total = max(1, len(questions))
    return {
        "random": sum(1 / len(item.options) for item in questions) / total,
        "best_constant": sum(max(family.values()) for family in counts.values()) / total,
    }
