"""What each step of a recipe does: reads the folders of earlier steps, writes its own.

tiles     0a  the tile encoder                    → tiles/encoder
language  0b  tokenizer and language model        → language
features      tile features of all slides         → features/features_<name>/*.h5
stage1        slide encoder and text tower        → stage1/checkpoint
tokens        slide tokens of a pool of regions   → tokens/pool.npz
stage2        projector                           → stage2/checkpoint
stage3        projector and language model        → stage3/checkpoint
model         calibration, card, last evaluation  → model
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core_model.checkpoint import Parts, load_checkpoint, new_model, save_checkpoint
from core_model.errors import RunError
from core_model.extract import extract
from core_model.features import FeatureStore, TileFeatures
from core_model.slide import open_slide
from core_model.tile_encoder import bind
from training.data import Cohort, load_cohort
from training.fit import Progress, quiet, read_log
from training.measure import bound, closed_accuracy, guessing
from training.recipes import Recipe

if TYPE_CHECKING:
    from core_model.config import ModelConfig
    from core_model.tile_encoder import TileEncoder

CHECKPOINT, METRICS, POOL = "checkpoint", "metrics.json", "pool.npz"


@dataclass(frozen=True)
class Run:
    """One training run: its recipe, its cohort folder and its output folder."""

    recipe: Recipe
    data: Path
    out: Path
    progress: Progress = quiet

    def folder(self, name: str) -> Path:
        """Where a step writes."""
        return self.out / name

    @cached_property
    def cohort(self) -> Cohort:
        """The cohort, read once."""
        return load_cohort(self.data)

    @cached_property
    def encoder(self) -> TileEncoder:
        """The tile encoder of step `tiles`, under the name of the model that it becomes part of."""
        folder = self.folder("tiles") / "encoder"
        parts, config = load_checkpoint(folder, need=("tile_encoder",), only=("tile_encoder",))
        return bind(parts.tile_encoder, self.recipe.name, config.tile_encoder)

    @cached_property
    def features(self) -> dict[str, TileFeatures]:
        """Tile features of every slide; computed where the store has none."""
        store, found = FeatureStore(self.folder("features")), {}
        names = (*self.cohort.train, *self.cohort.val)
        for done, name in enumerate(names, start=1):
            with open_slide(self.cohort.paths[name]) as slide:
                found[name] = extract(slide, self.encoder, store)
            self.progress("features", done, len(names))
        return found

    def record(self, stage: str, figures: Mapping[str, float], **more: Any) -> None:
        """Write metrics.json of a stage: its figures on validation, and how its loss went."""
        rows = read_log(self.folder(stage))
        tenth = max(1, len(rows) // 10)
        record = {
            "stage": stage,
            "figures": dict(figures),
            "loss_first": sum(row["loss"] for row in rows[:tenth]) / tenth,
            "loss_last": sum(row["loss"] for row in rows[-tenth:]) / tenth,
            "steps": len(rows),
            "seconds": round(sum(row["seconds"] for row in rows), 1),
        }
        write_json(self.folder(stage) / METRICS, record | more)


def write_json(path: Path, value: Any) -> None:
    """Write beside the place and rename."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    part.replace(path)


def read_metrics(folder: Path) -> dict[str, Any]:
    """metrics.json of a finished stage. Raises RunError where there is none."""
    try:
        found: dict[str, Any] = json.loads((folder / METRICS).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{METRICS} cannot be read ({error})", where=folder) from error
    return found


def tiles(run: Run, resume: bool) -> None:
    """Step 0a; it resumes by itself from its folder."""
    from training.tile_pretrain import pretrain_tile_encoder

    settings = run.recipe.tile_encoder
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
    from training.corpus import cohort_readings, cohort_texts
    from training.language_model import pretrain_language_model
    from training.tokenizer import train_tokenizer

    recipe = run.recipe
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
    """Tile features of all slides."""
    if not run.features:
        raise RunError("no slide has features", where=run.data)


def stage1(run: Run, resume: bool) -> None:
    """Alignment. Its checkpoint also holds the pretrained parts, so that later stages read one folder."""
    from training.stage1_align import align

    parts, config = first_parts(run)
    figures = align(
        parts,
        run.cohort,
        run.features,
        run.recipe,
        run.folder("stage1"),
        resume=resume,
        progress=run.progress,
    )
    save_checkpoint(run.folder("stage1") / CHECKPOINT, parts, config)
    run.record("stage1", figures)


def first_parts(run: Run) -> tuple[Parts, ModelConfig]:
    """Pretrained tile encoder and language model, everything else with random weights."""
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

    folder = run.folder("language")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    config = run.recipe.model.for_tokenizer(tokenizer)
    wanted = ("slide_encoder", "alignment", "projector", "language_model")
    parts = new_model(config, tokenizer, seed=run.recipe.seed, only=wanted)
    assert parts.llava is not None
    parts.llava.take_language_model(LlamaForCausalLM.from_pretrained(folder, local_files_only=True))
    encoder = run.folder("tiles") / "encoder"
    parts.tile_encoder = load_checkpoint(encoder, only=("tile_encoder",))[0].tile_encoder
    return parts, config


def tokens(run: Run, resume: bool) -> None:
    """Slide tokens of a pool of regions, by the slide encoder as stage 1 saved it."""
    from training.pool import make_pool

    parts, _ = load_checkpoint(run.folder("stage1") / CHECKPOINT, only=("slide_encoder",))
    run.folder("tokens").mkdir(parents=True, exist_ok=True)
    pool = make_pool(parts, run.cohort, run.features, run.recipe, run.progress)
    pool.save(run.folder("tokens") / POOL)


def stage2(run: Run, resume: bool) -> None:
    """The projector."""
    from training.stage2_project import project

    _language_stage(run, "stage2", "stage1", project, resume)


def stage3(run: Run, resume: bool) -> None:
    """Projector and LoRA."""
    from training.stage3_instruct import instruct

    _language_stage(run, "stage3", "stage2", instruct, resume)


def _language_stage(run: Run, name: str, before: str, train: Any, resume: bool) -> None:
    """Train on the token pool, save, and measure what was saved."""
    from training.pool import TokenPool

    pool = TokenPool.load(run.folder("tokens") / POOL)
    parts, config = load_checkpoint(run.folder(before) / CHECKPOINT)
    folder = run.folder(name)
    train(parts, run.cohort, pool, run.recipe, folder, resume=resume, progress=run.progress)
    save_checkpoint(folder / CHECKPOINT, parts, config)
    saved, config = load_checkpoint(folder / CHECKPOINT)
    asked = run.cohort.asked("val")
    run.record(name, closed_accuracy(bound(saved, config, folder), asked, run.features))


def model(run: Run, resume: bool) -> None:
    """Calibrate, save, measure the saved model, and tell it all on its card."""
    from core_model.bundle import load_model
    from training.calibrate import calibrate, familiar_questions, familiar_tiles, familiarity_config
    from training.model_card import model_card

    parts, config = load_checkpoint(run.folder("stage3") / CHECKPOINT)
    cohort, recipe, asked = run.cohort, run.recipe, run.cohort.asked("val")
    trained = bound(parts, config, run.out)
    calibration = calibrate(trained, asked, run.features, recipe.calibrate, run.progress)
    parts.familiarity, furthest = familiar_tiles(cohort, run.features, recipe)
    surprise = familiar_questions(trained, [item.question for item in asked], recipe.calibrate)
    parts.words = known_words(run)
    config = config.model_copy(
        update={
            "calibration": calibration,
            "familiarity": familiarity_config(furthest, surprise),
        }
    )
    folder = run.folder("model") / CHECKPOINT
    config = save_checkpoint(folder, parts, config)
    figures = closed_accuracy(load_model(folder, "cpu"), asked, run.features)
    record = provenance(run, figures)
    config = config.model_copy(update={"training": record})
    save_checkpoint(folder, parts, config, card=model_card(config, record))
    write_json(run.folder("model") / METRICS, record)


def known_words(run: Run) -> tuple[str, ...]:
    """Content words of the training texts and questions."""
    from training.corpus import cohort_questions, cohort_texts
    from training.tokenizer import word_list

    texts = cohort_texts(run.data, per_slide=run.recipe.texts_per_slide, seed=run.recipe.seed)
    return tuple(word_list([*texts, *cohort_questions(run.data, seed=run.recipe.seed)]))


def provenance(run: Run, figures: Mapping[str, float]) -> dict[str, Any]:
    """What the model was made from, how, and what was measured: for config.json and the card."""
    import platform

    import torch
    import transformers

    cohort, asked = run.cohort, run.cohort.asked("val")
    tile_log = run.folder("tiles") / "log.jsonl"
    reading = json.loads((run.folder("language") / "log.json").read_text("utf-8"))
    return {
        "recipe": run.recipe.name,
        "settings": json.loads(run.recipe.model_dump_json(exclude={"tiles"})),
        "real_tiles": run.recipe.tiles is not None,
        "slides": {"train": len(cohort.train), "val": len(cohort.val), "with_truth": len(cohort.truths)},
        "phantom_seeds": sorted({truth.seed for truth in cohort.truths.values()}),
        "tiles": json.loads(tile_log.read_text("utf-8").splitlines()[-1]).get("held_out", {}),
        "language": {key: reading[key] for key in ("perplexity", "accuracy") if key in reading},
        "stages": {name: read_metrics(run.folder(name)) for name in ("stage1", "stage2", "stage3")},
        "figures": dict(figures),
        "questions": len(asked),
        "guessing": guessing(asked),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
    }
