"""LoRA adapters: merged as peft computes them, and refused by name where they are anything else."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from llava_folders import (
    Change,
    add,
    as_theirs,
    change_json,
    drop,
    projector,
    rename,
    same,
    transformers_model,
    write_config,
)
from safetensors.torch import load_file, save_file

from core_model.checkpoints.llava import import_llava
from core_model.errors import CheckpointError


def adapt(folder: Path, base: Any, **options: Any) -> Any:
    """An adapter as peft saves it, with the projector beside it; returns peft's model."""
    from peft import LoraConfig, get_peft_model

    settings = {"r": 4, "lora_alpha": 6, "target_modules": ["q_proj", "down_proj"]} | options
    torch.manual_seed(5)
    adapted = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", **settings)).eval()
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name or "lora_embedding" in name or "modules_to_save" in name:
            torch.nn.init.normal_(parameter, std=0.2)
        elif "lora_magnitude" in name:
            parameter.data *= 1.5
    adapted.save_pretrained(folder)
    others = {f"base_model.model.{key}": value for key, value in projector(seed=9).items()}
    torch.save(others, folder / "non_lora_trainables.bin")
    write_config(folder)
    return adapted


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """An adapter on the base in the folder beside it."""
    base = transformers_model("LlamaForCausalLM")
    base.save_pretrained(tmp_path / "base")
    adapt(tmp_path / "lora", base)
    return tmp_path / "lora"


@torch.inference_mode()
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_rslora": True},
        {"target_modules": r".*\.(k_proj|up_proj)"},
        {"target_modules": "all-linear"},
        {"target_modules": ["q_proj", "lm_head"]},
        {"target_modules": ["q_proj", "embed_tokens"]},
        {"rank_pattern": {"q_proj": 8}},
        {"alpha_pattern": {"layers.1.self_attn.q_proj": 20}},
        {"rank_pattern": {r"layers\.\d\.mlp\..*": 2}, "alpha_pattern": {"down_proj": 9}, "use_rslora": True},
        {"use_dora": True},
        {"use_dora": True, "rank_pattern": {"down_proj": 1}},
        {"modules_to_save": ["lm_head"]},
        {"modules_to_save": ["embed_tokens", "lm_head"], "target_modules": ["q_proj"]},
    ],
    ids=str,
)
def test_an_adapter_is_merged_as_peft_computes_it(tmp_path: Path, options: dict[str, Any]) -> None:
    base = transformers_model("LlamaForCausalLM")
    base.save_pretrained(tmp_path / "base")
    adapted = adapt(tmp_path / "lora", base, **options)
    llava, _, _ = import_llava(tmp_path / "lora", tmp_path / "base")
    ids = torch.tensor([[1, 7, 8, 9, 30]])
    expected = adapted(input_ids=ids).logits
    torch.testing.assert_close(llava(input_ids=ids).logits, expected, atol=1e-5, rtol=0)
    plain = transformers_model("LlamaForCausalLM")(input_ids=ids).logits
    assert (expected - plain).abs().max() > 1e-3
    found = as_theirs(llava)
    assert all(torch.equal(found[key], value) for key, value in projector(seed=9).items())


def test_an_adapter_keeps_its_base_s_type(tmp_path: Path) -> None:
    base = transformers_model("LlamaForCausalLM")
    adapt(tmp_path / "lora", base)
    transformers_model("LlamaForCausalLM").bfloat16().save_pretrained(tmp_path / "base")
    llava, config, _ = import_llava(tmp_path / "lora", tmp_path / "base")
    assert config.dtype == "bfloat16"
    lora = load_file(tmp_path / "lora" / "adapter_model.safetensors")
    stem = "base_model.model.model.layers.1.mlp.down_proj"
    weight = base.state_dict().get("model.layers.1.mlp.down_proj.base_layer.weight")
    delta = 6 / 4 * lora[f"{stem}.lora_B.weight"] @ lora[f"{stem}.lora_A.weight"]
    expected = (weight.bfloat16().float() + delta).bfloat16()
    assert torch.equal(as_theirs(llava)["model.layers.1.mlp.down_proj.weight"], expected)


def test_an_old_adapter_file_and_a_base_that_is_named(adapter: Path) -> None:
    lora = load_file(adapter / "adapter_model.safetensors")
    expected = as_theirs(import_llava(adapter, adapter.parent / "base")[0])
    torch.save(lora, adapter / "adapter_model.bin")
    (adapter / "adapter_model.safetensors").unlink()
    change_json(adapter / "adapter_config.json", base_model_name_or_path=str(adapter.parent / "base"))
    assert same(as_theirs(import_llava(adapter)[0]), expected)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("bias", "all"),
        ("trainable_token_indices", [1, 2]),
        ("exclude_modules", ["down_proj"]),
        ("eva_config", {"rho": 2.0}),
        ("fan_in_fan_out", True),
        ("layers_to_transform", [0]),
        ("init_lora_weights", "pissa"),
        ("peft_type", "LOHA"),
        ("something_new", 1.5),
    ],
)
def test_an_option_of_peft_that_is_not_obeyed_is_refused_by_name(
    adapter: Path, option: str, value: Any
) -> None:
    change_json(adapter / "adapter_config.json", **{option: value})
    with pytest.raises(CheckpointError, match=re.escape(f"{option}={value!r}")):
        import_llava(adapter, adapter.parent / "base")


def test_options_that_are_off_are_passed_over(adapter: Path) -> None:
    """Other versions of peft write other names."""
    change_json(
        adapter / "adapter_config.json",
        loftq_config={},
        runtime_config={"ephemeral_gpu_offload": False},
        layer_replication=None,
        enable_lora=None,
        rank_pattern={},
        peft_version="0.7.1",
    )
    import_llava(adapter, adapter.parent / "base")


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"rank_pattern": {"q_proj": 0}}, r"ranks 4, \{'q_proj': 0\}"),
        ({"rank_pattern": {"q_proj(": 4}}, r"'q_proj\(', which is no pattern"),
        ({"rank_pattern": {"q_proj": 8}}, r"q_proj has shapes \(4, 16\) and \(16, 4\) .* r=8"),
        ({"target_modules": "*"}, r"'\*', which is no pattern"),
        ({"use_dora": True}, r"lacks .*lora_magnitude_vector"),
        ({"modules_to_save": ["lm_head"]}, r"lacks lm_head, which was trained whole"),
    ],
)
def test_settings_that_do_not_fit_the_adapter_are_named(
    adapter: Path, changed: dict[str, Any], says: str
) -> None:
    change_json(adapter / "adapter_config.json", **changed)
    with pytest.raises(CheckpointError, match=says):
        import_llava(adapter, adapter.parent / "base")


def respelt(state: dict[str, torch.Tensor], pattern: str, by: str) -> dict[str, torch.Tensor]:
    return {re.sub(pattern, by, key): value for key, value in state.items()}


@pytest.mark.parametrize(
    ("pattern", "by"),
    [
        (r"\.lora_(\w+)\.weight", r".lora_\1.default.weight"),
        (r"\.lora_(\w+)\.weight", r".lora_\1.tuned.weight"),
        (r"\.lora_magnitude_vector$", r".lora_magnitude_vector.weight"),
        (r"\.lora_magnitude_vector$", r".lora_magnitude_vector.default.weight"),
        (r"^", "module."),
        (r"^base_model\.model\.", ""),
        (r"\.lm_head\.weight", r".lm_head.modules_to_save.default.weight"),
        (r"\.lm_head\.weight", r".lm_head.modules_to_save.weight"),
    ],
)
def test_names_of_every_version_of_peft_are_read(tmp_path: Path, pattern: str, by: str) -> None:
    base = transformers_model("LlamaForCausalLM")
    base.save_pretrained(tmp_path / "base")
    adapt(tmp_path / "lora", base, use_dora=True, modules_to_save=["lm_head"])
    expected = as_theirs(import_llava(tmp_path / "lora", tmp_path / "base")[0])
    file = tmp_path / "lora" / "adapter_model.safetensors"
    lora = load_file(file)
    changed = respelt(lora, pattern, by)
    assert set(changed) != set(lora)
    save_file(changed, file)
    assert same(as_theirs(import_llava(tmp_path / "lora", tmp_path / "base")[0]), expected)


@pytest.mark.parametrize("prefix", ["", "base_model.model.", "module.base_model.model."])
@pytest.mark.parametrize("kind", ["bin", "safetensors"])
def test_what_was_trained_beside_an_adapter_is_read_in_every_form(
    adapter: Path, prefix: str, kind: str
) -> None:
    expected = as_theirs(import_llava(adapter, adapter.parent / "base")[0])
    others = {prefix + key.removeprefix("model."): value for key, value in projector(seed=9).items()}
    (adapter / "non_lora_trainables.bin").unlink()
    save: Any = torch.save if kind == "bin" else save_file
    save(others, adapter / f"non_lora_trainables.{kind}")
    assert same(as_theirs(import_llava(adapter, adapter.parent / "base")[0]), expected)


@pytest.mark.parametrize("name", ["", ".modules_to_save", ".modules_to_save.default"])
def test_a_projector_that_peft_trained_whole_is_read_from_the_adapter(adapter: Path, name: str) -> None:
    file = adapter / "adapter_model.safetensors"
    (adapter / "non_lora_trainables.bin").unlink()
    trained = {key.replace("mm_projector", f"mm_projector{name}"): v for key, v in projector(seed=9).items()}
    save_file(load_file(file) | {f"base_model.model.{key}": v for key, v in trained.items()}, file)
    change_json(adapter / "adapter_config.json", modules_to_save=["mm_projector"])
    found = as_theirs(import_llava(adapter, adapter.parent / "base")[0])
    assert all(torch.equal(found[key], value) for key, value in projector(seed=9).items())


def test_a_projector_file_may_stand_beside_an_adapter(adapter: Path) -> None:
    (adapter / "non_lora_trainables.bin").rename(adapter / "mm_projector.bin")
    found = as_theirs(import_llava(adapter, adapter.parent / "base")[0])
    assert all(torch.equal(found[key], value) for key, value in projector(seed=9).items())


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "non_lora_trainables.bin"])
def test_what_zero_3_left_empty_is_refused_with_the_command_that_mends_it(adapter: Path, name: str) -> None:
    state = load_file(adapter / name) if name.endswith("safetensors") else torch.load(adapter / name)
    empty = {key: torch.empty(0) for key in state}
    (save_file if name.endswith("safetensors") else torch.save)(empty, adapter / name)
    with pytest.raises(CheckpointError, match=rf"{name}: .*ZeRO-3.*python zero_to_fp32.py \. recovered"):
        import_llava(adapter, adapter.parent / "base")


LORA = "base_model.model.model.layers.1.self_attn.q_proj"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (drop(f"{LORA}.lora_B.weight"), "lacks model.layers.1.self_attn.q_proj.lora_B.weight"),
        (rename(f"{LORA}.lora_A.weight", "x.lora_A.weight"), "lacks model.layers.1.self_attn.q_proj.lora_A"),
        (
            add("base_model.model.model.layers.1.mlp.up_proj.lora_A.weight", 4, 16),
            "unexpected .*up_proj.lora_A",
        ),
        (add(f"{LORA}.lora_A.weight", 3, 16), r"q_proj has shapes \(3, 16\)"),
    ],
)
def test_a_spoilt_adapter_is_refused_by_name(adapter: Path, change: Change, says: str) -> None:
    lora = load_file(adapter / "adapter_model.safetensors")
    change(lora)
    save_file(lora, adapter / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match=says):
        import_llava(adapter, adapter.parent / "base")


def test_what_was_trained_beside_an_adapter_must_have_a_place(adapter: Path) -> None:
    base, file = adapter.parent / "base", adapter / "non_lora_trainables.bin"
    torch.save({"base_model.model.model.resampler.weight": torch.ones(2)}, file)
    with pytest.raises(CheckpointError, match=r"non_lora_trainables.bin has unexpected model.resampler"):
        import_llava(adapter, base)
    file.unlink()
    with pytest.raises(CheckpointError, match=r"lacks model.mm_projector.0.bias"):
        import_llava(adapter, base)


@pytest.mark.parametrize(("base", "says"), [(None, "does not name"), ("lmsys/vicuna", "'lmsys/vicuna'")])
def test_an_adapter_without_its_base_says_what_to_do(adapter: Path, base: str | None, says: str) -> None:
    change_json(adapter / "adapter_config.json", base_model_name_or_path=base)
    change_json(adapter / "config.json", _name_or_path=None)
    with pytest.raises(CheckpointError, match=f"{says}.*download the base model"):
        import_llava(adapter)
