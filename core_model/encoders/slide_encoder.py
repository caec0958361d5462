"""The slide encoder: LongNetViT over the tiles of a slide (Prov-GigaPath, Xu et al. 2024, Nature).

Letters: B slides, N tiles, C channels of a tile feature, D channels of a slide token, n pooled tokens.

Parameter names are those of the published network, so its weights load strictly. The same code is the
embedded mini encoder and, with `SlideEncoderConfig.gigapath()`, the full one (`load_slide_encoder`).

`Alignment` is stage 1 of WSI-LLaVA: reports and slides meet in one space of unit vectors (E channels; L
words of a report). Its text tower is used again after training: text queries find tiles through it.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from core_model.config import AlignmentConfig, SlideEncoderConfig
from core_model.encoders.longnet import LongNet
from core_model.errors import CheckpointError, SlideError, UsageError
from core_model.weights import read_model_entry, some_names


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


__all__ = [
    "LongNetViT",
    "Pooling",
    "SlideEncoderConfig",
    "encoder_coords",
    "load_slide_encoder",
    "pool_tokens",
    "position_rows",
]

Pooling = Literal["tokens", "mean", "class"]


def encoder_coords(coords0: np.ndarray, slide_mpp: float, encoder_mpp: float) -> np.ndarray:
    """Level-0 pixels (N, 2) of a slide at `slide_mpp` → px at `encoder_mpp` (N, 2) float32.

    The one place of this conversion: level-0 pixels of a 40× slide fed to a 20× encoder would look like
    a slide of twice the size, without any error.
    """
    return (np.asarray(coords0, dtype=np.float64) * (slide_mpp / encoder_mpp)).astype(np.float32)


def position_rows(coords: Tensor, config: SlideEncoderConfig) -> Tensor:
    """Sine–cosine position codes (B, N, D) of tiles at `coords` (B, N, 2) x, y in px at encoder mpp.

    The table over the whole grid would take 3 GB at full size; here each half of a row is looked up by
    itself. The first half of the channels encodes the row (y), the second the column (x), as published.
    """
    cells = torch.floor(coords.double() / config.tile_size)  # (B, N, 2) column, row
    if cells.numel() and not (cells.min() >= 0 and cells.max() < config.slide_ngrids):
        reach = config.slide_ngrids * config.tile_size * config.encoder_mpp / 1000
        raise SlideError(
            f"tiles lie outside the {reach:.0f} mm that the slide encoder's position grid covers",
            fix="check the slide's mpp",
        )
    half = config.embed_dim // 2
    steps = torch.arange(half // 2, dtype=torch.float64, device=coords.device) / (half / 2)
    places = torch.arange(int(cells.max()) + 1 if cells.numel() else 0, device=coords.device)
    angles = places.unsqueeze(-1) * 10000.0**-steps  # (cells along one side, D/4)
    codes = torch.cat([angles.sin(), angles.cos()], dim=-1).float()  # (cells along one side, D/2)
    return codes[cells.flip(-1).long()].flatten(-2)  # (B, N, 2, D/2) row first → (B, N, D)


def pool_tokens(tokens: Tensor, n: int) -> Tensor:
    """Adaptive average over the sequence: (B, N, D) without CLS → (B, n, D)."""
    return F.adaptive_avg_pool1d(tokens.transpose(1, 2), n).transpose(1, 2)  # over (B, D, N)


def load_slide_encoder(path: str | Path, config: SlideEncoderConfig | None = None) -> LongNetViT:
    """Prov-GigaPath's `slide_encoder.pth`, `{"model": tensors by name}`, as float32 on the CPU in eval mode.

    `config` is `SlideEncoderConfig.gigapath()` unless given. Where the file does not hold exactly the
    tensors of that network, a `CheckpointError` names what is missing, unexpected or of another shape.
    """
    path, config = Path(path), config or SlideEncoderConfig.gigapath()
    state = read_model_entry(path)
    with torch.device("meta"):  # no random weights are made
        network = LongNetViT(config)
    own_state = network.state_dict()
    lacks, extra = sorted(set(own_state) - set(state)), sorted(set(state) - set(own_state))
    shapes = [
        f"{name} of shape {tuple(state[name].shape)} in place of {tuple(value.shape)}"
        for name, value in own_state.items()
        if name in state and state[name].shape != value.shape
    ]
    differences = (("lacks", lacks), ("has unexpected", extra), ("has", shapes))
    if problems := [f"{verb} {some_names(names)}" for verb, names in differences if names]:
        raise CheckpointError(
            f"the file holds no slide encoder of this configuration: {'; '.join(problems)}",
            where=path,
            fix="check the file and the dimensions of the slide encoder",
        )
    weights = {name: value.to(torch.float32, copy=True).contiguous() for name, value in state.items()}
    network.load_state_dict(weights, assign=True)
    return network.eval()


class LongNetViT(nn.Module):
    """Tiles and their places → one token per tile, after a class token."""

    recompute: bool = False
    """While training, keep only each layer's input and compute the layer again in the backward pass."""

    def __init__(self, config: SlideEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = nn.ModuleDict({"proj": nn.Linear(config.in_chans, config.embed_dim)})
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.embed_dim))
        self.encoder = LongNet(config)
        self.norm = nn.LayerNorm(config.embed_dim, eps=1e-6)
        nn.init.normal_(self.cls_token, std=0.02)

    def forward(self, tiles: Tensor, coords: Tensor) -> Tensor:
        """`tiles` (B, N, C), `coords` (B, N, 2) x, y in px at encoder mpp → tokens (B, N+1, D).

        These are the encoder's output: the final `norm` belongs to what is read off them (`slide_tokens`,
        `global_pool`, `all_layers`), after any averaging.
        """
        return self.encoder.layer_norm(self._states(tiles, coords)[-1])

    def slide_tokens(
        self,
        tiles: Tensor,
        coords: Tensor,
        n: int,
        channels: int | None = None,
        pooling: Pooling = "tokens",
    ) -> Tensor:
        """Pooled tokens (B, n, channels or D) for the language model: average, then norm, then zero-pad.

        The norm follows the pooling because the padded channels must stay zero and the published features
        were made in this order (WSI-LLaVA's change to the pooled branch of LongNetViT). `pooling` "mean"
        and "class" give one token whatever `n` is: `global_pool` or `class_token`.
        """
        if pooling == "tokens":
            tokens = self.norm(pool_tokens(self(tiles, coords)[:, 1:], n))  # (B, n, D)
        elif pooling == "mean":
            tokens = self.global_pool(tiles, coords).unsqueeze(1)  # (B, 1, D)
        elif pooling == "class":
            tokens = self.class_token(tiles, coords).unsqueeze(1)  # (B, 1, D)
        else:
            raise UsageError(f"there is no pooling '{pooling}'", fix="There are tokens, mean and class")
        return F.pad(tokens, (0, (channels or tokens.shape[-1]) - tokens.shape[-1]))

    def global_pool(self, tiles: Tensor, coords: Tensor) -> Tensor:
        """The norm of the mean tile token (B, D)."""
        return self.norm(self(tiles, coords)[:, 1:].mean(dim=1))  # (B, N, D) → (B, D)

    def class_token(self, tiles: Tensor, coords: Tensor) -> Tensor:
        """The norm of the class token (B, D)."""
        return self.norm(self(tiles, coords)[:, 0])

    def all_layers(self, tiles: Tensor, coords: Tensor) -> list[Tensor]:
        """Normed tokens (B, N+1, D) of the embedding and after every layer: depth + 1 of them.

        As published, these skip the encoder's own last LayerNorm, so the last is not `forward`.
        """
        return [self.norm(state) for state in self._states(tiles, coords, keep=True)]

    def _states(self, tiles: Tensor, coords: Tensor, keep: bool = False) -> list[Tensor]:
        x = self.patch_embed["proj"](tiles)  # (B, N, D)
        x = x + position_rows(coords, self.config).to(x.dtype)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1)  # (B, N+1, D), CLS has no place
        x = F.dropout(x, self.config.dropout, self.training)
        states = [x]
        recompute = self.recompute and torch.is_grad_enabled()
        for layer in self.encoder.layers:
            x = checkpoint(layer, x, use_reentrant=False) if recompute else layer(x)
            states = [*states, x] if keep else [x]
        return states


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
