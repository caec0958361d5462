"""Recipes: named functions that return every number of a training run as one frozen record.

`mini` makes the embedded model; `tiny` runs through the same steps in seconds and learns next to nothing.
`wsi-llava-7b` and `wsi-llava-qwen7b` start from pretrained encoders and language models and follow the
published figures of WSI-LLaVA (Liang et al. 2024, arXiv 2412.02141) where there are any.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from core_model.config import AlignmentConfig, LanguageModelConfig, SlideEncoderConfig, TileEncoderConfig
from core_model.errors import UsageError
from core_model.language.conversation import QWEN_SYSTEM, VICUNA_SYSTEM
from training.settings import (
    AlignSettings,
    CalibrateSettings,
    InstructSettings,
    LanguageModelSettings,
    PretrainedLanguage,
    PretrainedTiles,
    ProjectSettings,
    Recipe,
    RegionSettings,
    Schedule,
)
from training.tiles.settings import TileSettings


def mini() -> Recipe:
    """The embedded model: minutes per step on two cores, 25 MB in the end."""
    return Recipe(
        name="mini",
        tile_encoder=TileSettings(),
        language=LanguageModelSettings(
            model=LanguageModelConfig(embed_dim=256, depth=4, heads=4, kv_heads=4)
        ),
        slide_encoder=SlideEncoderConfig(
            embed_dim=192, depth=3, heads=8, ffn_dim=384, tile_size=224, dilated_ratio=(1, 4)
        ),
        alignment=AlignmentConfig(embed_dim=128, depth=2, heads=4, ffn_dim=512, shared_dim=128),
        stage1=AlignSettings(schedule=Schedule(steps=650, batch=64, learning_rate=1e-3)),
        stage2=ProjectSettings(schedule=Schedule(steps=250, batch=48, learning_rate=2e-3)),
        stage3=InstructSettings(schedule=Schedule(steps=800, batch=32, learning_rate=1e-3)),
    )


def tiny() -> Recipe:
    """Every step in seconds, for tests and for trying a new cohort: the result is of no use."""
    encoder = TileEncoderConfig(embed_dim=24, depth=1, heads=2, ffn_dim=48, patch_px=32)
    llama = LanguageModelConfig(embed_dim=32, depth=1, heads=2, kv_heads=2, ffn_dim=64, max_positions=512)
    return Recipe(
        name="tiny",
        vocabulary=600,
        texts_per_slide=8,
        n_tokens=4,
        tile_encoder=replace(
            TileSettings(), encoder=encoder, crop_steps=4, full_steps=2, batch=8, per_slide=4
        ),
        language=LanguageModelSettings(model=llama, steps=20, batch=8, learning_rate=5e-3),
        slide_encoder=SlideEncoderConfig(
            in_chans=24, embed_dim=24, depth=1, heads=2, ffn_dim=48, dilated_ratio=(1, 4)
        ),
        alignment=AlignmentConfig(embed_dim=24, depth=1, heads=2, ffn_dim=48, shared_dim=16),
        regions=RegionSettings(refresh=10, pool=64),
        stage1=AlignSettings(schedule=Schedule(steps=20, batch=16, learning_rate=5e-3, save_every=5)),
        stage2=ProjectSettings(schedule=Schedule(steps=20, batch=8, learning_rate=5e-3, save_every=5)),
        stage3=InstructSettings(
            schedule=Schedule(steps=40, batch=8, learning_rate=2e-2, save_every=5), rank=4, alpha=8
        ),
        calibrate=CalibrateSettings(regions=2, window=2, centroids=8),
    )


def wsi_llava_7b() -> Recipe:
    """WSI-LLaVA on Prov-GigaPath and Vicuna.

    Stage 3 and the dimensions are published; stage 2 is LLaVA-1.5's. Of stage 1 nothing is published: rate,
    batch, temperature and epochs are those of MLLM-HWSI, which builds on it; the text encoder is our choice.
    """
    return Recipe(
        name="wsi-llava-7b",
        n_tokens=576,
        feature_dim=1024,
        tile_encoder=PretrainedTiles(path="gigapath"),
        language=PretrainedLanguage(
            path="lmsys/vicuna-7b-v1.5", model=LanguageModelConfig.vicuna_7b(), system=VICUNA_SYSTEM
        ),
        slide_encoder=SlideEncoderConfig.gigapath(),
        slide_weights="prov-gigapath/prov-gigapath",
        alignment=AlignmentConfig(temperature=0.02, shared_dim=512),
        text_encoder="emilyalsentzer/Bio_ClinicalBERT",
        stage1=AlignSettings(
            schedule=Schedule(
                epochs=50, batch=64, learning_rate=1e-3, zero=2, workers=4, recompute=True, save_every=200
            ),
            text_length=512,
        ),
        stage2=ProjectSettings(
            schedule=_llava_schedule(epochs=1, batch=256, micro_batch=32, learning_rate=1e-3, zero=2),
            max_length=2048,
        ),
        stage3=InstructSettings(
            schedule=_llava_schedule(epochs=3, batch=128, micro_batch=4, learning_rate=2e-4, zero=3),
            projector_rate=2e-5,
            rank=128,
            alpha=256,
            turns=1,
            max_length=2048,
        ),
    )


def _llava_schedule(**fields: Any) -> Schedule:
    """LLaVA-1.5's optimiser, which both of its stages share, with the fields in which they differ."""
    return Schedule(warmup=0.03, weight_decay=0.0, beta2=0.999, workers=2, recompute=True, **fields)


def wsi_llava_qwen7b() -> Recipe:
    """WSI-LLaVA's recipe with Qwen2.5-7B-Instruct, the language model of MLLM-HWSI."""
    return wsi_llava_7b().model_copy(
        update={
            "name": "wsi-llava-qwen7b",
            "language": PretrainedLanguage(
                path="Qwen/Qwen2.5-7B-Instruct",
                model=LanguageModelConfig.qwen_7b(),
                template="chatml",
                system=QWEN_SYSTEM,
            ),
        }
    )


RECIPES: dict[str, Callable[[], Recipe]] = {
    "mini": mini,
    "tiny": tiny,
    "wsi-llava-7b": wsi_llava_7b,
    "wsi-llava-qwen7b": wsi_llava_qwen7b,
}


def make_recipe(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """A recipe by name with `key=value` overrides; keys are dotted paths such as `stage1.schedule.steps`.

    Values are read as JSON where they are JSON, else as text. Raises UsageError for an unknown name or
    key, listing the valid ones, and for a value of the wrong type.
    """
    if name not in RECIPES:
        raise UsageError(f"there is no recipe '{name}'", fix=f"choose one of: {', '.join(RECIPES)}")
    values = RECIPES[name]().model_dump()
    valid = list(keys_of(values))
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or key not in valid:
            raise UsageError(
                f"'{override}' sets no value of the recipe",
                fix=f"use key=value with one of: {', '.join(valid)}",
            )
        *path, leaf = key.split(".")
        record = values
        for part in path:
            record = record[part]
        record[leaf] = _value(text)
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        message = str(first["msg"]).removeprefix("Value error, ")
        if isinstance(first["input"], Mapping):  # several values that do not fit each other
            raise UsageError(f"--set {where}: {message}" if where else f"the recipe: {message}") from error
        raise UsageError(f"--set {where}: {message}", fix=f"it was given as {first['input']!r}") from error


def keys_of(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Dotted names of all values of a nested record."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from keys_of(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
