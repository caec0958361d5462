"""LLaVA's config.json and our configuration: which field is which, and what is refused.

A field that would change what the network computes, and that our network does not have, is refused by name
unless it is off. All others (training settings, paths, versions) are kept and written back as they were.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core_model.config import LanguageModelConfig, ModelConfig
from core_model.errors import CheckpointError

GIANT = "giant"
"""Where a config.json that we wrote keeps what LLaVA's has no field for."""
_CLASSES = {
    "LlamaForCausalLM": "LlamaForCausalLM",
    "Qwen2ForCausalLM": "Qwen2ForCausalLM",
    "LlavaLlamaForCausalLM": "LlamaForCausalLM",
    "LlavaQwenForCausalLM": "Qwen2ForCausalLM",
    "LlavaQwen2ForCausalLM": "Qwen2ForCausalLM",
}
_WRITTEN = {
    "LlamaForCausalLM": ("LlavaLlamaForCausalLM", "llava_llama"),
    "Qwen2ForCausalLM": ("LlavaQwenForCausalLM", "llava_qwen"),
}
"""LLaVA's class and model_type for a language model."""
_DIMENSIONS = {
    "vocab_size": "vocab_size",
    "hidden_size": "embed_dim",
    "num_hidden_layers": "depth",
    "num_attention_heads": "heads",
    "num_key_value_heads": "kv_heads",
    "intermediate_size": "ffn_dim",
    "max_position_embeddings": "max_positions",
    "rms_norm_eps": "rms_eps",
    "tie_word_embeddings": "tie_embeddings",
}
"""LLaVA's name and ours."""
_MAY_BE = {
    "hidden_act": (None, "silu"),
    "attention_bias": (None, False),
    "mlp_bias": (None, False),
    "rope_scaling": (None,),
    "use_sliding_window": (None, False),
    "quantization_config": (None,),
}
"""Fields of which no other value is supported; None: not there."""
_PROJECTOR_MAY_BE = {"mm_projector_type": ("mlp2x_gelu",), "mm_use_im_start_end": (None, False)}


def feature_dim_of(fields: Mapping[str, Any], folder: Path) -> int:
    """Channels that the projector reads. Raises `CheckpointError` naming what is refused of the projector."""
    _check(fields, _PROJECTOR_MAY_BE, {"mm_hidden_size"}, folder)
    return int(fields["mm_hidden_size"])


def language_of(fields: Mapping[str, Any], folder: Path) -> LanguageModelConfig:
    """The language model that a config.json describes, LLaVA's or one without a projector.

    Raises `CheckpointError` naming what is refused.
    """
    kind = (fields.get("architectures") or ["none"])[0]
    if kind not in _CLASSES:
        raise _refused(f"architectures [{kind}] is not supported", folder, f"known are {', '.join(_CLASSES)}")
    _check(fields, _MAY_BE, set(_DIMENSIONS) - {"num_key_value_heads", "tie_word_embeddings"}, folder)
    heads, width = fields["num_attention_heads"], fields["hidden_size"]
    if (fields.get("head_dim") or width // heads) != width // heads:
        raise _refused(f"head_dim {fields['head_dim']} is not hidden_size / num_attention_heads", folder)
    dimensions = {ours: fields[name] for name, ours in _DIMENSIONS.items() if fields.get(name) is not None}
    defaults = {"kv_heads": heads, "tie_embeddings": False}
    return LanguageModelConfig.model_validate(
        defaults
        | dimensions
        | {
            "class_name": _CLASSES[kind],
            "rope_theta": _theta(fields, folder),
            "bos_id": fields.get("bos_token_id"),
            "eos_id": _first(fields.get("eos_token_id"), 2),
            "pad_id": _first(fields.get("pad_token_id"), 0),
            "image_id": fields["vocab_size"],
        }
    )


def fields_of(config: ModelConfig) -> dict[str, Any]:
    """config.json for a model of ours: what was read with it, and over that what it is now."""
    language = config.language_model
    original = {name: value for name, value in config.training.get("llava", {}).items() if name != GIANT}
    for name in ("dtype", "torch_dtype"):
        if original.get(name) is not None:
            original[name] = config.dtype
    defaults = {
        "architectures": [_WRITTEN[language.class_name][0]],
        "model_type": _WRITTEN[language.class_name][1],
        "torch_dtype": config.dtype,
        "hidden_act": "silu",
        "rope_theta": language.rope_theta,
        "mm_projector_type": "mlp2x_gelu",
        "mm_use_im_start_end": False,
        "mm_use_im_patch_token": False,
        "tokenizer_padding_side": "right",
        "tokenizer_model_max_length": language.max_positions,
        "bos_token_id": language.bos_id,
        "eos_token_id": language.eos_id,
        "pad_token_id": language.pad_id,
    }
    current = {name: getattr(language, ours) for name, ours in _DIMENSIONS.items()}
    current["mm_hidden_size"] = config.feature_dim
    return (original or defaults) | current | {GIANT: config.model_dump(mode="json", exclude={"parts"})}


def _check(
    fields: Mapping[str, Any], may_be: Mapping[str, tuple[Any, ...]], names: set[str], folder: Path
) -> None:
    for name, values in may_be.items():
        if (value := fields.get(name)) not in values:
            raise _refused(f"{name} {value!r} is not supported", folder, f"it must be {values[-1]!r}")
    if missing := sorted(name for name in names if fields.get(name) is None):
        raise _refused(f"it has no {', '.join(missing)}", folder)


def _theta(fields: Mapping[str, Any], folder: Path) -> float:
    """Base of the rotary frequencies; transformers 4 and 5 write it in different places."""
    rope = fields.get("rope_parameters") or {}
    if rope.get("rope_type", "default") != "default":
        raise _refused(f"rope_parameters {rope} is not supported", folder, "rope_type must be 'default'")
    return float(rope.get("rope_theta") or fields.get("rope_theta") or 10000.0)


def _first(ids: Any, default: int) -> int:
    """One id of what may be a list, or nothing."""
    token = ids[0] if isinstance(ids, list) and ids else ids
    return token if isinstance(token, int) else default


def _refused(problem: str, folder: Path, fix: str | None = None) -> CheckpointError:
    return CheckpointError(f"config.json: {problem}", where=folder, fix=fix)
