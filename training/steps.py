"""What each step of a recipe does: reads the folders of earlier steps, writes its own.

tiles     0a  the tile encoder                    → tiles/encoder
language  0b  tokenizer and language model        → language
features      tile features of all slides         → features/index.json, features/features_<name>/*.h5
start         the model before the first stage    → start/checkpoint
stage1        slide encoder and text tower        → stage1/checkpoint
tokens        slide tokens of a pool of regions   → tokens/pool
stage2        projector                           → stage2/checkpoint
stage3        projector and language model        → stage3/checkpoint
model         calibration, card, last evaluation  → model

Each checkpoint is whole: parts that a stage does not train are links to the files of the one before.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from core_model.atomic import write_value
from core_model.checkpoints.folder import load_checkpoint, save_checkpoint
from core_model.checkpoints.parts import LLAVA
from core_model.errors import RunError
from core_model.features.extract import extract
from core_model.features.store import FeatureStore
from core_model.slides.slide import open_slide
from training.context import CHECKPOINT, FEATURE_INDEX, METRICS, POOL, Run, read_metrics
from training.engine import ranks
from training.engine.fit import needed
from training.measure import answer_loss, bound, closed_accuracy, guessing
from training.settings import PretrainedLanguage, PretrainedTiles, Recipe
from training.stages.pool import TokenPool, make_pool

if TYPE_CHECKING:
    import torch

    from core_model.checkpoints.parts import Parts
    from core_model.models.wsi_llava import WsiLlava


def tiles(run: Run, resume: bool) -> None:
    """Step 0a; it resumes by itself from its folder."""
    from training.tiles.pretrain import pretrain_tile_encoder

    settings = run.recipe.tile_encoder
    assert not isinstance(settings, PretrainedTiles)  # such a recipe has no step `tiles`
    cohort = run.data if run.cohort.truths else None
    pretrain_tile_encoder(
        cohort,
        run.recipe.tiles,
        run.folder("tiles"),
        settings,
        progress=lambda done, total: run.progress("tiles", done, total),
    )


def language(run: Run, resume: bool) -> None:
    """Step 0b: tokenizer and language model from the cohort's text."""
    from training.cohort.corpus import cohort_readings, cohort_texts
    from training.language.pretrain import pretrain_language_model
    from training.language.tokenizer import train_tokenizer

    recipe = run.recipe
    assert not isinstance(recipe.language, PretrainedLanguage)  # such a recipe has no step `language`
    texts = cohort_texts(run.data, per_slide=recipe.texts_per_slide, seed=recipe.seed)
    tokenizer = train_tokenizer(texts, recipe.vocabulary)
    held_out = cohort_readings(run.data, seed=recipe.seed + 1)
    pretrain_language_model(
        texts,
        tokenizer,
        run.folder("language"),
        settings=recipe.language,
        held_out=held_out,
        progress=lambda done, total: run.progress("language", done, total),
    )


def features(run: Run, resume: bool) -> None:
    """Tile features of all slides: those of the cohort, or computed from the slides."""
    cohort, folder = run.cohort, run.folder("features")
    found = {name: path.resolve() for name, path in cohort.features.items()} or _extracted(run)
    folder.mkdir(parents=True, exist_ok=True)
    write_value(folder / FEATURE_INDEX, {name: str(path) for name, path in found.items()})
    channels = run.recipe.slide_encoder.in_chans
    for done, (name, features) in enumerate(run.features.items(), start=1):
        if cohort.features:
            np.asarray(features.features)  # read whole: rather now than when training comes to it
            run.progress("features", done, len(found))
        if features.features.shape[1] != channels:
            raise RunError(
                f"features of {name} have {features.features.shape[1]} channels, the recipe reads {channels}",
                where=found[name],
                fix="give features of the recipe's tile encoder, or --set slide_encoder.in_chans",
            )


def _extracted(run: Run) -> dict[str, Path]:
    """Feature files by slide, relative to the folder of the step; computed where there is none."""
    cohort, store, found = run.cohort, FeatureStore(run.folder("features")), {}
    names = (*cohort.train, *cohort.val)
    for done, name in enumerate(names, start=1):
        with open_slide(cohort.paths[name]) as slide:
            extract(slide, run.encoder, store)
            found[name] = store.path(slide, run.encoder.name).relative_to(store.root)
        run.progress("features", done, len(names))
    return found


def start(run: Run, resume: bool) -> None:
    """All parts as they are before the first stage: pretrained or random."""
    from training.start import first_parts

    parts, config = first_parts(run)
    save_checkpoint(run.folder("start") / CHECKPOINT, parts, config)


def stage1(run: Run, resume: bool) -> None:
    """Alignment."""
    from training.stages.align import align

    before = run.folder("start") / CHECKPOINT
    parts, config = load_checkpoint(before, only=("slide_encoder", "alignment"))
    folder = run.folder("stage1")
    figures = align(parts, run.cohort, run.features, run.recipe, folder, resume=resume, progress=run.progress)
    if ranks.is_main():
        save_checkpoint(folder / CHECKPOINT, parts, config, base=before)
        run.record("stage1", figures)


def tokens(run: Run, resume: bool) -> None:
    """Slide tokens of a pool of regions, by the slide encoder as stage 1 saved it."""
    if run.cohort.tokens:
        return
    parts, _ = load_checkpoint(run.folder("stage1") / CHECKPOINT, only=("slide_encoder",))
    pool = make_pool(parts, run.cohort, run.features, run.recipe, run.progress)
    pool.save(run.folder("tokens") / POOL)


def stage2(run: Run, resume: bool) -> None:
    """The projector."""
    from training.stages.project import project

    _language_stage(run, "stage2", "start" if run.cohort.tokens else "stage1", project, resume)


def stage3(run: Run, resume: bool) -> None:
    """Projector and LoRA."""
    from training.stages.instruct import instruct

    _language_stage(run, "stage3", "stage2", instruct, resume)


def _language_stage(run: Run, name: str, before: str, train: Any, resume: bool) -> None:
    """Train on the token pool, save, and measure what was saved."""
    recipe, cohort, folder = run.recipe, run.cohort, run.folder(name)
    last = run.folder(before) / CHECKPOINT
    parts, config = load_checkpoint(last, only=LLAVA, dtype=_held_in(recipe))
    needed(parts.llava).model.multi_modal_projector.float()
    if cohort.tokens:
        pool = TokenPool.of_files(cohort, cohort.train, recipe.n_tokens, recipe.model.feature_dim)
    else:
        pool = TokenPool.load(run.folder("tokens") / POOL)
    train(parts, cohort, pool, recipe, folder, resume=resume, progress=run.progress)
    if ranks.is_main():
        save_checkpoint(folder / CHECKPOINT, parts, config, base=last)
        run.record(name, measured(run, folder / CHECKPOINT))


def _held_in(recipe: Recipe) -> torch.dtype:
    """Type of a language model while it is trained on and measured: 7B in float32 would take 27 GB."""
    import torch

    if not isinstance(recipe.language, PretrainedLanguage):
        return torch.float32
    found: torch.dtype = getattr(torch, recipe.language.dtype)
    return found


def measured(run: Run, folder: Path) -> dict[str, float]:
    """What a saved model makes of the validation slides.

    Accuracy at closed questions where there are any and tiles to look at, else the loss of answers.
    """
    cohort, asked = run.cohort, run.cohort.asked("val")
    parts, config = load_checkpoint(folder, dtype=_held_in(run.recipe))
    model = bound(parts, config, folder)
    if asked and not cohort.tokens:
        return closed_accuracy(model, asked, run.features)
    if cohort.tokens:
        stored = TokenPool.of_files(cohort, cohort.val, config.n_tokens, config.feature_dim).tokens
        seen = (stored[[i]][0] for i in range(len(cohort.val)))
    else:
        seen = (model.slide_tokens(run.features[name]) for name in cohort.val)
    told = ((tokens, cohort.told(name)) for tokens, name in zip(seen, cohort.val, strict=True))
    return {"val_loss": answer_loss(parts.llava, parts.tokenizer, config, told)}


def model(run: Run, resume: bool) -> None:
    """Calibrate, save, measure the saved model, and tell it all on its card."""
    from training.model_card import model_card

    before = run.folder("stage3") / CHECKPOINT
    parts, config = load_checkpoint(before, dtype=_held_in(run.recipe))
    config = config.model_copy(update=fitted_on_validation(run, parts, bound(parts, config, before)))
    if not isinstance(run.recipe.language, PretrainedLanguage):
        parts.words = known_words(run)
    folder = run.folder("model") / CHECKPOINT
    config = save_checkpoint(folder, parts, config)
    record = provenance(run, measured(run, folder))
    config = config.model_copy(update={"training": record})
    seen = (*run.cohort.train, *run.cohort.val)
    save_checkpoint(folder, parts, config, card=model_card(config, record), slides=seen)
    write_value(run.folder("model") / METRICS, record)


def fitted_on_validation(run: Run, parts: Parts, trained: WsiLlava) -> dict[str, Any]:
    """Calibration and limits of the familiar, as far as the cohort allows to fit them."""
    from training.calibrate import calibrate, familiar_questions, familiar_tiles, familiarity_config

    cohort, recipe, asked = run.cohort, run.recipe, run.cohort.asked("val")
    surprise = familiar_questions(trained, [item.question for item in asked], recipe.calibrate)
    if cohort.tokens:
        return {"familiarity": familiarity_config(None, surprise)}
    parts.familiarity, furthest = familiar_tiles(cohort, run.features, recipe)
    return {
        "calibration": calibrate(trained, asked, run.features, recipe.calibrate, run.progress),
        "familiarity": familiarity_config(furthest, surprise),
    }


def known_words(run: Run) -> tuple[str, ...]:
    """Content words of the training texts and questions."""
    from training.cohort.corpus import cohort_questions, cohort_texts
    from training.language.tokenizer import word_list

    texts = cohort_texts(run.data, per_slide=run.recipe.texts_per_slide, seed=run.recipe.seed)
    return tuple(word_list([*texts, *cohort_questions(run.data, seed=run.recipe.seed)]))


def provenance(run: Run, figures: Mapping[str, float]) -> dict[str, Any]:
    """What the model was made from, how, and what was measured: for config.json and the card."""
    import platform

    import torch
    import transformers

    cohort, asked = run.cohort, run.cohort.asked("val")
    trained = [name for name in ("stage1", "stage2", "stage3") if (run.folder(name) / METRICS).is_file()]
    return {
        "recipe": run.recipe.name,
        "settings": json.loads(run.recipe.model_dump_json(exclude={"tiles"})),
        "real_tiles": run.recipe.tiles is not None,
        "slides": {"train": len(cohort.train), "val": len(cohort.val), "with_truth": len(cohort.truths)},
        "phantom_seeds": sorted({truth.seed for truth in cohort.truths.values()}),
        **_pretraining(run),
        "stages": {name: read_metrics(run.folder(name)) for name in trained},
        "figures": dict(figures),
        "questions": len(asked),
        "guessing": guessing(asked),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
    }


def _pretraining(run: Run) -> dict[str, Any]:
    """Figures of the tile encoder and the language model, or where they come from."""
    recipe, found = run.recipe, {}
    if isinstance(recipe.tile_encoder, PretrainedTiles):
        found["tiles"] = {"pretrained": recipe.tile_encoder.path or "none: features were given"}
    else:
        lines = (run.folder("tiles") / "log.jsonl").read_text("utf-8").splitlines()
        found["tiles"] = json.loads(lines[-1]).get("held_out", {})
    if isinstance(recipe.language, PretrainedLanguage):
        found["language"] = {"pretrained": recipe.language.path}
    else:
        reading = json.loads((run.folder("language") / "log.json").read_text("utf-8"))
        found["language"] = {key: reading[key] for key in ("perplexity", "accuracy") if key in reading}
    return found
