"""What is measured on validation slides: closed-question accuracy by kind, or the loss of answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from core_model.language.conversation import IGNORE, Turn, encode_turns
from core_model.language.scoring import option_log_likelihoods
from core_model.models.wsi_llava import WsiLlava
from training.cohort.cohort import ClosedQuestion

if TYPE_CHECKING:
    from torch import Tensor

    from core_model.checkpoints.parts import Parts
    from core_model.config import ModelConfig
    from core_model.features.tiles import TileFeatures


def bound(parts: Parts, config: ModelConfig, folder: Path) -> WsiLlava:
    """The parts in memory as a model that answers."""
    return WsiLlava(folder, parts, config)


def answer_loss(
    llava: Any, tokenizer: Any, config: ModelConfig, asked: Iterable[tuple[Tensor, Sequence[Turn]]]
) -> float:
    """Mean negative log-likelihood (nats) per token of the answers; nan where nothing is asked.

    `asked`: slide tokens (n, C) with the turns of one conversation about them. Answers are cut where the
    model's reach ends.
    """
    total, count = 0.0, 0
    for seen, turns in asked:
        encoded = encode_turns(
            tokenizer,
            turns,
            config.n_tokens,
            config.language_model.max_positions,
            system=config.system,
            template=config.template,
        )
        likelihood = option_log_likelihoods(llava, seen[None].to(llava.device), [encoded])
        total -= float(likelihood[0, 0])
        count += sum(label != IGNORE for label in encoded[1])
    return total / count if count else float("nan")


def closed_accuracy(
    model: WsiLlava, asked: Sequence[ClosedQuestion], features: Mapping[str, TileFeatures]
) -> dict[str, float]:
    """Share of questions whose likeliest option is right: per family, and under "closed" over all."""
    hits: dict[str, list[bool]] = {}
    for item in asked:
        probabilities = model.score_options(features[item.slide], item.question, item.options)
        right = item.options[int(np.argmax(probabilities))] == item.answer
        hits.setdefault(item.family, []).append(right)
    every = [right for family in hits.values() for right in family]
    scores = {family: float(np.mean(hits[family])) for family in sorted(hits)}
    return {"closed": float(np.mean(every)) if every else float("nan")} | scores


def guessing(asked: Sequence[ClosedQuestion]) -> dict[str, float]:
    """What a blind guesser gets: at random, and with the best constant answer of each family."""
    counts: dict[str, dict[str, int]] = {}
    for item in asked:
        family = counts.setdefault(item.family, {})
        family[item.answer] = family.get(item.answer, 0) + 1
    total = max(1, len(asked))
    return {
        "random": sum(1 / len(item.options) for item in asked) / total,
        "best_constant": sum(max(family.values()) for family in counts.values()) / total,
    }
