"""What a model is made of: class names and dimensions of every part, as one frozen record.

`config.json` of a checkpoint folder is a `ModelConfig`. It is written out in full, so that a folder can be
read without the code's defaults of the day.
"""

from __future__ import annotations

import math
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TileEncoderConfig(_Record):
    """A vision transformer that turns one tile into one vector (the CLS token after the last LayerNorm)."""

    class_name: Literal["ViTModel", "Dinov2Model"] = "ViTModel"
    """Class of transformers that is built; Dinov2 with SwiGLU, layer scale and no mask token."""
    embed_dim: int = 192
    depth: int = 6
    heads: int = 3
    ffn_dim: int = 768
    """Channels of the hidden layer; of SwiGLU those after gating."""
    patch_px: int = 16
    """Side of the patches that become tokens, px."""
    tile_px: int = 224
    """Side of the tile image, px; other sizes are resized."""
    crop_px: int | None = None
    """Side of the centre that the network sees of it, px; None: all."""
    mpp: float = 0.5
    """µm per px at which tiles are read."""
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    @property
    def image_px(self) -> int:
        """Side of the image that the network sees, px."""
        return self.crop_px or self.tile_px

    @classmethod
    def gigapath(cls) -> Self:
        """Prov-GigaPath's ViT-g/16 with its preprocessing: 1,134,953,984 parameters."""
        return cls(
            class_name="Dinov2Model",
            embed_dim=1536,
            depth=40,
            heads=24,
            ffn_dim=4096,
            tile_px=256,
            crop_px=224,
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
        )


class SlideEncoderConfig(_Record):
    """LongNetViT; the defaults of `gigapath()` are the published network's."""

    class_name: Literal["LongNetViT"] = "LongNetViT"
    in_chans: int = 192
    """Channels of a tile feature."""
    embed_dim: int = 192
    depth: int = 4
    heads: int = 6
    ffn_dim: int = 768
    tile_size: int = 224
    """Side of a tile in px at `encoder_mpp`: the pitch of the position grid."""
    encoder_mpp: float = 0.5
    """µm per px of the frame in which coordinates are given to the network."""
    slide_ngrids: int = 1000
    """Cells per side of the position grid."""
    max_wsi_size: int = 262144
    """Side in px of the largest slide; sets the longest segment."""
    dilated_ratio: tuple[int, ...] = (1, 2, 4, 8, 16)
    """Dilation of each attention branch."""
    segment_length: tuple[int, ...] | None = None
    """Segment of each branch in tokens; None: derived, see `segments`."""
    dropout: float = 0.0
    drop_path: float = 0.0

    @property
    def segments(self) -> tuple[int, ...]:
        """Segment lengths: given, or log-spaced from 1024 to the token count of the largest slide."""
        if self.segment_length is not None:
            return self.segment_length
        most = int(math.log2((self.max_wsi_size // self.tile_size) ** 2))
        step = (most - 10) / max(1, len(self.dilated_ratio) - 1)
        return tuple(int(2 ** (10 + step * i)) for i in range(len(self.dilated_ratio)))

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.embed_dim % self.heads or self.embed_dim % 4:
            raise ValueError(f"embed_dim {self.embed_dim} must divide by heads {self.heads} and by 4")
        if len(self.segments) != len(self.dilated_ratio):
            raise ValueError("segment_length and dilated_ratio must have one entry per branch")
        return self

    @classmethod
    def gigapath(cls) -> Self:
        """Prov-GigaPath's `gigapath_slide_enc12l768d`: 86,330,880 parameters."""
        return cls(
            in_chans=1536,
            embed_dim=768,
            depth=12,
            heads=16,
            ffn_dim=3072,
            tile_size=256,
            dropout=0.25,
            drop_path=0.1,
        )


class AlignmentConfig(_Record):
    """Stage 1: text tower and slide head that meet in one space of `shared_dim` channels."""

    class_name: str = "BertModel"
    """Class of transformers; the dimensions below are a BERT's and unused where `text_config` is given."""
    text_config: dict[str, Any] | None = None
    """transformers' configuration of a pretrained text encoder, which brings a tokenizer of its own."""
    vocab_size: int = 0
    """Filled in by `ModelConfig.for_tokenizer`."""
    embed_dim: int = 192
    depth: int = 3
    heads: int = 4
    ffn_dim: int = 768
    max_positions: int = 512
    dropout: float = 0.1
    shared_dim: int = 128
    temperature: float = 0.07
    """Initial temperature of the contrastive loss; the learnt scale starts at 1 / temperature."""


class LanguageModelConfig(_Record):
    """The language model and the ids by which it knows the tokenizer's special tokens."""

    class_name: Literal["LlamaForCausalLM", "Qwen2ForCausalLM"] = "LlamaForCausalLM"
    vocab_size: int = 0
    """Rows of the embedding: at least the tokenizer's, not counting an `<image>` added behind them."""
    embed_dim: int = 256
    depth: int = 6
    heads: int = 4
    kv_heads: int = 4
    ffn_dim: int = 704
    max_positions: int = 2048
    rope_theta: float = 10000.0
    rms_eps: float = 1e-5
    tie_embeddings: bool = True
    bos_id: int | None = 1
    """None: texts begin without one."""
    eos_id: int = 2
    pad_id: int = 0
    image_id: int = 3
    """Id of the placeholder `<image>`, one per slide token; it may lie beyond the vocabulary."""

    @classmethod
    def vicuna_7b(cls) -> Self:
        """lmsys/vicuna-7b-v1.5, the language model of WSI-LLaVA."""
        return cls(
            vocab_size=32000,
            embed_dim=4096,
            depth=32,
            heads=32,
            kv_heads=32,
            ffn_dim=11008,
            max_positions=4096,
            tie_embeddings=False,
            image_id=32000,
        )

    @classmethod
    def qwen_7b(cls) -> Self:
        """Qwen/Qwen2.5-7B-Instruct, the language model of MLLM-HWSI."""
        return cls(
            class_name="Qwen2ForCausalLM",
            vocab_size=152064,
            embed_dim=3584,
            depth=28,
            heads=28,
            kv_heads=4,
            ffn_dim=18944,
            max_positions=32768,
            rope_theta=1e6,
            rms_eps=1e-6,
            tie_embeddings=False,
            bos_id=None,
            eos_id=151645,
            pad_id=151643,
            image_id=151665,
        )


class GenerationConfig(_Record):
    """How free text is written. The defaults are greedy, as the embedded model writes."""

    temperature: float = Field(default=0.0, ge=0)
    """0: the likeliest token each time; else tokens are drawn, always the same for the same seed."""
    no_repeat_ngram: int = Field(default=0, ge=0)
    """No run of so many tokens is written twice; 0: no such rule."""
    max_new_tokens: int = Field(default=64, gt=0)
    seed: int = 0

    @classmethod
    def wsi_llava(cls) -> Self:
        """The settings of WSI-LLaVA's evaluation."""
        return cls(temperature=0.2, no_repeat_ngram=3, max_new_tokens=1024)


class Calibration(_Record):
    """How far to trust probabilities; fitted on validation slides, used by the agent."""

    temperature: float = Field(default=1.0, gt=0)
    """Option log-likelihoods are divided by this before the softmax."""
    slide_weight: float = 1.0
    """Weight of the whole-slide log-probabilities when evidence is combined."""
    region_weight: float = 1.0
    """Weight of a region's log-probabilities when evidence is combined."""
    abstain_below: float = 0.0
    """Confidence under which the agent abstains."""


class FamiliarityConfig(_Record):
    """Limits of what resembles the training data. None: not fitted, so nothing is called unfamiliar."""

    slide_threshold: float | None = None
    """Median tile distance (standardised features) that still counts as familiar."""
    question_nll: float | None = None
    """Mean negative log-likelihood per token (nats) of a question that still counts as familiar."""
    unknown_share: float = 0.25
    """Share of unknown content words that still counts as familiar."""


class ModelConfig(_Record):
    """Everything needed to build a model's parts; the weights lie beside it."""

    version: Literal[1] = 1
    name: str = "mini"
    model_version: str = "0"
    parts: tuple[str, ...] = ()
    """Parts whose weights the folder holds; written by `save_checkpoint`."""
    dtype: Literal["float32", "float16", "bfloat16"] = "bfloat16"
    """Type of the weights on disk; a CPU computes with them as float32."""
    encoder_dtype: Literal["float32", "float16", "bfloat16"] | None = None
    """Type on disk of tile encoder, slide encoder and alignment; None: as the rest."""
    template: Literal["vicuna_v1", "chatml"] = "vicuna_v1"
    """Form of a conversation: chatml is Qwen's."""
    system: str = ""
    """Sentence before the first turn of a conversation; the embedded model was trained with none."""
    n_tokens: int = 32
    """Tokens per slide after pooling; 576 at full size."""
    feature_dim: int = 192
    """Channels per slide token, zero-padded from the slide encoder's; 1024 at full size."""
    pooling: Literal["tokens", "mean", "class"] = "tokens"
    """How tile tokens become slide tokens: averaged to `n_tokens`, to one, or the class token alone."""
    generation: GenerationConfig = GenerationConfig()
    tile_encoder: TileEncoderConfig = TileEncoderConfig()
    slide_encoder: SlideEncoderConfig = SlideEncoderConfig()
    alignment: AlignmentConfig = AlignmentConfig()
    language_model: LanguageModelConfig = LanguageModelConfig()
    calibration: Calibration = Calibration()
    familiarity: FamiliarityConfig = FamiliarityConfig()
    training: dict[str, Any] = Field(default_factory=dict)
    """Provenance: recipe, seeds, cohorts, accuracy, versions."""

    @model_validator(mode="after")
    def _dimensions_meet(self) -> Self:
        if self.slide_encoder.in_chans != self.tile_encoder.embed_dim:
            raise ValueError("slide_encoder.in_chans must equal tile_encoder.embed_dim")
        if self.feature_dim < self.slide_encoder.embed_dim:
            raise ValueError("feature_dim must be at least slide_encoder.embed_dim")
        if self.pooling != "tokens" and self.n_tokens != 1:
            raise ValueError(f"pooling '{self.pooling}' gives one token, not n_tokens {self.n_tokens}")
        return self

    def for_tokenizer(self, tokenizer: Any) -> Self:
        """This configuration with the special ids of a tokenizer and rows for all of its tokens.

        `<image>` needs no row where it comes last; an embedding that has more rows, as published ones do,
        keeps them.
        """
        image = tokenizer.convert_tokens_to_ids("<image>")
        rows = 1 + max(place for place in tokenizer.get_vocab().values() if place != image)
        ids = {
            "vocab_size": max(self.language_model.vocab_size, rows),
            "bos_id": tokenizer.bos_token_id,
            "eos_id": tokenizer.eos_token_id,
            "pad_id": tokenizer.pad_token_id,
            "image_id": image,
        }
        alignment = self.alignment
        if alignment.text_config is None:
            alignment = alignment.model_copy(update={"vocab_size": len(tokenizer)})
        language_model = self.language_model.model_copy(update=ids)
        return self.model_copy(update={"language_model": language_model, "alignment": alignment})
