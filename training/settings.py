"""Settings of a training run as frozen records: what a recipe is made of."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from core_model.config import (
    AlignmentConfig,
    GenerationConfig,
    LanguageModelConfig,
    ModelConfig,
    SlideEncoderConfig,
    TileEncoderConfig,
)
from training.tiles.pretrain import TileSettings


@dataclass(frozen=True)
class LanguageModelSettings:
    """Settings of the small language model: its size and its pretraining."""

    model: LanguageModelConfig = field(default_factory=lambda: LanguageModelConfig(depth=4))
    """Dimensions; the token ids are taken from the tokenizer."""
    steps: int = 1500
    """Optimizer steps."""
    batch: int = 32
    """Documents per step."""
    max_length: int = 384
    """Tokens of a document beyond which it is cut."""
    learning_rate: float = 1.5e-3
    """Peak of a cosine schedule with linear warm-up."""
    warmup: float = 0.05
    """Share of the steps in which the rate rises."""
    weight_decay: float = 0.05
    answer_weight: float = 4.0
    """Weight of an answer's token, where any other token weighs 1."""
    bf16: bool | None = None
    """Compute in bfloat16; None: where the processor has it."""
    seed: int = 0


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Schedule(_Record):
    """The schedule of a stage: how long and how fast it learns.

    The rate warms up linearly and falls as a cosine to zero.
    """

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
        """A copy of the schedule with its epochs over so many samples counted out in steps."""
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
            names = ("template", "system", "generation")
            config = config.model_copy(update={name: getattr(self.language, name) for name in names})
        return config
