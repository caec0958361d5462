"""Dual encoders as tile encoders: an image tower and a text tower that meet in one space (CLIP, SigLIP).

A tile's feature is its projected embedding, scaled to length 1, so that tiles are found by phrases: the
inner product of a tile with `embed_text` is their cosine similarity. PLIP and its kin are of this form.

Letters: N tiles, T texts, E channels of the shared space.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from core_model.encoders.vit import ViTTileEncoder
from core_model.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

TEXTS_AT_ONCE = 64
_MASKED = ("input_ids", "attention_mask")


class TwoTowerEncoder(ViTTileEncoder):
    """A transformers dual encoder with its tokenizer."""

    def __init__(self, network: Any, tokenizer: Any, **options: Any) -> None:
        """`options` are those of `ViTTileEncoder`."""
        super().__init__(network, **options)
        self.tokenizer = tokenizer

    def embed_text(self, texts: list[str]) -> np.ndarray:
        """Unit vectors (T, E) float32; words beyond the text tower's reach are cut off."""
        rows = [self._texts(texts[i : i + TEXTS_AT_ONCE]) for i in range(0, len(texts), TEXTS_AT_ONCE)]
        return np.concatenate([np.zeros((0, self.dim), dtype=np.float32), *rows])  # (T, E)

    def _texts(self, texts: list[str]) -> np.ndarray:
        import torch

        # SigLIP was trained on texts padded to full length without a mask; to CLIP the padding is nothing.
        batch = self.tokenizer(
            texts,
            padding="max_length",
            truncation=True,
            max_length=self.network.config.text_config.max_position_embeddings,
            return_tensors="pt",
        ).to(self.device)
        inputs = ("input_ids",) if self.network.config.model_type == "siglip" else _MASKED
        with torch.inference_mode():  # float32: a few texts, once
            return _unit(
                self.network.get_text_features(**{name: batch[name] for name in inputs}).pooler_output
            )

    def _feature(self, pixels: Tensor) -> Tensor:
        features = self.network.get_image_features(pixel_values=pixels).pooler_output  # (N, E)
        return features.float() / features.float().norm(dim=-1, keepdim=True)

    def _dim(self) -> int:
        return _shared_dim(self.network.config)


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a dual encoder's folder; raises `CheckpointError`."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # the tokenizers library raises bare Exception for a bad file
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(f"its tokenizer cannot be read ({reason})", where=folder) from error


def _shared_dim(config: Any) -> int:
    """E: the width of the projections, or of the towers where there is no projection."""
    return int(getattr(config, "projection_dim", None) or config.text_config.projection_size)


def _unit(vectors: Tensor) -> np.ndarray:
    return (vectors / vectors.norm(dim=-1, keepdim=True)).cpu().numpy()
