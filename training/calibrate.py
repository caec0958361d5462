"""After training: how far to trust probabilities, and what counts as familiar. Fitted on validation slides.

Letters: Q questions, O options of a question, R regions of a slide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from core_model.config import Calibration, FamiliarityConfig
from core_model.features.tiles import Familiarity, fit_familiarity
from core_model.slides.box import Box
from training.cohort.cohort import ClosedQuestion, Cohort
from training.engine.fit import StageProgress, quiet

if TYPE_CHECKING:
    from core_model.features.tiles import TileFeatures
    from core_model.models.wsi_llava import WsiLlava
    from training.settings import CalibrateSettings, Recipe

Floats = npt.NDArray[np.float64]

FLOOR = 1e-4
"""Smallest probability of a look when looks are pooled, as the agent pools them."""
IMPOSSIBLE = -1e6
"""Log-probability of an option that a question does not have."""
TEMPERATURES = np.geomspace(0.25, 8.0, 61)
SLIDE_WEIGHTS = np.linspace(0.0, 1.5, 16)
REGION_WEIGHTS = np.linspace(0.0, 1.0, 11)
LEAST_RIGHT = 0.4
"""Answers of a confidence at which fewer than this share are right are not worth giving."""
FEWEST = 10
"""Answers from which such a share may be concluded."""
MARGIN = 1.1
"""Distance and surprise may exceed those of validation by this factor and still count as familiar."""
FAMILIAR_TILES = 40000
"""Training tiles that the centroids are fitted on, at most."""


@dataclass(frozen=True)
class QuestionScores:
    """The scores of one question's options: over the whole slide, and over some of its regions."""

    whole: Floats
    """(O,) log-probabilities at temperature 1."""
    regions: Floats
    """(R, O) log-probabilities at temperature 1."""
    truth: int
    """Index of the right option."""


def calibrate(
    model: WsiLlava,
    questions: Sequence[ClosedQuestion],
    features: Mapping[str, TileFeatures],
    settings: CalibrateSettings,
    progress: StageProgress = quiet,
) -> Calibration:
    """Temperature, pooling weights and the confidence to abstain below, from a model at temperature 1."""
    scores, tiles = [], {}  # type: tuple[list[QuestionScores], dict[str, npt.NDArray[np.float32]]]
    for count, item in enumerate(questions, start=1):
        if item.slide not in tiles:
            tiles[item.slide] = model.embed_tiles(features[item.slide])
        scores.append(score_question(model, item, features[item.slide], tiles[item.slide], settings))
        progress("calibrate", count, len(questions))
    return fit_calibration(scores)


def fit_calibration(scores: Sequence[QuestionScores]) -> Calibration:
    """The calibration under which the right options are likeliest; the default where nothing was asked.

    Temperature first, on whole slides; then the weights of slide and regions at that temperature. Ties
    go to the smaller weight of the regions.
    """
    if not scores:
        return Calibration()
    wholes = _padded([h.whole for h in scores])  # (Q, O)
    truths = np.array([h.truth for h in scores])
    temperature = min(TEMPERATURES, key=lambda t: _loss(wholes / t, truths))
    slides = _padded([_floored(_cool(h.whole, temperature)) for h in scores])  # (Q, O)
    regions = _padded([_mean_look(h, temperature) for h in scores])  # (Q, O)
    weights = [(a, b) for b in REGION_WEIGHTS for a in SLIDE_WEIGHTS if a + b > 0]
    losses = [_loss(a * slides + b * regions, truths) for a, b in weights]
    slide_weight, region_weight = weights[int(np.argmin(losses))]
    logs = [pooled(h, temperature, slide_weight, region_weight) for h in scores]
    return Calibration(
        temperature=float(temperature),
        slide_weight=float(slide_weight),
        region_weight=float(region_weight),
        abstain_below=abstain_below(
            [float(np.exp(log.max())) for log in logs],
            [int(log.argmax()) == h.truth for log, h in zip(logs, scores, strict=True)],
        ),
    )


def pooled(scores: QuestionScores, temperature: float, slide_weight: float, region_weight: float) -> Floats:
    """Log-linear pool (O,) of slide and regions: weighted logs, the regions' averaged, normalised."""
    whole = _floored(_cool(scores.whole, temperature))
    return _normal(slide_weight * whole + region_weight * _mean_look(scores, temperature))


def _mean_look(scores: QuestionScores, temperature: float) -> Floats:
    """(O,) mean of the regions' log-probabilities; zeros where there is no region."""
    if not len(scores.regions):
        return np.zeros_like(scores.whole)
    return _floored(_cool(scores.regions, temperature)).mean(axis=0)


def _floored(logs: Floats) -> Floats:
    return np.maximum(logs, np.log(FLOOR))


def _padded(rows: Sequence[Floats]) -> Floats:
    """(Q, O) of the most options; options that a question does not have are as good as impossible."""
    table = np.full((len(rows), max(len(row) for row in rows)), IMPOSSIBLE)
    for i, row in enumerate(rows):
        table[i, : len(row)] = row
    return table


def abstain_below(confidence: Sequence[float], right: Sequence[bool]) -> float:
    """The highest confidence below which at least FEWEST answers lie and fewer than LEAST_RIGHT are right.

    0 where there is none: then every answer is worth giving.
    """
    order = np.argsort(confidence)
    share = np.cumsum(np.asarray(right, dtype=float)[order]) / np.arange(
        1, len(order) + 1
    )  # of the least sure
    poor = np.flatnonzero(share[FEWEST - 1 :] < LEAST_RIGHT) + FEWEST - 1
    return float(np.asarray(confidence)[order][poor[-1]]) if len(poor) else 0.0


def _normal(logs: Floats) -> Floats:
    top = logs.max(axis=-1, keepdims=True)
    return logs - top - np.log(np.exp(logs - top).sum(axis=-1, keepdims=True))


def _cool(logs: Floats, temperature: float) -> Floats:
    return _normal(logs / temperature)


def _loss(logs: Floats, truths: npt.NDArray[np.int64]) -> float:
    """Mean negative log-likelihood of the truths under (Q, O) unnormalised logs."""
    return -float(_normal(logs)[np.arange(len(truths)), truths].mean())


def score_question(
    model: WsiLlava,
    item: ClosedQuestion,
    features: TileFeatures,
    tiles: npt.NDArray[np.float32],
    settings: CalibrateSettings,
) -> QuestionScores:
    """Ask about the slide, then about the windows that best tell its two likeliest options apart.

    `tiles` (N, E): the slide's tiles in the common space.
    """
    whole = _logs(model.score_options(features, item.question, item.options))
    first, second = (item.options[i] for i in np.argsort(-whole)[:2])
    texts = [f"{item.question.rstrip('?:. ')}: {option}" for option in (first, second)]
    ends = model.embed_text(texts)  # (2, E)
    boxes = telling_windows(features, np.abs(tiles @ (ends[0] - ends[1])), settings)
    parts = [features.inside(box) for box in boxes]
    regions = _logs(model.score_options_many(parts, item.question, item.options))
    return QuestionScores(whole, regions, item.options.index(item.answer))


def _logs(probabilities: npt.NDArray[np.floating]) -> Floats:
    return np.log(np.maximum(probabilities.astype(np.float64), 1e-12))


def telling_windows(
    features: TileFeatures, worth: npt.NDArray[np.floating], settings: CalibrateSettings
) -> list[Box]:
    """Windows around the tiles of most worth (N,), none of them overlapping."""
    tile = np.array(features.sides)
    w, h = (settings.window * int(side) for side in tile)
    boxes: list[Box] = []
    for i in np.argsort(-worth):
        x, y = (max(0, int(v)) for v in features.coords[i] - (settings.window // 2) * tile)
        box = Box(x, y, w, h)
        if all(box.intersect(chosen_box) is None for chosen_box in boxes):
            boxes.append(box)
        if len(boxes) == settings.regions:
            break
    return boxes


def familiar_tiles(
    cohort: Cohort, features: Mapping[str, TileFeatures], recipe: Recipe
) -> tuple[Familiarity, float]:
    """Centroids of the training tiles, and the largest slide distance that counts as familiar."""
    counts = [len(features[name]) for name in cohort.train]
    rng = np.random.default_rng([recipe.seed, 31])
    sample = rng.permutation(sum(counts))[:FAMILIAR_TILES]
    ends = np.cumsum(counts)
    rows = np.empty((len(sample), features[cohort.train[0]].features.shape[1]), np.float32)
    for name, end, count in zip(cohort.train, ends, counts, strict=True):  # one slide in memory at a time
        places = np.flatnonzero((sample >= end - count) & (sample < end))
        rows[places] = features[name].features[sample[places] - (end - count)]
    familiar = fit_familiarity(rows, recipe.calibrate.centroids, recipe.seed)
    distances = [familiar.distance(features[name].features) for name in cohort.val]
    return familiar, MARGIN * float(np.quantile(distances, recipe.calibrate.familiar_quantile))


def familiar_questions(
    model: WsiLlava, questions: Sequence[str], settings: CalibrateSettings
) -> float | None:
    """The largest surprise (nats per token) at a question that counts as familiar; None without questions."""
    if not questions:
        return None
    surprise = [model.question_nll(question) for question in dict.fromkeys(questions)]
    return MARGIN * float(np.quantile(surprise, settings.familiar_quantile))


def familiarity_config(slide_threshold: float | None, question_nll: float | None) -> FamiliarityConfig:
    """The limits as the model's configuration holds them."""
    return FamiliarityConfig(slide_threshold=slide_threshold, question_nll=question_nll)
