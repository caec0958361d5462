"""Closed-question accuracy of a model on validation slides, by kind of question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from core_model.bundle import WsiLlava
from training.data import ClosedQuestion

if TYPE_CHECKING:
    from core_model.config import ModelConfig
    from core_model.features import TileFeatures
    from core_model.parts import Parts


def bound(parts: Parts, config: ModelConfig, folder: Path) -> WsiLlava:
    """The parts in memory as a model that answers, on the CPU like the stages that made them."""
    return WsiLlava(folder, parts, config, "cpu")


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
