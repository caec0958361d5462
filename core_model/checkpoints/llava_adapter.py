"""LoRA adapters of peft, merged into the weights of their base as peft merges them.

    LoRA    W + s·B A, s = alpha / r (Hu et al. 2021), or alpha / √r if rank-stabilised (Kalajdzievski 2023)
    DoRA    m / ‖W + s·B A‖ · (W + s·B A), the norm of each output's row (Liu et al. 2024)

Ranks and alphas may differ by layer. What peft trained whole (`modules_to_save`) takes the base's place. Any
other option of peft that is on is refused by name.

Letters: r rank of an adapter, O outputs and I inputs of a linear layer, V rows and D channels of embeddings.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from core_model.checkpoints import llava_weights as weights
from core_model.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_FILES = ("adapter_model.safetensors", "adapter_model.bin")
OTHERS_FILES = ("non_lora_trainables.safetensors", "non_lora_trainables.bin")
"""What was trained beside an adapter."""
_OBEYED = {
    *("r", "lora_alpha", "use_rslora", "target_modules", "rank_pattern", "alpha_pattern", "use_dora"),
    "modules_to_save",
}
_HARMLESS = {
    *("base_model_name_or_path", "revision", "task_type", "inference_mode", "peft_version", "auto_mapping"),
    *("lora_dropout", "megatron_core", "qalora_group_size", "ensure_weight_tying"),
}
"""They name or describe, or act in training only; two belong to options that are refused if on."""
_INITIALISATIONS = (None, True, False, "gaussian", "orthogonal")
"""Values of `init_lora_weights` that leave the base as it is."""
_EMBEDDINGS = ("embed_tokens",)
_OUTPUT = "lm_head"
_ALL_LINEAR = "all-linear"


class AdapterSettings(NamedTuple):
    """What adapter_config.json says of the adapter's layers."""

    rank: int
    alpha: float
    rank_pattern: Mapping[str, int]
    alpha_pattern: Mapping[str, float]
    rank_stabilised: bool
    weight_decomposed: bool
    """DoRA."""
    targets: list[str] | str
    whole: tuple[str, ...]
    """Modules that were trained whole."""

    def rank_of(self, layer: str) -> int:
        """r of a layer."""
        return _by_pattern(self.rank_pattern, layer, self.rank)

    def scale_of(self, layer: str) -> float:
        """By how much B A counts in a layer."""
        rank = self.rank_of(layer)
        return _by_pattern(self.alpha_pattern, layer, self.alpha) / (
            math.sqrt(rank) if self.rank_stabilised else rank
        )


def add_adapter(state: dict[str, Tensor], folder: Path) -> None:
    """Merge the LoRA adapter of `folder` into a base's weights, and take what was trained beside it.

    It is computed in float32 and stored in the type of the weight. Raises `CheckpointError` for an option of
    peft that is not obeyed here, and for a key that is missing, unexpected or misshapen.
    """
    settings = adapter_settings(weights.read_json(folder / ADAPTER_CONFIG), folder)
    file = _first(folder, ADAPTER_FILES)
    if file is None:
        raise CheckpointError(f"the folder holds no {' or '.join(ADAPTER_FILES)}", where=folder)
    tensors = weights.without_vision(weights.read_plain(file), folder)
    parts = {key: value for key, value in tensors.items() if ".lora_" in key}
    layers = [layer for layer in sorted(_layers(state, settings)) if _targeted(layer, settings)]
    names = [name for layer in layers for name in _part_names(layer, settings)]
    weights.same_names(file.name, names, parts, folder)
    _take_whole(state, {key: value for key, value in tensors.items() if key not in parts}, settings, file)
    for layer in layers:
        key = f"{layer}.weight"
        merged = _merged(layer, state[key], parts, settings, folder)
        state[key] = weights.converted(key, merged, state[key].dtype, folder)
    if (others := _first(folder, OTHERS_FILES)) is not None:
        weights.replace_weights(state, others)


def adapter_settings(options: dict[str, Any], folder: Path) -> AdapterSettings:
    """The settings in adapter_config.json. Raises `CheckpointError` naming each option not obeyed here."""
    _refuse_others(options, folder)
    rank, alpha = options.get("r"), options.get("lora_alpha")
    ranks, alphas = (options.get(f"{name}_pattern") or {} for name in ("rank", "alpha"))
    if not _all_positive(int, [rank, *ranks.values()]) or not _all_positive(int | float, [*alphas.values()]):
        raise CheckpointError(
            f"{ADAPTER_CONFIG} has ranks {rank!r}, {ranks} and alphas {alphas}", where=folder
        )
    if not isinstance(alpha, int | float):
        raise CheckpointError(f"{ADAPTER_CONFIG} has r={rank!r} and lora_alpha={alpha!r}", where=folder)
    targets = options.get("target_modules")
    for pattern in (*ranks, *alphas, *([targets] if isinstance(targets, str) else [])):
        _check_pattern(pattern, folder)
    if not isinstance(targets, list | str) or not targets:
        raise CheckpointError(f"{ADAPTER_CONFIG} names no target_modules", where=folder)
    return AdapterSettings(
        rank=int(rank or 0),
        alpha=alpha,
        rank_pattern=ranks,
        alpha_pattern=alphas,
        rank_stabilised=bool(options.get("use_rslora")),
        weight_decomposed=bool(options.get("use_dora")),
        targets=targets,
        whole=tuple(options.get("modules_to_save") or ()),
    )


def _refuse_others(options: dict[str, Any], folder: Path) -> None:
    refusals = [
        f"{name}={value!r}"
        for name, value in options.items()
        if name not in _OBEYED | _HARMLESS | {"peft_type", "init_lora_weights"} and not _is_off(value)
    ]
    if options.get("peft_type") != "LORA":
        refusals.append(f"peft_type={options.get('peft_type')!r}")
    if options.get("init_lora_weights") not in _INITIALISATIONS:
        refusals.append(f"init_lora_weights={options['init_lora_weights']!r}")
    if refusals:
        raise CheckpointError(
            f"{ADAPTER_CONFIG} asks for {', '.join(refusals)}, which is not supported",
            where=folder,
            fix="merge the adapter with peft (merge_and_unload) and import what that gives",
        )


def _check_pattern(pattern: str, folder: Path) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise CheckpointError(
            f"{ADAPTER_CONFIG} has {pattern!r}, which is no pattern", where=folder
        ) from error


def _is_off(value: Any) -> bool:
    """Whether an option of peft does nothing; a group of options is off where each of them is."""
    if isinstance(value, dict):
        return all(_is_off(item) for item in value.values())
    return value in (None, False, [], "", "none")


def _all_positive(kind: Any, values: Iterable[Any]) -> bool:
    return all(isinstance(value, kind) and value > 0 for value in values)


def _first(folder: Path, names: Iterable[str]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _by_pattern(patterns: Mapping[str, Any], layer: str, default: Any) -> Any:
    """peft's rule: the first pattern that the end of the layer's name matches."""
    found = (value for key, value in patterns.items() if re.match(rf"(.*\.)?({key})$", layer))
    return next(found, default)


def _layers(state: dict[str, Tensor], settings: AdapterSettings) -> Iterable[str]:
    """Names of the modules with a matrix that an adapter may lie on."""
    for key, value in state.items():
        layer = key.removesuffix(".weight")
        if layer != key and value.ndim == 2 and not _ends(layer, settings.whole):
            yield layer


def _targeted(layer: str, settings: AdapterSettings) -> bool:
    """peft's rule: a pattern for the whole name, or a list of names and of their ends."""
    if settings.targets == _ALL_LINEAR:
        return not _ends(layer, (*_EMBEDDINGS, _OUTPUT))
    if isinstance(settings.targets, str):
        return re.fullmatch(settings.targets, layer) is not None
    return _ends(layer, settings.targets)


def _ends(layer: str, names: Iterable[str]) -> bool:
    return any(layer == name or layer.endswith(f".{name}") for name in names)


def _part_names(layer: str, settings: AdapterSettings) -> list[str]:
    kind = "embedding_" if _ends(layer, _EMBEDDINGS) else ""
    magnitude = ["magnitude_vector"] if settings.weight_decomposed else []
    return [f"{layer}.lora_{part}.weight" for part in (f"{kind}A", f"{kind}B", *magnitude)]


def _merged(
    layer: str, weight: Tensor, parts: Mapping[str, Tensor], settings: AdapterSettings, folder: Path
) -> Tensor:
    """The weight with its adapter in it, float32: (O, I), or (V, D) of an embedding."""
    import torch

    a, b, *magnitude = (parts[name] for name in _part_names(layer, settings))
    is_embedding = _ends(layer, _EMBEDDINGS)
    outputs, inputs = weight.shape[::-1] if is_embedding else weight.shape
    rank = settings.rank_of(layer)
    if a.shape != (rank, inputs) or b.shape != (outputs, rank):  # (r, I), (O, r)
        shapes = f"{tuple(a.shape)} and {tuple(b.shape)}"
        raise CheckpointError(
            f"the adapter of {layer} has shapes {shapes} for a weight {tuple(weight.shape)} and r={rank}",
            where=folder,
        )
    change = b.float() @ a.float()  # (O, I), or (D, V)
    merged = weight.float() + settings.scale_of(layer) * (change.T if is_embedding else change)
    if not magnitude:
        return merged
    if is_embedding or magnitude[0].numel() != outputs:
        shape = tuple(magnitude[0].shape)
        raise CheckpointError(
            f"the magnitudes of {layer} have shape {shape}, which is not read", where=folder
        )
    norms = torch.linalg.norm(merged, dim=1)  # (O,)
    return (magnitude[0].float().flatten() / norms)[:, None] * merged


def _take_whole(
    state: dict[str, Tensor], tensors: dict[str, Tensor], settings: AdapterSettings, file: Path
) -> None:
    """Put what was trained whole in the place of the base's."""
    for name in settings.whole:
        if not any(_ends(key.rpartition(".")[0], (name,)) or f".{name}." in key for key in tensors):
            raise CheckpointError(f"{file.name} lacks {name}, which was trained whole", where=file.parent)
    weights.replace_tensors(state, tensors, file)
