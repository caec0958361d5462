"""The language model that reads slides: transformers' Llava, fed slide tokens instead of pixels.

Letters: B sequences, L tokens, n slide tokens, C channels of a slide token, W channels of a word.

Llava builds a vision tower and runs it on pixels. Ours has none: the slide encoder has done that work, so
`slide_features` go straight to the projector. Everything after the merge is transformers' own code.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModel, CLIPVisionConfig, LlamaConfig, LlavaConfig, Qwen2Config
from transformers.models.llava.modeling_llava import LlavaForConditionalGeneration, LlavaModel

from core_model.config import LanguageModelConfig, ModelConfig


class SlideProjector(nn.Module):
    """Two linear layers with a GELU between, C → W → W."""

    def __init__(self, feature_dim: int, word_dim: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(feature_dim, word_dim)
        self.linear_2 = nn.Linear(word_dim, word_dim)

    def forward(self, slide_features: Tensor) -> Tensor:
        """(B, n, C) → (B, n, W)."""
        return self.linear_2(F.gelu(self.linear_1(slide_features)))


def text_config(config: LanguageModelConfig) -> LlamaConfig | Qwen2Config:
    """A language model's dimensions in transformers' words."""
    kind = {"LlamaForCausalLM": LlamaConfig, "Qwen2ForCausalLM": Qwen2Config}[config.class_name]
    return kind(
        vocab_size=config.vocab_size,
        hidden_size=config.embed_dim,
        num_hidden_layers=config.depth,
        num_attention_heads=config.heads,
        num_key_value_heads=config.kv_heads,
        intermediate_size=config.ffn_dim,
        max_position_embeddings=config.max_positions,
        rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
        rms_norm_eps=config.rms_eps,
        tie_word_embeddings=config.tie_embeddings,
        bos_token_id=config.bos_id,
        eos_token_id=config.eos_id,
        pad_token_id=config.pad_id,
    )


def llava_config(config: ModelConfig) -> LlavaConfig:
    """Our dimensions in transformers' words. The vision config only records C; it is never built."""
    return LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=config.feature_dim, num_hidden_layers=1, num_attention_heads=1
        ),
        text_config=text_config(config.language_model),
        image_token_index=config.language_model.image_id,
        image_seq_length=config.n_tokens,
        tie_word_embeddings=config.language_model.tie_embeddings,
    )


class _WithoutVisionTower(LlavaModel):
    """Projector and language model under the names that Llava gives them."""

    def __init__(self, config: Any) -> None:
        super(LlavaModel, self).__init__(config)  # LlavaModel's own constructor would build a vision tower
        self.multi_modal_projector = SlideProjector(  # type: ignore[assignment]
            config.vision_config.hidden_size, config.text_config.hidden_size
        )
        self.language_model = AutoModel.from_config(config.text_config)
        self.post_init()


class WsiLlavaForConditionalGeneration(LlavaForConditionalGeneration):
    """Llava whose images are slides. Without `slide_features` it is a plain causal language model."""

    input_modalities = ("text",)  # type: ignore[assignment]  # generate() must not look for an image encoder

    def __init__(self, config: Any) -> None:
        super(LlavaForConditionalGeneration, self).__init__(config)
        self.model = _WithoutVisionTower(config)
        self.lm_head = torch.nn.Linear(
            config.text_config.hidden_size, config.text_config.vocab_size, bias=False
        )
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        slide_features: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Any,
    ) -> Any:
        """Logits, and the loss where `labels` (B, L) are not -100.

        `slide_features` (B, n, C) take the places of the n `<image>` tokens of each row of `input_ids`
        (B, L). Raises ValueError where their numbers differ.
        """
        if slide_features is not None:
            inputs_embeds = self.merge(input_ids, slide_features)  # (B, L, W)
            input_ids = None
        elif input_ids is not None and self._rowless and bool((input_ids == self._image).any()):
            raise ValueError("<image> tokens stand here without slide_features")
        return super().forward(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            labels=labels,
            logits_to_keep=logits_to_keep,
            **kwargs,
        )

    @property
    def _image(self) -> int:
        return int(self.config.image_token_id)

    @property
    def _rowless(self) -> bool:
        """True where the embedding has no row for `<image>`, as in published language models."""
        language: Any = self.config.text_config
        return self._image >= int(language.vocab_size)

    def merge(self, input_ids: Tensor | None, slide_features: Tensor) -> Tensor:
        """Word embeddings (B, L, W) with projected slide tokens where `<image>` stands."""
        if input_ids is None:
            raise ValueError("slide_features need input_ids: their <image> tokens say where to put them")
        is_image = input_ids == self._image  # (B, L), n per row
        if not bool((is_image.sum(dim=1) == slide_features.shape[1]).all()):
            raise ValueError(
                f"each row needs exactly {slide_features.shape[1]} <image> tokens, one per slide token"
            )
        words = self.get_input_embeddings()(input_ids.masked_fill(is_image, 0))  # (B, L, W); any row will do
        projector = self.model.multi_modal_projector
        slide_words = projector(slide_features.to(projector.linear_1.weight.dtype))  # (B, n, C) → (B, n, W)
        return words.masked_scatter(is_image.unsqueeze(-1), slide_words.to(words.dtype))  # (B, L, W)

    def take_language_model(self, language_model: Any) -> None:
        """Copy the weights of a `LlamaForCausalLM` or `Qwen2ForCausalLM` of these dimensions."""
        self.model.language_model.load_state_dict(language_model.model.state_dict())
        self.lm_head.load_state_dict(language_model.lm_head.state_dict())

    def prepare_inputs_for_generation(
        self, *args: Any, inputs_embeds: Tensor | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """The inputs of one generation step; the slide is given in the first only, later it is in the cache.

        `inputs_embeds` is named because transformers asks the signature whether generation may start there.
        """
        llava: Any = super()
        inputs: dict[str, Any] = llava.prepare_inputs_for_generation(
            *args, inputs_embeds=inputs_embeds, **kwargs
        )
        if not kwargs.get("is_first_iteration") and kwargs.get("use_cache", True):
            inputs.pop("slide_features", None)
        return inputs
