"""LLaVA's checkpoint format, in which WSI-LLaVA is released: read strictly, written as LLaVA reads it.

    merged      config.json, weights of language model and projector (safetensors or .bin, whole or in shards)
    LoRA        config.json, adapter_config.json, adapter_model.*, non_lora_trainables.*, and a base folder
    projector   config.json, mm_projector.* (what LLaVA's pretraining leaves), and a base folder

LLaVA's names: `model.mm_projector.0` and `.2` are the projector's layers, `model.*` is the language model,
`lm_head` its output. config.json says nothing of the number of slide tokens and of the template: WSI-LLaVA
has 576 and what its language model was trained with. What we write keeps our configuration under "giant".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from core_model.checkpoints import llava_weights as weights
from core_model.checkpoints.llava_adapter import ADAPTER_CONFIG, OTHERS_FILES, add_adapter
from core_model.checkpoints.llava_fields import GIANT, feature_dim_of, fields_of, language_of
from core_model.checkpoints.parts import LLAVA, fill_llava, new_model, split_llava
from core_model.config import (
    GenerationConfig,
    LanguageModelConfig,
    ModelConfig,
    SlideEncoderConfig,
    TileEncoderConfig,
)
from core_model.errors import CheckpointError
from core_model.files import replacing_folder, writing
from core_model.language.conversation import QWEN_SYSTEM, VICUNA_SYSTEM
from core_model.language.tokenizer import read_tokenizer

if TYPE_CHECKING:
    from torch import Tensor

    from core_model.language.wsi_llava import WsiLlavaForConditionalGeneration

PROJECTOR_FILES = ("mm_projector.safetensors", "mm_projector.bin")
N_TOKENS = 576
"""Tokens of a slide in the released features."""
SHARD_BYTES = 5 * 10**9
"""Weights beyond this size are written in shards."""
_PROJECTOR = {
    "model.mm_projector.0.": "multi_modal_projector.linear_1.",
    "model.mm_projector.2.": "multi_modal_projector.linear_2.",
}


def import_llava(
    folder: str | Path, base: str | Path | None = None
) -> tuple[WsiLlavaForConditionalGeneration, ModelConfig, Any | None]:
    """A released checkpoint as our model, its configuration, and its tokenizer where the folder holds one.

    `base` is the folder of the model that an adapter or a projector belongs to; without it, the one that
    the folder names. Weights keep their stored type (mixed ones are widened; an adapter is merged in
    float32 and stored in its base's type). Raises `CheckpointError` that names a key which is missing,
    unexpected or misshapen, and any setting that is not supported.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError("there is no such folder", where=folder)
    fields = weights.read_json(folder / "config.json")
    place = _base(folder, fields, Path(base) if base is not None else None)
    state = _whole(folder, place)
    config = _config(fields, folder)
    state = _without_frequencies(state, config, folder)
    dtype = weights.stored_type(state, folder)
    config = config.model_copy(update={"dtype": str(dtype).removeprefix("torch.")})
    tokenizer = read_tokenizer(folder, config.template)
    if tokenizer is None and place is not None:
        tokenizer = read_tokenizer(place, config.template)
    if tokenizer is not None:
        config = _for_tokenizer(config, tokenizer, folder)
    llava = new_model(config, only=LLAVA, empty=True).llava
    assert llava is not None
    _fill(llava, {key: value.to(dtype) for key, value in state.items()}, folder)
    return llava, config, tokenizer


def with_tokenizer(config: ModelConfig, folder: str | Path) -> tuple[ModelConfig, Any]:
    """The tokenizer in another folder, and the imported configuration that knows it."""
    tokenizer = read_tokenizer(folder, config.template)
    if tokenizer is None:
        raise CheckpointError(
            "the folder holds no tokenizer", where=folder, fix="give a folder with tokenizer.json"
        )
    return _for_tokenizer(config, tokenizer, folder), tokenizer


def export_llava(
    llava: WsiLlavaForConditionalGeneration,
    config: ModelConfig,
    folder: str | Path,
    tokenizer: Any = None,
    *,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write config.json, safetensors in the configuration's type, and the tokenizer, as LLaVA reads them.

    The folder appears whole; one that is there must be empty. `import_llava` gives back the same tensors and
    the same configuration. Raises `CheckpointError`.
    """
    import torch

    folder = Path(folder)
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise CheckpointError(
            "a file or a folder that is not empty is in the way", where=folder, fix="choose another folder"
        )
    dtype = getattr(torch, config.dtype)
    ours = {key: value for part in split_llava(llava).values() for key, value in part.items()}
    state = {their_name(key): value.detach().to("cpu", dtype).contiguous() for key, value in ours.items()}
    with writing("the checkpoint", folder, CheckpointError), replacing_folder(folder) as part:
        weights.write_weights(part, state, shard_bytes)
        if tokenizer is not None:
            tokenizer.save_pretrained(part)
        text = json.dumps(fields_of(config), indent=2) + "\n"
        (part / "config.json").write_text(text, encoding="utf-8")


def language_config(config: Any, folder: str | Path) -> LanguageModelConfig:
    """The dimensions of a language model of transformers, by its configuration there.

    Raises `CheckpointError` naming what our network does not have.
    """
    return language_of(config.to_dict(), Path(folder))


def their_name(key: str) -> str:
    """Our name of a tensor (see `split_llava`) as LLaVA's."""
    for llava_prefix, ours in _PROJECTOR.items():
        if key.startswith(ours):
            return key.replace(ours, llava_prefix, 1)
    return key.replace("language_model.", "model.", 1) if key.startswith("language_model.") else key


def _base(folder: Path, fields: Mapping[str, Any], base_argument: Path | None) -> Path | None:
    """The folder of the model that `folder` builds on; None where it is a whole model."""
    adapter = folder / ADAPTER_CONFIG
    if adapter.is_file():
        base_name = weights.read_json(adapter).get("base_model_name_or_path") or fields.get("_name_or_path")
    elif _projector_file(folder) and not weights.holds_weights(folder):
        base_name = fields.get("_name_or_path")
    elif base_argument is not None:
        raise CheckpointError(
            "the checkpoint is a whole model and needs no base", where=folder, fix="leave the base out"
        )
    else:
        return None
    base = base_argument or (Path(base_name) if base_name else None)
    if base is None or not base.is_dir():
        missing = f"'{base}', which is no folder here" if base else "a base model that it does not name"
        raise CheckpointError(
            f"the checkpoint needs {missing}",
            where=folder,
            fix="download the base model and give its folder (--base)",
        )
    return base


def _whole(folder: Path, base: Path | None) -> dict[str, Tensor]:
    """Weights of language model and projector under LLaVA's names."""
    state = weights.without_vision(weights.read_weights(base or folder), base or folder)
    if (folder / ADAPTER_CONFIG).is_file():
        add_adapter(state, folder)
    projector = _projector_file(folder)
    if base is not None and projector and not any((folder / name).is_file() for name in OTHERS_FILES):
        weights.replace_weights(state, projector)
    return state


def _projector_file(folder: Path) -> Path | None:
    return next((folder / name for name in PROJECTOR_FILES if (folder / name).is_file()), None)


def _config(fields: Mapping[str, Any], folder: Path) -> ModelConfig:
    """The configuration that a config.json describes; what it leaves out is WSI-LLaVA's, or what we wrote."""
    language = language_of(fields, folder)
    feature_dim = feature_dim_of(fields, folder)
    qwen = language.class_name == "Qwen2ForCausalLM"
    try:
        if GIANT in fields:
            ours = ModelConfig.model_validate(fields[GIANT])
            ids = ours.language_model.model_dump(include={"bos_id", "eos_id", "pad_id", "image_id"})
            return ours.model_copy(update={"language_model": language.model_copy(update=ids)})
        return ModelConfig(
            name=folder.resolve().name,
            encoder_dtype="float32",
            template="chatml" if qwen else "vicuna_v1",
            system=QWEN_SYSTEM if qwen else VICUNA_SYSTEM,
            n_tokens=N_TOKENS,
            feature_dim=feature_dim,
            generation=GenerationConfig.wsi_llava(),
            tile_encoder=TileEncoderConfig.gigapath(),
            slide_encoder=SlideEncoderConfig.gigapath(),
            language_model=language,
            training={"llava": dict(fields)},
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]["msg"]
        raise CheckpointError(f"config.json describes no model of ours ({first})", where=folder) from error


def _for_tokenizer(config: ModelConfig, tokenizer: Any, where: object) -> ModelConfig:
    with_ids = config.for_tokenizer(tokenizer)
    rows, tokens = config.language_model.vocab_size, with_ids.language_model.vocab_size
    if rows != tokens:
        raise CheckpointError(
            f"its tokenizer has {tokens} tokens, the embedding {rows} rows",
            where=where,
            fix="give the tokenizer that the model was trained with",
        )
    return with_ids


def _without_frequencies(state: dict[str, Tensor], config: ModelConfig, folder: Path) -> dict[str, Tensor]:
    """The tensors but the rotary frequencies, which must be those that the configuration gives."""
    import torch

    language = config.language_model
    half = language.embed_dim // language.heads // 2
    frequencies = language.rope_theta ** -(torch.arange(half) / half)
    for key, value in state.items():
        if key.endswith(weights.FREQUENCIES) and not (
            value.shape == frequencies.shape and torch.allclose(value.float(), frequencies, rtol=0.01)
        ):
            raise CheckpointError(f"{key} is not what rope_theta {language.rope_theta:g} gives", where=folder)
    return {key: value for key, value in state.items() if not key.endswith(weights.FREQUENCIES)}


def _fill(llava: WsiLlavaForConditionalGeneration, state: dict[str, Tensor], folder: Path) -> None:
    """Make tensors under LLaVA's names the model's own."""
    import torch

    ours = {key: value for part in split_llava(llava).values() for key, value in part.items()}
    words, output = "model.embed_tokens.weight", "lm_head.weight"
    if output not in ours and output in state and words in state:  # tied, and stored all the same
        if not torch.equal(state[output], state[words]):
            raise CheckpointError(f"{output} is not {words}, to which config.json ties it", where=folder)
        state = {key: value for key, value in state.items() if key != output}
    names = {their_name(key): key for key in ours}
    weights.same_names("the model", names, state, folder)
    for llava_name, key in names.items():
        shape, own_shape = tuple(state[llava_name].shape), tuple(ours[key].shape)
        if shape != own_shape:
            raise CheckpointError(f"{llava_name} has shape {shape}, expected {own_shape}", where=folder)
    fill_llava(llava, {key: state[llava_name] for llava_name, key in names.items()})
