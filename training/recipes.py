"""Recipes: named functions that return every number of a training run as one frozen record.

`mini` makes the embedded model; `tiny` runs through the same steps in seconds and learns next to nothing.
`wsi-llava-7b` and `wsi-llava-qwen7b` start from pretrained encoders and language models and follow the
published figures of WSI-LLaVA (Liang et al. 2024, arXiv 2412.02141) where there are any.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from core_model.config import (
    AlignmentConfig,
    GenerationConfig,
    LanguageModelConfig,
    ModelConfig,
    SlideEncoderConfig,
    TileEncoderConfig,
)
from core_model.conversation import QWEN_SYSTEM, VICUNA_SYSTEM
from core_model.errors import UsageError
from training.language_model import LanguageModelSettings
from training.tile_pretrain import TileSettings


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Schedule(_Record):
    """How long and how fast a stage learns; the rate warms up linearly and falls as a cosine to zero."""

    steps: int = Field(default=0, ge=0)
    """Optimizer steps; 0: as many as `epochs` make."""
    epochs: float = Field(default=0.0, ge=0)
    """Times that all there is to learn from is seen; used where `steps` is 0."""
    batch: int = Field(gt=0)
    """Samples per step, of all processes together."""
    learning_rate: float = Field(gt=0)
    """Peak rate of AdamW."""
    warmup: float = Field(default=0.05, ge=0, le=1)
    """Share of the steps over which the rate rises."""
    weight_decay: float = 0.02
    beta2: float = Field(default=0.98, gt=0, lt=1)
    """Decay of AdamW's second moment; its first is .9."""
    save_every: int = Field(default=100, gt=0)
    """Steps between checkpoints from which an interrupted stage resumes."""
    micro_batch: int | None = Field(default=None, gt=0)
    """Samples that a process computes at a time; None: its whole share of `batch`."""
    zero: Literal[0, 2, 3] = 0
    """DeepSpeed's ZeRO stage; 0: without DeepSpeed."""
    offload: bool = False
    """Keep ZeRO's optimizer state in the memory of the host."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto: bfloat16 where the processor computes it in hardware."""
    workers: int = Field(default=0, ge=0)
    """Processes beside each that trains, which read and prepare batches ahead; 0: it does so itself."""
    recompute: bool = False
    """Compute activations again in the backward pass instead of keeping them."""

    @model_validator(mode="after")
    def _ends(self) -> Self:
        if not self.steps and not self.epochs:
            raise ValueError("give steps or epochs")
        return self

    def over(self, samples: int) -> Self:
        """The same schedule with its epochs over so many samples counted out in steps."""
        if self.steps:
            return self
        steps = max(1, math.ceil(self.epochs * samples / self.batch))
        return self.model_copy(update={"steps": steps})


class PretrainedTiles(_Record):
    """A tile encoder that is used as it is."""

    path: str | None
    """What `load_tile_encoder` takes; None: the cohort holds features, and the model comes without one."""
    encoder: TileEncoderConfig = TileEncoderConfig.gigapath()
    """Its dimensions."""


class PretrainedLanguage(_Record):
    """A language model that is used as it is, with its tokenizer."""

    path: str
    """Folder or hub id of a transformers language model."""
    model: LanguageModelConfig
    """Its dimensions, which `giant train bench` builds; those of the folder count where one is read."""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Type in which it is held and stored; LoRA and projector learn in float32."""
    template: Literal["vicuna_v1", "chatml"] = "vicuna_v1"
    system: str = ""
    """Sentence before the first turn."""
    generation: GenerationConfig = GenerationConfig.wsi_llava()


class RegionSettings(_Record):
    """Which regions of the slides are shown."""

    whole_share: float = Field(default=0.1, ge=0, le=1)
    """Share of whole slides; the others are windows of tiles."""
    together: int = Field(default=8, gt=0)
    """Regions of equal length that go through the slide encoder in one call, at most."""
    refresh: int = Field(default=100, gt=0)
    """Steps of stage 1 after which new regions are drawn."""
    pool: int = Field(default=9000, gt=0)
    """Regions whose slide tokens are computed once for stages 2 and 3; whole slides come on top."""


class AlignSettings(_Record):
    """Stage 1: slide encoder, text tower and alignment head."""

    schedule: Schedule
    short_weight: float = 1.0
    """Weight of the loss on phrases and questions, where that on reports and captions weighs 1."""
    text_length: int = 128
    """Tokens of a text beyond which it is cut."""


class ProjectSettings(_Record):
    """Stage 2: the projector alone, on descriptions."""

    schedule: Schedule
    max_length: int = 192
    """Tokens of a sample, image tokens included."""


class InstructSettings(_Record):
    """Stage 3: projector and LoRA on the language model, on questions and answers."""

    schedule: Schedule
    projector_rate: float = 1e-3
    """Peak learning rate of the projector; the schedule's is that of LoRA."""
    rank: int = 64
    """Rank of LoRA's matrices."""
    alpha: int = 128
    """Scale of LoRA: its product is multiplied by alpha / rank."""
    dropout: float = 0.05
    """Dropout before LoRA."""
    turns: int = Field(default=2, gt=0)
    """Questions about one region in one sample."""
    whole_share: float = Field(default=0.25, ge=0, le=1)
    """Share of whole slides among the samples."""
    max_length: int = 256
    """Tokens of a sample, image tokens included."""


class CalibrateSettings(_Record):
    """Fits on validation slides."""

    regions: int = 6
    """Windows per slide whose answers are weighed against the slide's own."""
    window: int = 5
    """Tiles on a side of such a window."""
    familiar_quantile: float = 0.995
    """Share of validation slides and questions that must count as familiar."""
    centroids: int = 256
    """Tile centroids kept for telling unlike slides."""


class Recipe(_Record):
    """A whole training run."""

    name: str
    seed: int = 0
    """Seed of regions, texts and stages; the pretraining steps have seeds of their own."""
    tiles: str | None = None
    """Folder of labelled real tiles with `tiles.csv` for the tile encoder; None: phantom tiles only."""
    tiles_source: str | None = None
    """Where the real tiles come from, for the model card: data set, reference, licence."""
    vocabulary: int = 1500
    """Tokens of the tokenizer."""
    texts_per_slide: int = 32
    """Documents per slide for the language model."""
    feature_mpp: float | None = None
    """µm per level-0 px of all slides whose features the cohort holds; None: as each file says."""
    feature_side: int | None = None
    """Side of their tiles in level-0 px; None: as each file says. CLAM's files say neither."""
    n_tokens: int = 32
    """Slide tokens that the language model sees."""
    pooling: Literal["tokens", "mean", "class"] = "tokens"
    """How tile tokens become slide tokens; "mean" and "class" give one, so `n_tokens` must be 1."""
    feature_dim: int | None = None
    """Channels of a slide token, zero-padded; None: those of the slide encoder."""
    tile_encoder: PretrainedTiles | TileSettings = Field(union_mode="left_to_right")
    language: PretrainedLanguage | LanguageModelSettings = Field(union_mode="left_to_right")
    slide_encoder: SlideEncoderConfig
    slide_weights: str | None = None
    """File of slide encoder weights to start from, or a hub id with `slide_encoder.pth`; None: random."""
    alignment: AlignmentConfig
    text_encoder: str | None = None
    """Folder or hub id of a pretrained text encoder of transformers; None: a small BERT from scratch."""
    regions: RegionSettings = RegionSettings()
    stage1: AlignSettings
    stage2: ProjectSettings
    stage3: InstructSettings
    calibrate: CalibrateSettings = CalibrateSettings()

    @model_validator(mode="after")
    def _makes_a_model(self) -> Self:
        try:
            _ = self.model
        except ValidationError as error:
            raise ValueError(str(error.errors()[0]["msg"]).removeprefix("Value error, ")) from error
        return self

    @property
    def model(self) -> ModelConfig:
        """The model that this recipe trains, before its tokenizer is known."""
        config = ModelConfig(
            name=self.name,
            n_tokens=self.n_tokens,
            pooling=self.pooling,
            feature_dim=self.feature_dim or self.slide_encoder.embed_dim,
            tile_encoder=self.tile_encoder.encoder,
            slide_encoder=self.slide_encoder,
            alignment=self.alignment,
            language_model=self.language.model,
        )
        if isinstance(self.language, PretrainedLanguage):
            kept = ("template", "system", "generation")
            config = config.model_copy(update={name: getattr(self.language, name) for name in kept})
        return config


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
            schedule=Schedule(
                epochs=1,
                batch=256,
                micro_batch=32,
                learning_rate=1e-3,
                warmup=0.03,
                weight_decay=0.0,
                beta2=0.999,
                zero=2,
                workers=2,
                recompute=True,
            ),
            max_length=2048,
        ),
        stage3=InstructSettings(
            schedule=Schedule(
                epochs=3,
                batch=128,
                micro_batch=4,
                learning_rate=2e-4,
                warmup=0.03,
                weight_decay=0.0,
                beta2=0.999,
                zero=3,
                workers=2,
                recompute=True,
            ),
            projector_rate=2e-5,
            rank=128,
            alpha=256,
            turns=1,
            max_length=2048,
        ),
    )


def wsi_llava_qwen7b() -> Recipe:
    """The same with Qwen2.5-7B-Instruct, the language model of MLLM-HWSI."""
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
        said = str(first["msg"]).removeprefix("Value error, ")
        if isinstance(first["input"], Mapping):  # several values that do not fit each other
            raise UsageError(f"--set {where}: {said}" if where else f"the recipe: {said}") from error
        raise UsageError(f"--set {where}: {said}", fix=f"it was given as {first['input']!r}") from error


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
