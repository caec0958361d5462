"""The last step of a recipe: the trained model, calibrated, measured, and with a card that says all of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from core_model.checkpoints.folder import load_checkpoint, save_checkpoint
from core_model.files import write_value
from core_model.models.wsi_llava import WsiLlava
from training.context import CHECKPOINT, METRICS, TrainingRun, read_metrics
from training.measure import guessing, language_dtype, measure_checkpoint
from training.settings import PretrainedLanguage, PretrainedTiles

if TYPE_CHECKING:
    from core_model.checkpoints.parts import Parts


def make_model(run: TrainingRun, resume: bool) -> None:
    """Calibrate the model of stage 3, save it, measure what was saved, and write its card."""
    from training.model_card import model_card

    before = run.folder("stage3") / CHECKPOINT
    parts, config = load_checkpoint(before, dtype=language_dtype(run.recipe))
    config = config.model_copy(update=fit_on_validation(run, parts, WsiLlava(before, parts, config)))
    if not isinstance(run.recipe.language, PretrainedLanguage):
        parts.words = training_words(run)
    folder = run.folder("model") / CHECKPOINT
    config = save_checkpoint(folder, parts, config)
    record = provenance(run, measure_checkpoint(run, folder))
    config = config.model_copy(update={"training": record})
    slides = (*run.cohort.train, *run.cohort.val)
    save_checkpoint(folder, parts, config, card=model_card(config, record), slides=slides)
    write_value(run.folder("model") / METRICS, record)


def fit_on_validation(run: TrainingRun, parts: Parts, model: WsiLlava) -> dict[str, Any]:
    """Calibration, and the limits of what counts as familiar, as far as the cohort allows to fit them."""
    from training.calibrate import calibrate, familiar_questions, familiar_tiles, familiarity_config

    cohort, recipe, questions = run.cohort, run.recipe, run.cohort.closed_questions("val")
    surprise = familiar_questions(model, [item.question for item in questions], recipe.calibrate)
    if cohort.tokens:
        return {"familiarity": familiarity_config(None, surprise)}
    parts.familiarity, furthest = familiar_tiles(cohort, run.features, recipe)
    return {
        "calibration": calibrate(model, questions, run.features, recipe.calibrate, run.progress),
        "familiarity": familiarity_config(furthest, surprise),
    }


def training_words(run: TrainingRun) -> tuple[str, ...]:
    """Content words of the training texts and questions: the words that the model knows."""
    from training.cohort.corpus import cohort_questions, cohort_texts
    from training.language.tokenizer import word_list

    texts = cohort_texts(run.data, per_slide=run.recipe.texts_per_slide, seed=run.recipe.seed)
    return tuple(word_list([*texts, *cohort_questions(run.data, seed=run.recipe.seed)]))


def provenance(run: TrainingRun, figures: Mapping[str, float]) -> dict[str, Any]:
    """What the model was made from, how, and what was measured: for config.json and the card."""
    import platform

    import torch
    import transformers

    cohort, questions = run.cohort, run.cohort.closed_questions("val")
    stages = [name for name in ("stage1", "stage2", "stage3") if (run.folder(name) / METRICS).is_file()]
    return {
        "recipe": run.recipe.name,
        "settings": json.loads(run.recipe.model_dump_json(exclude={"tiles"})),
        "real_tiles": run.recipe.tiles is not None,
        "slides": {"train": len(cohort.train), "val": len(cohort.val), "with_truth": len(cohort.truths)},
        "phantom_seeds": sorted({truth.seed for truth in cohort.truths.values()}),
        **_pretraining(run),
        "stages": {name: read_metrics(run.folder(name)) for name in stages},
        "figures": dict(figures),
        "questions": len(questions),
        "guessing": guessing(questions),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
    }


def _pretraining(run: TrainingRun) -> dict[str, Any]:
    """Figures of the tile encoder and the language model, or where they come from."""
    recipe, figures = run.recipe, {}
    if isinstance(recipe.tile_encoder, PretrainedTiles):
        figures["tiles"] = {"pretrained": recipe.tile_encoder.path or "none: features were given"}
    else:
        lines = (run.folder("tiles") / "log.jsonl").read_text("utf-8").splitlines()
        figures["tiles"] = json.loads(lines[-1]).get("held_out", {})
    if isinstance(recipe.language, PretrainedLanguage):
        figures["language"] = {"pretrained": recipe.language.path}
    else:
        reading = json.loads((run.folder("language") / "log.json").read_text("utf-8"))
        figures["language"] = {key: reading[key] for key in ("perplexity", "accuracy") if key in reading}
    return figures
