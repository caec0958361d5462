"""The parts of a model in memory: built from a configuration, each with its own weight file.

    tile_encoder    ViTModel or Dinov2Model: a tile's pixels → one vector
    slide_encoder   LongNetViT: tile vectors and places → slide tokens
    alignment       text tower, slide head, logit scale: one space for text and slides
    projector       slide tokens → words
    language_model  the rest of the Llava
    familiarity     where the training tiles lie
    words           content words of the training text

Training fills them one after another, so any of them may be absent until the last stage.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from core_model.encoders.vit import build_tile_encoder

if TYPE_CHECKING:
    from torch import Tensor, nn

    from core_model.config import ModelConfig
    from core_model.encoders.slide_encoder import Alignment, LongNetViT
    from core_model.features.tiles import Familiarity
    from core_model.language.wsi_llava import WsiLlavaForConditionalGeneration

WEIGHT_FILES = ("tile_encoder", "slide_encoder", "alignment", "projector", "language_model", "familiarity")
"""Parts with a `<part>.safetensors` of their own."""
NEEDS_TOKENIZER = ("alignment", "projector", "language_model")
LLAVA = ("projector", "language_model")
"""Parts that are one network in memory."""
_TIED = "lm_head.weight"
"""Not stored where it is the embedding matrix."""


@dataclass
class Parts:
    """The networks, tokenizers and word list of a model, as far as they exist."""

    tile_encoder: nn.Module | None = None
    slide_encoder: LongNetViT | None = None
    alignment: Alignment | None = None
    llava: WsiLlavaForConditionalGeneration | None = None
    """Projector and language model."""
    familiarity: Familiarity | None = None
    tokenizer: Any = None
    """A fast transformers tokenizer that knows `<image>` and adds its own `<s>`, if it has one."""
    text_tokenizer: Any = None
    """The text tower's own, where that is a pretrained text encoder."""
    words: tuple[str, ...] | None = None

    def states(self) -> dict[str, dict[str, Tensor]]:
        """Tensors of every present part, by weight file, as they are stored."""
        import torch

        states: dict[str, dict[str, Tensor]] = {}
        for name in ("tile_encoder", "slide_encoder", "alignment"):
            if (module := getattr(self, name)) is not None:
                states[name] = dict(module.state_dict())
        if self.llava is not None:
            states |= split_llava(self.llava)
        if (familiar := self.familiarity) is not None:
            states["familiarity"] = {
                name: torch.from_numpy(getattr(familiar, name)) for name in ("mean", "scale", "centroids")
            }
        return states


def split_llava(llava: WsiLlavaForConditionalGeneration) -> dict[str, dict[str, Tensor]]:
    """The Llava's tensors as projector and language model: `multi_modal_projector.*`, `language_model.*`."""
    ties_words = llava.config.tie_word_embeddings
    state = {
        name.removeprefix("model."): value
        for name, value in llava.state_dict().items()
        if not (ties_words and name == _TIED)
    }
    projector = {name: value for name, value in state.items() if name.startswith("multi_modal_projector.")}
    return {
        "projector": projector,
        "language_model": {name: value for name, value in state.items() if name not in projector},
    }


def fill_llava(llava: WsiLlavaForConditionalGeneration, state: dict[str, Tensor]) -> None:
    """Make tensors the Llava's own, by the names of `split_llava`; shapes and names are those it has."""
    names = {key if key == _TIED else f"model.{key}": value for key, value in state.items()}
    llava.load_state_dict(names, strict=False, assign=True)
    llava.tie_weights()


@contextlib.contextmanager
def _without_weights() -> Iterator[None]:
    """Modules that this thread makes inside have parameters of no memory and no values, on "meta".

    Buffers are computed as always: those that are not stored, such as rotary frequencies, must be right.
    """
    from torch import nn

    register, maker = nn.Module.register_parameter, threading.get_ident()

    def register_bare(module: nn.Module, name: str, value: nn.Parameter | None) -> None:
        if value is not None and threading.get_ident() == maker:
            value = nn.Parameter(value.detach().to("meta"), requires_grad=value.requires_grad)
        register(module, name, value)

    nn.Module.register_parameter = register_bare  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]


def new_model(
    config: ModelConfig,
    tokenizer: Any = None,
    *,
    seed: int = 0,
    only: tuple[str, ...] | None = None,
    empty: bool = False,
) -> Parts:
    """The networks of `config` with random weights, the same for the same seed, in eval mode.

    Parts that read text are built where `config` knows a vocabulary (see `ModelConfig.for_tokenizer`).
    `only` limits what is built; "projector" and "language_model" come together. `empty` parts have no
    weights yet, as whoever fills them needs none.
    """
    import torch

    with torch.random.fork_rng(devices=[]), _without_weights() if empty else contextlib.nullcontext():
        torch.manual_seed(seed)
        return _built(config, Parts(tokenizer=tokenizer), WEIGHT_FILES if only is None else only)


def _built(config: ModelConfig, parts: Parts, names: tuple[str, ...]) -> Parts:
    text = config.language_model.vocab_size > 0
    if "tile_encoder" in names:
        parts.tile_encoder = build_tile_encoder(config.tile_encoder).eval()
    if "slide_encoder" in names:
        from core_model.encoders.slide_encoder import LongNetViT

        parts.slide_encoder = LongNetViT(config.slide_encoder).eval()
    if "alignment" in names and config.alignment.vocab_size > 0:
        from core_model.encoders.slide_encoder import Alignment

        parts.alignment = Alignment(config.alignment, config.slide_encoder.embed_dim).eval()
    if text and set(LLAVA) & set(names):
        from core_model.language.wsi_llava import WsiLlavaForConditionalGeneration, llava_config

        parts.llava = WsiLlavaForConditionalGeneration(llava_config(config)).eval()
    return parts
