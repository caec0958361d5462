"""Small checkpoints in LLaVA's format, written as its training writes them, and ways to spoil them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from core_model.checkpoints.llava import their_name
from core_model.config import LanguageModelConfig
from core_model.language.wsi_llava import text_config

State = dict[str, Tensor]
Change = Callable[[Any], Any]
KINDS = ("LlamaForCausalLM", "Qwen2ForCausalLM")
CHANNELS = 768


def language(kind: str = "LlamaForCausalLM") -> LanguageModelConfig:
    sizes: Any = {"vocab_size": 40, "embed_dim": 16, "depth": 2, "heads": 2, "kv_heads": 1, "ffn_dim": 24}
    return LanguageModelConfig(class_name=kind, max_positions=700, tie_embeddings=False, **sizes)


def transformers_model(kind: str, seed: int = 0) -> Any:
    """The language model as transformers has it: an independent source of names and values."""
    from transformers import LlamaForCausalLM, Qwen2ForCausalLM

    torch.manual_seed(seed)
    made = {"LlamaForCausalLM": LlamaForCausalLM, "Qwen2ForCausalLM": Qwen2ForCausalLM}[kind]
    return made(text_config(language(kind))).eval()


def projector(seed: int = 1) -> State:
    torch.manual_seed(seed)
    shapes = {"0.weight": (16, CHANNELS), "0.bias": (16,), "2.weight": (16, 16), "2.bias": (16,)}
    return {f"model.mm_projector.{name}": torch.randn(shape) * 0.05 for name, shape in shapes.items()}


def fields(kind: str = "LlamaForCausalLM") -> dict[str, Any]:
    """A config.json as LLaVA's training writes it."""
    qwen = kind == "Qwen2ForCausalLM"
    return {
        "_name_or_path": "nobody/base",
        "architectures": ["LlavaQwenForCausalLM" if qwen else "LlavaLlamaForCausalLM"],
        "model_type": "llava_qwen" if qwen else "llava_llama",
        "vocab_size": 40,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "intermediate_size": 24,
        "max_position_embeddings": 700,
        "rms_norm_eps": 1e-05,
        "rope_theta": 10000.0,
        "rope_scaling": None,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "torch_dtype": "float16",
        "mm_hidden_size": CHANNELS,
        "mm_projector_type": "mlp2x_gelu",
        "mm_use_im_start_end": False,
        "mm_use_im_patch_token": False,
        "mm_vision_tower": "openai/clip-vit-large-patch14-336",
        "use_mm_proj": True,
    }


def whole_state(kind: str = "LlamaForCausalLM") -> State:
    return {**transformers_model(kind).state_dict(), **projector()}


def write_config(folder: Path, kind: str = "LlamaForCausalLM", **changed: Any) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(fields(kind) | changed))


def store(folder: Path, state: State, how: str) -> None:
    """Write weights whole or in two shards, as safetensors or as a pickle."""
    name = "pytorch_model.bin" if "bin" in how else "model.safetensors"
    save: Any = torch.save if "bin" in how else save_file
    if "shards" not in how:
        save(state, folder / name)
        return
    places = {key: f"part-{i % 2}{Path(name).suffix}" for i, key in enumerate(state)}
    for shard in set(places.values()):
        save({key: value for key, value in state.items() if places[key] == shard}, folder / shard)
    (folder / f"{name}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))


def as_theirs(llava: Any) -> State:
    names = {key.removeprefix("model."): value for key, value in llava.state_dict().items()}
    return {their_name(key): value for key, value in names.items()}


def same(first: State, second: State) -> bool:
    return set(first) == set(second) and all(
        value.dtype == second[key].dtype and torch.equal(value, second[key]) for key, value in first.items()
    )


def change_json(path: Path, **changed: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))


def drop(key: str) -> Change:
    return lambda state: state.pop(key)


def rename(key: str, to: str) -> Change:
    return lambda state: state.update({to: state.pop(key)})


def add(key: str, *shape: int) -> Change:
    return lambda state: state.update({key: torch.ones(shape)})


def llama(letters: str = "abc") -> Any:
    """Vicuna's kind of tokenizer without its vocabulary: <unk>, <s>, </s>, bytes and a few letters."""
    from transformers import LlamaTokenizer

    names = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), "▁", *letters]
    return LlamaTokenizer(vocab={name: i for i, name in enumerate(names)}, merges=[], add_bos_token=True)


def qwen() -> Any:
    """Qwen's kind: bytes, no start token, <|im_end|>."""
    from tokenizers import pre_tokenizers
    from transformers import Qwen2Tokenizer

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Qwen2Tokenizer(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[])
    made.add_tokens(["<|im_start|>", "<|im_end|>"], special_tokens=True)
    return made
