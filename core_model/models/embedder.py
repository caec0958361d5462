"""What a model makes of slides and texts before any question: slide tokens and vectors in a shared space.

Letters: N tiles, n slide tokens, C channels of a slide token, E channels of the shared space, T texts.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from core_model.devices import default_device
from core_model.encoders.slide_encoder import encoder_coords
from core_model.encoders.vit import bind
from core_model.errors import CheckpointError, FeatureStoreError, NoTissue
from core_model.features.tiles import SlideTokens
from core_model.language import conversation

if TYPE_CHECKING:
    from core_model.checkpoints.parts import Parts
    from core_model.config import ModelConfig
    from core_model.encoders.vit import TileEncoder
    from core_model.features.tiles import TileFeatures

TEXTS_AT_ONCE = 64
TILES_AT_ONCE = 1024
WORTH_KEEPING = 256
"""Tiles from which on encoding a slide again takes longer than a moment."""
INSTEAD = {
    "tile_encoder": "give features or slide tokens that are computed already, or import one with the model",
    "slide_encoder": "give slide tokens (.pt) in place of a slide, or import one with the model",
    "alignment": "ask with --mode slide, which searches nothing by text",
    "llava": "use the checkpoint of a later training stage",
}
"""What to do without a part."""


class Embedder:
    """The parts of a loaded model, and what needs no language model of them.

    A model may lack parts: what needs one raises `CheckpointError`.
    """

    def __init__(self, folder: Path, parts: Parts, config: ModelConfig, device: str | None = None) -> None:
        self.folder, self.config = folder, config
        self.name, self.version = config.name, config.model_version
        self.device = device or default_device()
        self.tokenizer = parts.tokenizer
        self._text_tokenizer = parts.text_tokenizer or parts.tokenizer
        self._parts: dict[str, Any] = {
            name: part.eval().requires_grad_(False).to(self.device)
            for name in ("slide_encoder", "alignment", "llava")
            if (part := getattr(parts, name)) is not None
        }
        if (network := parts.tile_encoder) is not None:
            encoder = bind(network, config.name, config.tile_encoder, self.device)
            self._parts["tile_encoder"] = encoder
        self._recent: list[tuple[TileFeatures, Tensor]] = []

    def has(self, part: str) -> bool:
        """True where the model has the part: tile_encoder, slide_encoder, alignment or llava."""
        return part in self._parts

    def need(self, part: str) -> Any:
        """A part (see `has`), or `CheckpointError` that says what works without it."""
        if part not in self._parts:
            name = "language model" if part == "llava" else part.replace("_", " ")
            raise CheckpointError(
                f"the model '{self.name}' has no {name}", where=self.folder, fix=INSTEAD[part]
            )
        return self._parts[part]

    @property
    def tile_encoder(self) -> TileEncoder:
        """The encoder of the tile features that this model reads."""
        encoder: TileEncoder = self.need("tile_encoder")
        return encoder

    # ---- slides ----

    @torch.inference_mode()
    def slide_tokens(self, features: TileFeatures | SlideTokens) -> Tensor:
        """The slide or region as the language model sees it: (n, C) float32."""
        if isinstance(features, SlideTokens):
            return self._stored(features)
        tokens = self._pooled(features)  # (n, D)
        return F.pad(tokens, (0, self.config.feature_dim - tokens.shape[1]))

    def _stored(self, slide: SlideTokens) -> Tensor:
        shape, own_shape = tuple(slide.tokens.shape), (self.config.n_tokens, self.config.feature_dim)
        if shape != own_shape:
            raise FeatureStoreError(
                f"slide tokens of '{slide.name}' have shape {shape}, '{self.name}' reads {own_shape}"
            )
        return slide.tokens.to(self.device)

    @torch.inference_mode()
    def embed_slide(self, features: TileFeatures) -> np.ndarray:
        """One unit vector (E,) for the slide or region, in the space of `embed_text`."""
        return self.need("alignment").head(self._pooled(features)[None])[0].cpu().numpy()  # (E,)

    def _pooled(self, features: TileFeatures) -> Tensor:
        """Slide tokens before padding (n, D). An agent asks many questions of one slide: those are kept."""
        for recent, tokens in self._recent:
            if recent is features:
                return tokens
        tokens = self.need("slide_encoder").slide_tokens(
            *self._inputs(features), self.config.n_tokens, pooling=self.config.pooling
        )[0]
        if len(features) >= WORTH_KEEPING:
            self._recent = [(features, tokens), *self._recent][:2]
        return tokens

    @torch.inference_mode()
    def embed_tiles(self, features: TileFeatures) -> np.ndarray:
        """A unit vector for each tile on its own (N, E), in the space of `embed_text`."""
        tiles, coords = (x.transpose(0, 1) for x in self._inputs(features))  # (N, 1, ·): slides of one tile
        batches = zip(tiles.split(TILES_AT_ONCE), coords.split(TILES_AT_ONCE), strict=True)
        head, encoder = self.need("alignment").head, self.need("slide_encoder")
        rows = [head(encoder.slide_tokens(*batch, 1, pooling=self.config.pooling)) for batch in batches]
        return torch.cat(rows).cpu().numpy()  # (N, E)

    def _inputs(self, features: TileFeatures) -> tuple[Tensor, Tensor]:
        """Tile features (1, N, C) and their places in px at encoder mpp (1, N, 2)."""
        if len(features) == 0:
            raise NoTissue("there is no tile of tissue here to look at")
        channels = self.config.slide_encoder.in_chans
        made_by = self.tile_encoder.name if self.has("tile_encoder") else features.encoder
        if features.features.shape[1] != channels or features.encoder != made_by:
            raise FeatureStoreError(
                f"features of '{features.encoder}' with {features.features.shape[1]} channels do not fit"
                f" '{self.name}', which reads {channels} channels of '{made_by}'",
                fix="compute them with this model's tile encoder",
            )
        places = encoder_coords(features.coords, features.slide_mpp, self.config.slide_encoder.encoder_mpp)
        tiles = torch.from_numpy(np.ascontiguousarray(features.features, dtype=np.float32))
        # (1, N, C), (1, N, 2)
        return tiles[None].to(self.device), torch.from_numpy(places)[None].to(self.device)

    # ---- text ----

    @torch.inference_mode()
    def embed_text(self, texts: list[str]) -> np.ndarray:
        """Unit vectors (T, E); words beyond the text tower's reach are cut off."""
        tower = self.need("alignment").text
        rows = [np.zeros((0, self.config.alignment.shared_dim), dtype=np.float32)]
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            batch = self._text_tokenizer(
                [conversation.without_special_tokens(text) for text in texts[start : start + TEXTS_AT_ONCE]],
                padding=True,
                truncation=True,
                max_length=self.config.alignment.max_positions,
                return_tensors="pt",
            ).to(self.device)
            rows.append(tower(batch["input_ids"], batch["attention_mask"]).cpu().numpy())
        return np.concatenate(rows)  # (T, E)
