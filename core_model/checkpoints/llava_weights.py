"""Weights as LLaVA and transformers leave them in a folder: whole, in shards, or as a LoRA adapter on a base.

Letters: r rank of an adapter, O outputs and I inputs of a linear layer.
"""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core_model.errors import CheckpointError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

log = logging.getLogger(__name__)

FILES = ("model.safetensors", "pytorch_model.bin")
"""The weights of a model; `<file>.index.json` where they are in shards."""
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_FILES = ("adapter_model.safetensors", "adapter_model.bin")
OTHERS_FILE = "non_lora_trainables.bin"
"""What was trained beside an adapter."""
PEFT_PREFIX = "base_model.model."
VISION = "model.vision_tower."
FREQUENCIES = ".rotary_emb.inv_freq"
"""End of the names of constants that older files of transformers hold."""

_OBEYED = {"r", "lora_alpha", "use_rslora", "target_modules"}
_HARMLESS = {
    *("base_model_name_or_path", "revision", "task_type", "inference_mode", "peft_version", "auto_mapping"),
    *("lora_dropout", "megatron_core", "qalora_group_size"),
}
"""They name or describe, or act in training only; the last two belong to options that are refused if on."""
_INITIALISATIONS = (None, True, False, "gaussian", "orthogonal")
"""Values of `init_lora_weights` that leave the base as it is."""


def read_weights(folder: Path) -> dict[str, Tensor]:
    """All tensors of a model's folder. Raises `CheckpointError` that names a missing file or key."""
    from core_model.weights import read_state

    for name in FILES:
        if (folder / name).is_file():
            return read_state(folder / name)
        if (folder / f"{name}.index.json").is_file():
            return _read_shards(folder, f"{name}.index.json")
    raise CheckpointError(
        "the folder holds no weights of a model",
        where=folder,
        fix=f"{' or '.join(FILES)} belongs there, or its shards",
    )


def _read_shards(folder: Path, index: str) -> dict[str, Tensor]:
    from core_model.weights import read_state

    places = read_json(folder / index).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise CheckpointError("the file is no index of shards", where=folder / index)
    state: dict[str, Tensor] = {}
    for name in sorted(set(places.values())):
        if name != Path(name).name or not (folder / name).is_file():
            raise CheckpointError(f"{index} names {name}, which is missing", where=folder)
        shard = read_state(folder / name)
        same_names(name, {key for key, place in places.items() if place == name}, shard, folder)
        state |= shard
    return state


def holds_weights(folder: Path) -> bool:
    """True where a folder has the weights of a whole model."""
    return any((folder / f"{name}{end}").is_file() for name in FILES for end in ("", ".index.json"))


def write_weights(folder: Path, state: dict[str, Tensor], shard_bytes: int) -> None:
    """Write tensors to one file, or with an index to shards of at most `shard_bytes` (or of one tensor)."""
    from huggingface_hub import save_torch_state_dict

    save_torch_state_dict(state, folder, max_shard_size=shard_bytes)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises `CheckpointError`."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"the file cannot be read ({error})", where=path) from error
    if not isinstance(content, dict):
        raise CheckpointError("the file holds no JSON object", where=path)
    return content


def same_names(source: str, own_names: Iterable[str], file_names: Iterable[str], folder: Path) -> None:
    """Raise `CheckpointError` where the two are not the same names."""
    own, from_file = set(own_names), set(file_names)
    for problem, keys in (("lacks", own - from_file), ("has unexpected", from_file - own)):
        if keys:
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            raise CheckpointError(f"{source} {problem} {', '.join(sorted(keys)[:3])}{more}", where=folder)


def without_vision(state: dict[str, Tensor], folder: Path) -> dict[str, Tensor]:
    """The tensors but those of a vision tower: slides come as tokens, so it has no part here."""
    vision_keys = [key for key in state if key.startswith(VISION)]
    if vision_keys:
        log.warning(
            "%s: %d tensors of a vision tower are left out (%s …)", folder, len(vision_keys), vision_keys[0]
        )
    return {key: value for key, value in state.items() if not key.startswith(VISION)}


def stored_type(state: dict[str, Tensor], folder: Path) -> torch.dtype:
    """The narrowest type that holds every tensor exactly."""
    import torch

    weights = {key: value for key, value in state.items() if not key.endswith(FREQUENCIES)}
    types = {value.dtype for value in weights.values()}
    if integer_keys := [key for key, value in weights.items() if not value.is_floating_point()]:
        raise CheckpointError(f"{integer_keys[0]} does not hold floating-point numbers", where=folder)
    widest = torch.bfloat16 if types == {torch.bfloat16} else torch.float16
    for dtype in types:
        widest = torch.promote_types(widest, dtype)
    if widest not in (torch.float32, torch.float16, torch.bfloat16):
        raise CheckpointError(f"weights of type {widest} are not supported", where=folder)
    return widest


def converted(key: str, value: Tensor, dtype: torch.dtype, folder: Path) -> Tensor:
    """A tensor in another type. Raises `CheckpointError` where a number would become infinite."""
    result = value.to(dtype)
    if result.dtype != value.dtype and not bool(result.isfinite().all()):
        raise CheckpointError(f"{key} holds numbers that {dtype} does not", where=folder)
    return result


def add_adapter(state: dict[str, Tensor], folder: Path) -> None:
    """Merge the LoRA adapter of `folder` into a base's weights, and take what was trained beside it.

    W + s·B A with s = alpha / r, or alpha / √r for rank-stabilised adapters (Hu et al. 2021; Kalajdzievski
    2023), is computed in float32 and stored in W's type. Raises `CheckpointError` for an option of peft that
    is not obeyed here, and for a key that is missing, unexpected or misshapen.
    """
    from core_model.weights import read_state

    options = read_json(folder / ADAPTER_CONFIG)
    scale, rank = adapter_scale(options, folder)
    file = next((folder / name for name in ADAPTER_FILES if (folder / name).is_file()), None)
    if file is None:
        raise CheckpointError(f"the folder holds no {' or '.join(ADAPTER_FILES)}", where=folder)
    pairs = {key.removeprefix(PEFT_PREFIX): value for key, value in read_state(file).items()}
    pairs = without_vision(pairs, folder)
    layers = sorted(layer for layer in _layers(state) if _targeted(layer, options["target_modules"]))
    same_names(file.name, [f"{layer}.lora_{x}.weight" for layer in layers for x in "AB"], pairs, folder)
    for layer in layers:
        weight = state[f"{layer}.weight"]  # (O, I)
        a, b = (pairs[f"{layer}.lora_{x}.weight"] for x in "AB")  # (r, I), (O, r)
        if a.shape != (rank, weight.shape[1]) or b.shape != (weight.shape[0], rank):
            shapes = f"{tuple(a.shape)} and {tuple(b.shape)}"
            raise CheckpointError(
                f"the adapter of {layer} has shapes {shapes} for a weight {tuple(weight.shape)}", where=folder
            )
        new_weight = weight.float() + scale * (b.float() @ a.float())  # (O, I)
        state[f"{layer}.weight"] = converted(f"{layer}.weight", new_weight, weight.dtype, folder)
    if (folder / OTHERS_FILE).is_file():
        replace_weights(state, folder / OTHERS_FILE)


def adapter_scale(options: dict[str, Any], folder: Path) -> tuple[float, int]:
    """By how much B A counts, and r. Every option of peft that is on and not obeyed here is refused."""
    off: tuple[Any, ...] = (None, False, [], {}, "", "none")
    refusals = [
        f"{name}={value!r}"
        for name, value in options.items()
        if name not in _OBEYED | _HARMLESS | {"peft_type", "init_lora_weights"} and value not in off
    ]
    if options.get("peft_type") != "LORA":
        refusals.append(f"peft_type={options.get('peft_type')!r}")
    if options.get("init_lora_weights") not in _INITIALISATIONS:
        refusals.append(f"init_lora_weights={options['init_lora_weights']!r}")
    if refusals:
        raise CheckpointError(
            f"{ADAPTER_CONFIG} asks for {', '.join(refusals)}, which is not supported",
            where=folder,
            fix="merge the adapter with peft and import what that gives",
        )
    rank, alpha = options.get("r"), options.get("lora_alpha")
    if not isinstance(rank, int) or rank < 1 or not isinstance(alpha, int | float):
        raise CheckpointError(f"{ADAPTER_CONFIG} has r={rank!r} and lora_alpha={alpha!r}", where=folder)
    if not isinstance(options.get("target_modules"), list | str) or not options["target_modules"]:
        raise CheckpointError(f"{ADAPTER_CONFIG} names no target_modules", where=folder)
    return alpha / (math.sqrt(rank) if options.get("use_rslora") else rank), rank


def replace_weights(state: dict[str, Tensor], file: Path) -> None:
    """Put the tensors of `file` in the place of a base's, or beside them where they are the projector's.

    They are stored in the base's type. Raises `CheckpointError` that names what is neither.
    """
    from core_model.weights import read_state

    dtype = stored_type(state, file.parent)
    tensors = {key.removeprefix(PEFT_PREFIX): value for key, value in read_state(file).items()}
    tensors = without_vision(tensors, file.parent)
    for key, value in tensors.items():
        if key not in state and not key.startswith("model.mm_projector."):
            raise CheckpointError(f"{file.name} has unexpected {key}", where=file.parent)
        state[key] = converted(key, value, dtype, file.parent)


def _layers(state: dict[str, Tensor]) -> Iterable[str]:
    """Names of the modules with a matrix, but those that no adapter of linear layers lies on."""
    for key, value in state.items():
        if key.endswith(".weight") and value.ndim == 2 and not key.endswith("embed_tokens.weight"):
            yield key.removesuffix(".weight")


def _targeted(layer: str, targets: list[str] | str) -> bool:
    """peft's rule: a pattern for the whole name, or a list of names and of their ends."""
    if isinstance(targets, str):
        return re.fullmatch(targets, layer) is not None
    return any(layer == target or layer.endswith(f".{target}") for target in targets)
