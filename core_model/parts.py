"""The parts of a model in memory: built from a configuration, each with its own weight file.

    tile_encoder    ViTModel: a tile's pixels → one vector
    slide_encoder   LongNetViT: tile vectors and places → slide tokens
    alignment       text tower, slide head, logit scale: one space for text and slides
    projector       slide tokens → words
    language_model  the rest of the Llava
    familiarity     where the training tiles lie
    words           content words of the training text

Training fills them one after another, so any of them may be absent until the last stage.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

    from core_model.config import ModelConfig, TileEncoderConfig
    from core_model.familiarity import Familiarity
    from core_model.slide_encoder import LongNetViT
    from core_model.text_encoder import Alignment
    from core_model.wsi_llava import WsiLlavaForConditionalGeneration

WEIGHT_FILES = ("tile_encoder", "slide_encoder", "alignment", "projector", "language_model", "familiarity")
"""Parts with a `<part>.safetensors` of their own."""
NEEDS_TOKENIZER = ("alignment", "projector", "language_model")
_TIED = "lm_head.weight"
"""Not stored where it is the embedding matrix."""


@dataclass
class Parts:
    """Whatever of a model exists so far."""

    tile_encoder: nn.Module | None = None
    slide_encoder: LongNetViT | None = None
    alignment: Alignment | None = None
    llava: WsiLlavaForConditionalGeneration | None = None
    """Projector and language model."""
    familiarity: Familiarity | None = None
    tokenizer: Any = None
    """A fast transformers tokenizer that knows `<image>` and adds its own `<s>`."""
    words: tuple[str, ...] | None = None

    def states(self) -> dict[str, dict[str, Tensor]]:
        """Tensors of every present part, by weight file, as they are stored."""
        import torch

        found: dict[str, dict[str, Tensor]] = {}
        for name in ("tile_encoder", "slide_encoder", "alignment"):
            if (module := getattr(self, name)) is not None:
                found[name] = dict(module.state_dict())
        if self.llava is not None:
            found |= split_llava(self.llava)
        if (familiar := self.familiarity) is not None:
            found["familiarity"] = {
                name: torch.from_numpy(getattr(familiar, name)) for name in ("mean", "scale", "centroids")
            }
        return found


def split_llava(llava: WsiLlavaForConditionalGeneration) -> dict[str, dict[str, Tensor]]:
    """The Llava's tensors as projector and language model: `multi_modal_projector.*`, `language_model.*`."""
    tied = llava.config.tie_word_embeddings
    state = {
        name.removeprefix("model."): value
        for name, value in llava.state_dict().items()
        if not (tied and name == _TIED)
    }
    projector = {name: value for name, value in state.items() if name.startswith("multi_modal_projector.")}
    return {
        "projector": projector,
        "language_model": {name: value for name, value in state.items() if name not in projector},
    }


def build_tile_encoder(config: TileEncoderConfig) -> nn.Module:
    """The vision transformer with random weights; takes `pixel_values` (B, 3, px, px)."""
    from transformers import ViTConfig, ViTModel

    return ViTModel(
        ViTConfig(
            hidden_size=config.embed_dim,
            num_hidden_layers=config.depth,
            num_attention_heads=config.heads,
            intermediate_size=config.ffn_dim,
            image_size=config.tile_px,
            patch_size=config.patch_px,
            layer_norm_eps=1e-6,
        ),
        add_pooling_layer=False,
    )


def new_model(
    config: ModelConfig,
    tokenizer: Any = None,
    *,
    seed: int = 0,
    only: tuple[str, ...] | None = None,
) -> Parts:
    """The networks of `config` with random weights, the same for the same seed, in eval mode.

    Parts that read text are built where `config` knows a vocabulary (see `ModelConfig.for_tokenizer`).
    `only` limits what is built; "projector" and "language_model" come together.
    """
    import torch

    wanted = WEIGHT_FILES if only is None else only
    text = config.language_model.vocab_size > 0
    parts = Parts(tokenizer=tokenizer)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if "tile_encoder" in wanted:
            parts.tile_encoder = build_tile_encoder(config.tile_encoder).eval()
        if "slide_encoder" in wanted:
            from core_model.slide_encoder import LongNetViT

            parts.slide_encoder = LongNetViT(config.slide_encoder).eval()
        if "alignment" in wanted and text:
            from core_model.text_encoder import Alignment

            parts.alignment = Alignment(config.alignment, config.slide_encoder.embed_dim).eval()
        if text and ("projector" in wanted or "language_model" in wanted):
            from core_model.wsi_llava import WsiLlavaForConditionalGeneration, llava_config

            parts.llava = WsiLlavaForConditionalGeneration(llava_config(config)).eval()
    return parts
