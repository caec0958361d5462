"""The model before its first stage: what is pretrained is read, the rest is random by the recipe's seed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from core_model.checkpoint import load_checkpoint, new_model
from core_model.errors import CheckpointError, RunError
from training.recipes import PretrainedLanguage, PretrainedTiles

if TYPE_CHECKING:
    from torch import nn

    from core_model.config import AlignmentConfig, ModelConfig, TileEncoderConfig
    from core_model.parts import Parts
    from training.steps import Run

SLIDE_FILE = "slide_encoder.pth"
NOT_OF_THE_NETWORK = ("_name_or_path", "transformers_version")
"""Entries of a transformers configuration that say where and by what it was read."""


def first_parts(run: Run) -> tuple[Parts, ModelConfig]:
    """All parts, each pretrained where the recipe says so. Raises what the loaders raise."""
    recipe, config = run.recipe, run.recipe.model
    language, tokenizer, config = _language(run, config)
    text, text_tokenizer = None, None
    if recipe.text_encoder is not None:
        text, text_tokenizer, alignment = pretrained_text(recipe.text_encoder, config.alignment)
        config = config.model_copy(update={"alignment": alignment})
    wanted = ("slide_encoder", "alignment", "projector", "language_model")
    parts = new_model(config, tokenizer, seed=recipe.seed, only=wanted)
    assert parts.llava is not None
    assert parts.alignment is not None
    parts.llava.take_language_model(language)
    if text is not None:
        parts.text_tokenizer = text_tokenizer
        kept = parts.alignment.text.bert.state_dict()
        parts.alignment.text.bert.load_state_dict(
            {name: value for name, value in text.state_dict().items() if name in kept}
        )
    if recipe.slide_weights is not None:
        parts.slide_encoder = pretrained_slides(recipe.slide_weights, config)
    if not isinstance(recipe.tile_encoder, PretrainedTiles):
        encoder = run.folder("tiles") / "encoder"
        parts.tile_encoder = load_checkpoint(encoder, only=("tile_encoder",))[0].tile_encoder
    elif recipe.tile_encoder.path is not None:
        parts.tile_encoder, tile_config = pretrained_tiles(recipe.tile_encoder)
        config = config.model_copy(update={"tile_encoder": tile_config})
    return parts, config


def pretrained_tiles(settings: PretrainedTiles) -> tuple[nn.Module, TileEncoderConfig]:
    """A tile encoder of a checkpoint folder, or Prov-GigaPath's weights by file, folder or hub."""
    from core_model.checkpoint import MANIFEST
    from core_model.gigapath import find_weights, network_of, read_state

    if settings.path is None:
        raise RunError(
            "the recipe names no tile encoder and the cohort holds no features",
            fix="give the cohort a folder features/, or --set tile_encoder.path=gigapath",
        )
    if (Path(settings.path) / MANIFEST).is_file():
        parts, config = load_checkpoint(settings.path, need=("tile_encoder",), only=("tile_encoder",))
        assert parts.tile_encoder is not None
        return parts.tile_encoder, config.tile_encoder
    found: tuple[nn.Module, TileEncoderConfig] = network_of(
        read_state(find_weights(None if settings.path == "gigapath" else settings.path))
    )
    return found


def pretrained_slides(name: str, config: ModelConfig) -> Any:
    """A slide encoder from a file, or from the repository of that name on the hub."""
    from core_model.hub import fetch
    from core_model.slide_encoder import load_slide_encoder

    path = Path(name)
    if not path.exists():
        path = fetch(name, SLIDE_FILE, place="download it elsewhere and --set slide_weights=PATH")
    return load_slide_encoder(path, config.slide_encoder)


def pretrained_text(name: str, config: AlignmentConfig) -> tuple[Any, Any, AlignmentConfig]:
    """A text encoder of transformers, its tokenizer, and the configuration that builds it again."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = _folder(name)
    try:
        network = AutoModel.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        raise _unusable("text encoder", error, folder) from error
    described = network.config.to_diff_dict()
    text_config = {key: value for key, value in described.items() if key not in NOT_OF_THE_NETWORK}
    known = {
        "class_name": type(network).__name__,
        "text_config": text_config | {"model_type": network.config.model_type},
        "vocab_size": network.config.vocab_size,
        "max_positions": min(config.max_positions, network.config.max_position_embeddings),
    }
    return network, tokenizer, config.model_copy(update=known)


def _language(run: Run, config: ModelConfig) -> tuple[Any, Any, ModelConfig]:
    """The language model, its tokenizer, and the configuration that knows both."""
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

    settings = run.recipe.language
    if isinstance(settings, PretrainedLanguage):
        return pretrained_language(settings, config)
    folder = run.folder("language")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    model = LlamaForCausalLM.from_pretrained(folder, local_files_only=True)
    return model, tokenizer, config.for_tokenizer(tokenizer)


def pretrained_language(settings: PretrainedLanguage, config: ModelConfig) -> tuple[Any, Any, ModelConfig]:
    """A causal language model of transformers; its tokenizer learns `<image>`."""
    raise NotImplementedError


def _folder(name: str) -> Path:
    """A folder of transformers: as given, or fetched from the hub."""
    from core_model.hub import fetch_folder

    return Path(name) if Path(name).is_dir() else fetch_folder(name)


def _unusable(what: str, error: Exception, folder: Path) -> CheckpointError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return CheckpointError(f"is no {what} of transformers ({reason})", where=folder)
