"""Stage 1 of WSI-LLaVA: reports and slides meet in one space of unit vectors.

Letters: B items, L words, n slide tokens, D channels of a slide token, E channels of the shared space.

The text tower is used again after training: text queries find tiles through it.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core_model.config import AlignmentConfig
from core_model.errors import CheckpointError


def build_text_encoder(config: AlignmentConfig) -> nn.Module:
    """A small BERT, or with `text_config` any text encoder of transformers, with random weights.

    It takes `input_ids`, `attention_mask` (B, L) and gives `last_hidden_state` (B, L, W); a pooler is left
    out, since nothing reads it. Raises `CheckpointError` for a configuration that transformers refuses.
    """
    from transformers import AutoConfig, AutoModel, BertConfig, BertModel

    if config.text_config is None:
        small = BertConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.embed_dim,
            num_hidden_layers=config.depth,
            num_attention_heads=config.heads,
            intermediate_size=config.ffn_dim,
            max_position_embeddings=config.max_positions,
            hidden_dropout_prob=config.dropout,
            attention_probs_dropout_prob=config.dropout,
            type_vocab_size=1,
        )
        return BertModel(small, add_pooling_layer=False)
    try:
        network = AutoModel.from_config(AutoConfig.for_model(**config.text_config))
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"text_config describes no text encoder of transformers ({error})") from error
    if hasattr(network, "pooler"):
        network.pooler = None
    return network


class TextTower(nn.Module):
    """A text encoder, the mean over its words, and a linear map into the shared space."""

    def __init__(self, config: AlignmentConfig) -> None:
        super().__init__()
        encoder: Any = build_text_encoder(config)
        self.bert = encoder
        self.project = nn.Linear(encoder.config.hidden_size, config.shared_dim)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """`input_ids`, `attention_mask` (B, L) → unit vectors (B, E)."""
        words = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state  # (B, L, W)
        mask = attention_mask.unsqueeze(-1).to(words.dtype)  # (B, L, 1)
        mean = (words * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)  # (B, W)
        return F.normalize(self.project(mean), dim=-1)


class AlignmentHead(nn.Module):
    """Slide tokens → the shared space. One tile, a region and a slide all pass through it."""

    def __init__(self, slide_dim: int, shared_dim: int) -> None:
        super().__init__()
        self.hidden, self.project = nn.Linear(slide_dim, slide_dim), nn.Linear(slide_dim, shared_dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """`tokens` (B, n, D) as `LongNetViT.slide_tokens` gives them, unpadded → unit vectors (B, E)."""
        mean = tokens.mean(dim=1)  # (B, D)
        return F.normalize(self.project(mean + F.gelu(self.hidden(mean))), dim=-1)


class Alignment(nn.Module):
    """Text tower, slide head and logit scale: the parts that stage 1 trains beside the slide encoder."""

    def __init__(self, config: AlignmentConfig, slide_dim: int) -> None:
        super().__init__()
        self.config = config
        self.text = TextTower(config)
        self.head = AlignmentHead(slide_dim, config.shared_dim)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / config.temperature)))

    def forward(self, tokens: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Similarity logits (B slides, B texts), scaled by the learnt inverse temperature (at most 100)."""
        scale = self.logit_scale.clamp(max=math.log(100)).exp()
        return scale * self.head(tokens) @ self.text(input_ids, attention_mask).T  # (B, B)
