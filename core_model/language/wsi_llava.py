"""The language model that reads slides: transformers' Llava, fed slide tokens instead of pixels.

Llava builds a vision tower and runs it on pixels. Ours has none: the slide encoder has done that work, so
`slide_features` go straight to the projector. Everything after the merge is transformers' own code.

Answers are scored by how likely the model finds their words, and written by sampling. The prompt with its
slide tokens is by far the longest part of a sequence and the same for all options, so it is read once per
region and its cache is shared.

Letters: B sequences, L tokens, n slide tokens, C channels of a slide token, W channels of a word, R slides or
regions, A answers, P tokens of the common prompt, T tokens of the longest rest, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModel, CLIPVisionConfig, LlamaConfig, LlavaConfig, Qwen2Config
from transformers.models.llava.modeling_llava import LlavaForConditionalGeneration, LlavaModel

from core_model.config import GenerationConfig, LanguageModelConfig, ModelConfig
from core_model.language.conversation import IGNORE

Encoded = tuple[list[int], list[int]]
"""Token ids and labels, as `conversation.encode_turns` gives them."""


TOKENS_AT_ONCE = 16384
"""Tokens in one forward pass; bounds memory, not results."""


class _Draw:
    """Makes taking the largest the same as drawing from the softmax at a temperature (Gumbel-max trick).

    The noise comes from a generator of its own, on the CPU: the same on every device, and nobody else's
    random numbers change.
    """

    def __init__(self, how: GenerationConfig) -> None:
        self.temperature = how.temperature
        self.random = torch.Generator().manual_seed(how.seed)

    def __call__(self, ids: Tensor, scores: Tensor) -> Tensor:
        noise = -torch.empty(scores.shape).exponential_(generator=self.random).log()  # (1, V)
        return scores / self.temperature + noise.to(scores.device)


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


def option_log_likelihoods(llava: Any, slide_tokens: Tensor, options: Sequence[Encoded]) -> np.ndarray:
    """Summed log-likelihood of each option's labelled tokens after the prompt.

    `slide_tokens` (R, n, C); `options` are A whole conversations that differ in the answer.
    Returns (R, A) float64.
    """
    P = _common_prefix(options)
    tails, targets = _tails(options, P, llava.device)  # (A, T), (A, T)
    A, T = tails.shape
    prefix = torch.tensor([options[0][0][:P]], device=llava.device)  # (1, P)
    step = max(1, TOKENS_AT_ONCE // (A * (P + T)))
    rows = [
        _score(llava, slide_tokens[start : start + step], prefix, tails, targets)
        for start in range(0, len(slide_tokens), step)
    ]
    return torch.cat(rows).cpu().numpy()  # (R, A)


def _score(llava: Any, slide_tokens: Tensor, prefix: Tensor, tails: Tensor, targets: Tensor) -> Tensor:
    R, A = len(slide_tokens), len(tails)
    head = llava(
        input_ids=prefix.expand(R, -1), slide_features=slide_tokens, use_cache=True, logits_to_keep=1
    )  # logits (R, 1, V): they foretell the first token of the rest
    cache = head.past_key_values
    cache.batch_repeat_interleave(A)
    rest = llava(input_ids=tails.repeat(R, 1), past_key_values=cache, use_cache=True).logits  # (R·A, T, V)
    logits = torch.cat([head.logits.repeat_interleave(A, dim=0), rest[:, :-1]], dim=1)  # (R·A, T, V)
    labels = targets.repeat(R, 1)  # (R·A, T)
    # (R·A, T)
    log_probs = logits.double().log_softmax(-1).gather(-1, labels.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    return (log_probs * (labels != IGNORE)).sum(dim=1).reshape(R, A)  # (R·A, T) → (R, A)


def _common_prefix(options: Sequence[Encoded]) -> int:
    """Number of leading tokens that all options share and that no label falls on."""
    first_label = min(next(i for i, label in enumerate(labels) if label != IGNORE) for _, labels in options)
    columns = zip(*(ids[:first_label] for ids, _ in options), strict=True)
    return next((i for i, column in enumerate(columns) if len(set(column)) > 1), first_label)


def _tails(options: Sequence[Encoded], prefix: int, device: Any) -> tuple[Tensor, Tensor]:
    """Ids and labels after the prefix, filled up on the right, where causal attention hides the filling."""
    length = max(len(ids) for ids, _ in options)
    ids = [[*ids[prefix:], *[0] * (length - len(ids))] for ids, _ in options]
    labels = [[*labels[prefix:], *[IGNORE] * (length - len(labels))] for _, labels in options]
    return torch.tensor(ids, device=device), torch.tensor(labels, device=device)


def write(
    llava: Any, slide_tokens: Tensor, prompt: list[int], how: GenerationConfig
) -> tuple[list[int], float]:
    """Continuation of one prompt: new token ids, and the geometric mean of their probabilities.

    Generation starts from embeddings, so that rules about repetition see the new words alone, as LLaVA's do,
    and no `<image>`. The probabilities are the model's own, before temperature and rules.
    """
    ids = torch.tensor([prompt], device=llava.device)
    out = llava.generate(
        inputs_embeds=llava.merge(ids, slide_tokens),
        attention_mask=torch.ones_like(ids),
        max_new_tokens=how.max_new_tokens,
        do_sample=False,
        logits_processor=_rules(how),
        pad_token_id=llava.config.text_config.pad_token_id,
        eos_token_id=llava.config.text_config.eos_token_id,
        output_logits=True,
        return_dict_in_generate=True,
    )
    new = out.sequences[0]  # (T,)
    logits = torch.cat(out.logits).double()  # (T, V)
    log_probs = logits.log_softmax(-1).gather(-1, new.unsqueeze(-1))  # (T, 1)
    return new.tolist(), float(log_probs.mean().exp())


def _rules(how: GenerationConfig) -> list[Any]:
    """The processors that change the logits before the largest is taken."""
    from transformers import NoRepeatNGramLogitsProcessor

    repeats = [NoRepeatNGramLogitsProcessor(how.no_repeat_ngram)] if how.no_repeat_ngram else []
    return [*repeats, *([_Draw(how)] if how.temperature else [])]


def mean_nll(llava: Any, ids: list[int], is_question: Sequence[bool]) -> float:
    """Mean negative log-likelihood (nats) of the counted tokens of a text without a slide."""
    row = torch.tensor([ids], device=llava.device)
    log_probs = llava(input_ids=row).logits[0, :-1].double().log_softmax(-1)  # (L-1, V)
    nll = -log_probs.gather(-1, row[0, 1:, None]).squeeze(-1)  # (L-1,)
    mask = torch.tensor(is_question[1:], device=llava.device)
    return float(nll[mask].mean()) if bool(mask.any()) else 0.0
