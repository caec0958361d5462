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


def feature_dim_of(described: Mapping[str, Any], folder: Path) -> int:
    """Channels that the projector reads. Raises `CheckpointError` naming what is refused of the projector."""
    _check(described, _PROJECTOR_MAY_BE, {"mm_hidden_size"}, folder)
    return int(described["mm_hidden_size"])


def language_of(described: Mapping[str, Any], folder: Path) -> LanguageModelConfig:
    """The language model that a config.json describes, LLaVA's or one without a projector.

    Raises `CheckpointError` naming what is refused.
    """
    kind = (described.get("architectures") or ["none"])[0]
    if kind not in _CLASSES:
        raise _refused(f"architectures [{kind}] is not supported", folder, f"known are {', '.join(_CLASSES)}")
    _check(described, _MAY_BE, set(_DIMENSIONS) - {"num_key_value_heads", "tie_word_embeddings"}, folder)
    heads, width = described["num_attention_heads"], described["hidden_size"]
    if (described.get("head_dim") or width // heads) != width // heads:
        raise _refused(f"head_dim {described['head_dim']} is not hidden_size / num_attention_heads", folder)
    given = {ours: described[name] for name, ours in _DIMENSIONS.items() if described.get(name) is not None}
    defaults = {"kv_heads": heads, "tie_embeddings": False}
    return LanguageModelConfig.model_validate(
        defaults
        | given
        | {
            "class_name": _CLASSES[kind],
            "rope_theta": _theta(described, folder),
            "bos_id": described.get("bos_token_id"),
            "eos_id": _first(described.get("eos_token_id"), 2),
            "pad_id": _first(described.get("pad_token_id"), 0),
            "image_id": described["vocab_size"],
        }
    )


def fields_of(config: ModelConfig) -> dict[str, Any]:
    """config.json for a model of ours: what was read with it, and over that what it is now."""
    language = config.language_model
    read = {name: value for name, value in config.training.get("llava", {}).items() if name != GIANT}
    for name in ("dtype", "torch_dtype"):
        if read.get(name) is not None:
            read[name] = config.dtype
    made = {
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
    now = {name: getattr(language, ours) for name, ours in _DIMENSIONS.items()}
    now["mm_hidden_size"] = config.feature_dim
    return (read or made) | now | {GIANT: config.model_dump(mode="json", exclude={"parts"})}


def _check(
    described: Mapping[str, Any], may_be: Mapping[str, tuple[Any, ...]], needed: set[str], folder: Path
) -> None:
    for name, values in may_be.items():
        if (found := described.get(name)) not in values:
            raise _refused(f"{name} {found!r} is not supported", folder, f"it must be {values[-1]!r}")
    if missing := sorted(name for name in needed if described.get(name) is None):
        raise _refused(f"has no {', '.join(missing)}", folder)


def _theta(described: Mapping[str, Any], folder: Path) -> float:
    """Base of the rotary frequencies; transformers 4 and 5 write it in different places."""
    rope = described.get("rope_parameters") or {}
    if rope.get("rope_type", "default") != "default":
        raise _refused(f"rope_parameters {rope} is not supported", folder, "rope_type must be 'default'")
    return float(rope.get("rope_theta") or described.get("rope_theta") or 10000.0)


def _first(ids: Any, default: int) -> int:
    """One id of what may be a list, or nothing."""
    found = ids[0] if isinstance(ids, list) and ids else ids
    return found if isinstance(found, int) else default


def _refused(what: str, folder: Path, fix: str | None = None) -> CheckpointError:
    return CheckpointError(f"config.json: {what}", where=folder, fix=fix)
