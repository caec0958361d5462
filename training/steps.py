"""The work of each step of a recipe: it reads the folders of earlier steps and writes its own.

tiles         the tile encoder                    → tiles/encoder
language      tokenizer and language model        → language
features      tile features of all slides         → features/index.json, features/features_<name>/*.h5
start         the model before the first stage    → start/checkpoint
stage1        slide encoder and text tower        → stage1/checkpoint
tokens        slide tokens of a pool of regions   → tokens/pool
stage2        projector                           → stage2/checkpoint
stage3        projector and language model        → stage3/checkpoint
model         calibration, card, last evaluation  → model     (in `final_model`)

Each checkpoint is whole: parts that a stage does not train are links to the files of the one before.
Every function here takes the run and whether to continue what lies in the step's folder.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from core_model.checkpoints.folder import load_checkpoint, save_checkpoint
from core_model.checkpoints.parts import LLAVA
from core_model.errors import RunError
from core_model.features.extract import extract
from core_model.features.store import FeatureStore
from core_model.files import write_value
from core_model.slides.slide import open_slide
from training.context import CHECKPOINT, FEATURE_INDEX, POOL, TrainingRun
from training.engine import ranks
from training.engine.fit import require_part
from training.measure import language_dtype, measure_checkpoint
from training.settings import PretrainedLanguage, PretrainedTiles
from training.stages.pool import TokenPool, make_pool


def pretrain_tiles(run: TrainingRun, resume: bool) -> None:
    """The tile encoder, from the cohort's slides and from real tiles; it resumes by itself."""
    from training.tiles.pretrain import pretrain_tile_encoder

    settings = run.recipe.tile_encoder
    assert not isinstance(settings, PretrainedTiles)  # such a recipe has no step `tiles`
    cohort = run.data if run.cohort.truths else None
    pretrain_tile_encoder(
        cohort,
        run.recipe.tiles,
        run.folder("tiles"),
        settings,
        progress=partial(run.progress, "tiles"),
    )


def pretrain_language(run: TrainingRun, resume: bool) -> None:
    """Tokenizer and language model from scratch, on the cohort's text."""
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
        progress=partial(run.progress, "language"),
    )


def compute_features(run: TrainingRun, resume: bool) -> None:
    """Tile features of all slides: those that the cohort holds, or computed from the slides.

    Raises RunError where features do not have as many channels as the slide encoder reads.
    """
    cohort, folder = run.cohort, run.folder("features")
    paths = {name: path.resolve() for name, path in cohort.features.items()} or _extract_all(run)
    folder.mkdir(parents=True, exist_ok=True)
    write_value(folder / FEATURE_INDEX, {name: str(path) for name, path in paths.items()})
    channels = run.recipe.slide_encoder.in_chans
    for count, (name, features) in enumerate(run.features.items(), start=1):
        if cohort.features:
            np.asarray(features.features)  # read whole: rather now than when training comes to it
            run.progress("features", count, len(paths))
        if features.features.shape[1] != channels:
            raise RunError(
                f"the features of {name} have {features.features.shape[1]} channels,"
                f" but the recipe reads {channels}",
                where=paths[name],
                fix="give features of the recipe's tile encoder, or --set slide_encoder.in_chans",
            )


def _extract_all(run: TrainingRun) -> dict[str, Path]:
    """Compute the features of every slide that has none; returns their files, relative to the folder."""
    cohort, store, paths = run.cohort, FeatureStore(run.folder("features")), {}
    names = (*cohort.train, *cohort.val)
    for count, name in enumerate(names, start=1):
        with open_slide(cohort.paths[name]) as slide:
            extract(slide, run.encoder, store)
            paths[name] = store.path(slide, run.encoder.name).relative_to(store.root)
        run.progress("features", count, len(names))
    return paths


def make_first_checkpoint(run: TrainingRun, resume: bool) -> None:
    """All parts as they are before the first stage: pretrained or random."""
    from training.start import first_parts

    parts, config = first_parts(run)
    save_checkpoint(run.folder("start") / CHECKPOINT, parts, config)


def train_stage1(run: TrainingRun, resume: bool) -> None:
    """Stage 1: slide encoder and text tower learn to meet in one space."""
    from training.stages.align import align

    before = run.folder("start") / CHECKPOINT
    parts, config = load_checkpoint(before, only=("slide_encoder", "alignment"))
    folder = run.folder("stage1")
    figures = align(parts, run.cohort, run.features, run.recipe, folder, resume=resume, progress=run.progress)
    if ranks.is_main():
        save_checkpoint(folder / CHECKPOINT, parts, config, base=before)
        run.record("stage1", figures)


def make_token_pool(run: TrainingRun, resume: bool) -> None:
    """Slide tokens of a pool of regions, by the encoder of stage 1; nothing where the cohort holds them."""
    if run.cohort.tokens:
        return
    parts, _ = load_checkpoint(run.folder("stage1") / CHECKPOINT, only=("slide_encoder",))
    pool = make_pool(parts, run.cohort, run.features, run.recipe, run.progress)
    pool.save(run.folder("tokens") / POOL)


def train_stage2(run: TrainingRun, resume: bool) -> None:
    """The projector."""
    from training.stages.project import project

    _train_language_stage(run, "stage2", "start" if run.cohort.tokens else "stage1", project, resume)


def train_stage3(run: TrainingRun, resume: bool) -> None:
    """Projector and LoRA."""
    from training.stages.instruct import instruct

    _train_language_stage(run, "stage3", "stage2", instruct, resume)


def _train_language_stage(run: TrainingRun, name: str, before: str, train: Any, resume: bool) -> None:
    """Train on the token pool, save, and measure what was saved."""
    recipe, cohort, folder = run.recipe, run.cohort, run.folder(name)
    last = run.folder(before) / CHECKPOINT
    parts, config = load_checkpoint(last, only=LLAVA, dtype=language_dtype(recipe))
    require_part(parts.llava).model.multi_modal_projector.float()
    if cohort.tokens:
        pool = TokenPool.of_files(cohort, cohort.train, recipe.n_tokens, recipe.model.feature_dim)
    else:
        pool = TokenPool.load(run.folder("tokens") / POOL)
    train(parts, cohort, pool, recipe, folder, resume=resume, progress=run.progress)
    if ranks.is_main():
        save_checkpoint(folder / CHECKPOINT, parts, config, base=last)
        run.record(name, measure_checkpoint(run, folder / CHECKPOINT))
