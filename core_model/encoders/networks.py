"""The networks of tile encoders, built from their configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from core_model.config import TileEncoderConfig
from core_model.errors import CheckpointError

if TYPE_CHECKING:
    from torch import nn

    from core_model.config import TileEncoderConfig


def build_dinov2(config: TileEncoderConfig) -> Any:
    """The network of `config` with random weights; raises `CheckpointError` for a width it cannot have."""
    from transformers import Dinov2Config, Dinov2Model

    return Dinov2Model(
        Dinov2Config(
            hidden_size=config.embed_dim,
            num_hidden_layers=config.depth,
            num_attention_heads=config.heads,
            mlp_ratio=_mlp_ratio(config),
            image_size=config.image_px,
            patch_size=config.patch_px,
            layer_norm_eps=1e-6,
            layerscale_value=1e-5,
            use_swiglu_ffn=True,
            use_mask_token=False,
        )
    )


def _mlp_ratio(config: TileEncoderConfig) -> int:
    """Dinov2 derives SwiGLU's width from a whole ratio: two thirds of it, rounded up to a multiple of 8."""
    for ratio in range(1, 17):
        if (config.embed_dim * ratio * 2 // 3 + 7) // 8 * 8 == config.ffn_dim:
            return ratio
    raise CheckpointError(f"no Dinov2 of {config.embed_dim} channels has a SwiGLU of {config.ffn_dim}")


def build_tile_encoder(config: TileEncoderConfig) -> nn.Module:
    """The vision transformer with random weights; takes `pixel_values` (B, 3, px, px), `image_px` a side."""
    if config.class_name == "Dinov2Model":
        return build_dinov2(config)
    from transformers import ViTConfig, ViTModel

    return ViTModel(
        ViTConfig(
            hidden_size=config.embed_dim,
            num_hidden_layers=config.depth,
            num_attention_heads=config.heads,
            intermediate_size=config.ffn_dim,
            image_size=config.image_px,
            patch_size=config.patch_px,
            layer_norm_eps=1e-6,
        ),
        add_pooling_layer=False,
    )
