"""The model before its first stage: what is pretrained is read, the rest is random by the recipe's seed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core_model.checkpoints.folder import load_checkpoint, new_model
from core_model.checkpoints.parts import LLAVA, fill_llava
from core_model.errors import CheckpointError
from training.context import pretrained_tiles
from training.settings import PretrainedLanguage, PretrainedTiles

if TYPE_CHECKING:
    from core_model.checkpoints.parts import Parts
    from core_model.config import AlignmentConfig, LanguageModelConfig, ModelConfig
    from training.context import TrainingRun

SLIDE_FILE = "slide_encoder.pth"
BEGINNERS = ("slide_encoder", "alignment", "projector", "language_model")
"""Parts that a model trained from scratch begins with."""
NOT_OF_THE_NETWORK = ("_name_or_path", "transformers_version")
"""Entries of a transformers configuration that say where and by what it was read."""


def first_parts(run: TrainingRun) -> tuple[Parts, ModelConfig]:
    """All parts, each pretrained where the recipe says so. Raises what the loaders raise."""
    recipe, config = run.recipe, run.recipe.model
    text = None
    if recipe.text_encoder is not None:
        text = pretrained_text(recipe.text_encoder, config.alignment)
        config = config.model_copy(update={"alignment": text.config})
    if isinstance(recipe.language, PretrainedLanguage):
        parts, config = _around_pretrained(recipe.language, config, recipe.seed)
    else:
        parts, config = _around_own(run.folder("language"), config, recipe.seed)
    if text is not None:
        assert parts.alignment is not None
        tower = parts.alignment.text.bert
        state = tower.state_dict()
        tower.load_state_dict(
            {key: value for key, value in text.network.state_dict().items() if key in state}
        )
        parts.text_tokenizer = text.tokenizer
    if recipe.slide_weights is not None:
        parts.slide_encoder = pretrained_slides(recipe.slide_weights, config)
    if not isinstance(recipe.tile_encoder, PretrainedTiles):
        encoder = run.folder("tiles") / "encoder"
        parts.tile_encoder = load_checkpoint(encoder, only=("tile_encoder",))[0].tile_encoder
    elif recipe.tile_encoder.path is not None:
        parts.tile_encoder, tile_config = pretrained_tiles(recipe.tile_encoder)
        config = config.model_copy(update={"tile_encoder": tile_config})
    return parts, config


def _around_own(folder: Path, config: ModelConfig, seed: int) -> tuple[Parts, ModelConfig]:
    """The language model of the step `language`, and the other parts with random weights."""
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    config = config.for_tokenizer(tokenizer)
    parts = new_model(config, tokenizer, seed=seed, only=BEGINNERS)
    assert parts.llava is not None
    parts.llava.take_language_model(LlamaForCausalLM.from_pretrained(folder, local_files_only=True))
    return parts, config


def _around_pretrained(
    settings: PretrainedLanguage, config: ModelConfig, seed: int
) -> tuple[Parts, ModelConfig]:
    """A published language model in its own type, and the other parts with random float32 weights."""
    import torch

    from core_model.language.wsi_llava import SlideProjector

    language, tokenizer, dimensions = pretrained_language(settings)
    config = config.model_copy(
        update={"language_model": dimensions, "dtype": settings.dtype, "encoder_dtype": "float32"}
    ).for_tokenizer(tokenizer)
    parts = new_model(config, tokenizer, seed=seed, only=("slide_encoder", "alignment"))
    parts.llava = new_model(config, only=LLAVA, empty=True).llava
    assert parts.llava is not None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        projector = SlideProjector(config.feature_dim, config.language_model.embed_dim)
    state = {f"multi_modal_projector.{key}": value for key, value in projector.state_dict().items()}
    is_tied = config.language_model.tie_embeddings
    for key, value in language.state_dict().items():
        if key.startswith("model."):
            state[f"language_model.{key.removeprefix('model.')}"] = value
        elif not is_tied:
            state[key] = value
    fill_llava(parts.llava, state)
    return parts, config


def pretrained_slides(name: str, config: ModelConfig) -> Any:
    """A slide encoder from a file, or from the repository of that name on the hub."""
    from core_model.encoders.hub import fetch
    from core_model.encoders.slide_encoder import load_slide_encoder

    path = Path(name)
    if not path.exists():
        path = fetch(name, SLIDE_FILE, place="download it elsewhere and --set slide_weights=PATH")
    return load_slide_encoder(path, config.slide_encoder)


@dataclass(frozen=True)
class TextEncoder:
    """A pretrained text encoder with its tokenizer, and the configuration that builds it again."""

    network: Any
    tokenizer: Any
    config: AlignmentConfig


def pretrained_text(name: str, config: AlignmentConfig) -> TextEncoder:
    """A text encoder of transformers, from a folder or the hub; what is not text of `config` stays."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = _folder(name)
    try:
        network = AutoModel.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        raise _unusable("text encoder", error, folder) from error
    network_config = network.config.to_diff_dict()
    text_config = {key: value for key, value in network_config.items() if key not in NOT_OF_THE_NETWORK}
    changes = {
        "class_name": type(network).__name__,
        "text_config": text_config | {"model_type": network.config.model_type},
        "vocab_size": network.config.vocab_size,
        "max_positions": min(config.max_positions, network.config.max_position_embeddings),
    }
    return TextEncoder(network, tokenizer, config.model_copy(update=changes))


def pretrained_language(settings: PretrainedLanguage) -> tuple[Any, Any, LanguageModelConfig]:
    """A causal language model of transformers, its tokenizer, which learns `<image>`, and its dimensions."""
    import torch
    from transformers import AutoModelForCausalLM

    from core_model.checkpoints.llava import language_config
    from core_model.language.tokenizer import read_tokenizer

    folder = _folder(settings.path)
    tokenizer = read_tokenizer(folder, settings.template)
    if tokenizer is None:
        raise CheckpointError(
            "the folder of the language model holds no tokenizer",
            where=folder,
            fix="put its tokenizer.json there",
        )
    try:
        dtype = getattr(torch, settings.dtype)
        network = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True)
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        raise _unusable("language model", error, folder) from error
    return network, tokenizer, language_config(network.config, folder)


def _folder(name: str) -> Path:
    """A folder of transformers: as given, or fetched from the hub."""
    from core_model.encoders.hub import fetch_folder

    return Path(name) if Path(name).is_dir() else fetch_folder(name)


def _unusable(kind: str, error: Exception, folder: Path) -> CheckpointError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return CheckpointError(f"the folder holds no {kind} that transformers can load ({reason})", where=folder)
