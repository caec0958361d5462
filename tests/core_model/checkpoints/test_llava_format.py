"""LLaVA's released format: however it is stored, it gives the same model; nothing in it passes unnoticed."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from llava_folders import (
    CHANNELS,
    KINDS,
    Change,
    State,
    add,
    as_theirs,
    change_json,
    drop,
    fields,
    projector,
    rename,
    same,
    store,
    transformers_model,
    whole_state,
    write_config,
)
from safetensors.torch import load_file, save_file
from torch import Tensor

from core_model.checkpoints.llava import export_llava, import_llava
from core_model.config import GenerationConfig, ModelConfig
from core_model.errors import CheckpointError
from core_model.language.conversation import QWEN_SYSTEM, VICUNA_SYSTEM


@pytest.fixture
def released(tmp_path: Path) -> Path:
    """A merged checkpoint of a Llama that a test may spoil."""
    write_config(tmp_path / "wsi")
    store(tmp_path / "wsi", whole_state(), "safetensors")
    return tmp_path / "wsi"


# ---- against LLaVA's own code ----


def expanded(row: Tensor, at: int, fill: int) -> Tensor:
    """LLaVA's single place of the image as 576 places."""
    return torch.cat([row[:, :at], torch.full((1, 576), fill), row[:, at + 1 :]], dim=1)


@pytest.mark.parametrize("name", ["base", "lora"])
@torch.inference_mode()
def test_logits_and_loss_are_those_of_llava(shared: Path, name: str) -> None:
    golden = shared / "goldens" / "wsi_llava_checkpoint"
    expected = load_file(golden / "expected.safetensors")
    llava, config, tokenizer = import_llava(golden / name, golden / "base" if name == "lora" else None)
    assert tokenizer is None
    assert config.language_model.image_id == 128  # beyond the embedding
    at = int((expected["in.input_ids"][0] == -200).nonzero())
    ids = expanded(expected["in.input_ids"], at, config.language_model.image_id)
    labels = expanded(expected["in.labels"], at, -100)
    out = llava(input_ids=ids, slide_features=expected["in.features"], labels=labels)
    torch.testing.assert_close(out.logits, expected[f"{name}.logits"], atol=1e-5, rtol=0)
    torch.testing.assert_close(out.loss[None], expected[f"{name}.loss"], atol=1e-5, rtol=0)


@torch.inference_mode()
def test_greedy_words_are_those_of_llava(shared: Path) -> None:
    from core_model.language.wsi_llava import write

    golden = shared / "goldens" / "wsi_llava_checkpoint"
    expected = load_file(golden / "expected.safetensors")
    llava, config, _ = import_llava(golden / "base")
    prompt = expected["in.input_ids"][:, :6]
    at = int((prompt[0] == -200).nonzero())
    ids = expanded(prompt, at, config.language_model.image_id)[0].tolist()
    written, _ = write(llava, expected["in.features"], ids, GenerationConfig(max_new_tokens=8))
    assert [written] == expected["base.greedy"].tolist()


# ---- how it may be stored ----


@pytest.mark.parametrize("how", ["safetensors", "bin", "safetensors shards", "bin shards"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_way_of_storing_gives_the_same_tensors(tmp_path: Path, how: str, kind: str) -> None:
    state = {key: value.half() for key, value in whole_state(kind).items()}
    write_config(tmp_path / "wsi", kind)
    store(tmp_path / "wsi", state, how)
    llava, config, _ = import_llava(tmp_path / "wsi")
    assert same(as_theirs(llava), state)
    assert (config.dtype, config.n_tokens, config.feature_dim) == ("float16", 576, CHANNELS)
    assert config.language_model.class_name == kind
    vicuna = kind == "LlamaForCausalLM"
    assert config.template == ("vicuna_v1" if vicuna else "chatml")
    assert config.system == (VICUNA_SYSTEM if vicuna else QWEN_SYSTEM)
    assert config.generation == GenerationConfig.wsi_llava()
    assert config.name == "wsi"


@torch.inference_mode()
@pytest.mark.parametrize("kind", KINDS)
def test_an_imported_model_is_the_language_model_it_holds(tmp_path: Path, kind: str) -> None:
    """Also its rotary frequencies, which no file holds."""
    write_config(tmp_path / "wsi", kind)
    store(tmp_path / "wsi", whole_state(kind), "safetensors")
    llava, _, _ = import_llava(tmp_path / "wsi")
    ids = torch.tensor([[1, 7, 8, 9, 30]])
    torch.testing.assert_close(llava(input_ids=ids).logits, transformers_model(kind)(input_ids=ids).logits)


def test_mixed_types_are_widened_so_that_nothing_is_lost(tmp_path: Path) -> None:
    state = whole_state()
    state = {key: value.bfloat16() if "projector" in key else value.half() for key, value in state.items()}
    write_config(tmp_path / "wsi")
    store(tmp_path / "wsi", state, "safetensors")
    llava, config, _ = import_llava(tmp_path / "wsi")
    assert config.dtype == "float32"
    assert same(as_theirs(llava), {key: value.float() for key, value in state.items()})


def test_a_vision_tower_is_left_out_and_named(released: Path, caplog: pytest.LogCaptureFixture) -> None:
    extra = {"model.vision_tower.vision_tower.layer.weight": torch.ones(2)}
    store(released, whole_state() | extra, "safetensors")
    with caplog.at_level(logging.WARNING):
        llava, _, _ = import_llava(released)
    assert "1 tensors of a vision tower" in caplog.text
    assert "vision_tower.layer.weight" in caplog.text
    assert same(as_theirs(llava), whole_state())


def test_rotary_frequencies_of_older_files_must_be_the_right_ones(released: Path) -> None:
    key = "model.layers.0.self_attn.rotary_emb.inv_freq"
    right = 10000.0 ** -(torch.arange(4) / 4)
    store(released, {k: v.half() for k, v in whole_state().items()} | {key: right}, "safetensors")
    assert import_llava(released)[1].dtype == "float16"
    store(released, whole_state() | {key: right / 4}, "safetensors")
    with pytest.raises(CheckpointError, match=r"layers.0.self_attn.rotary_emb.inv_freq .* rope_theta 10000"):
        import_llava(released)


def test_a_projector_alone_goes_on_a_plain_language_model(tmp_path: Path) -> None:
    transformers_model("LlamaForCausalLM").half().save_pretrained(tmp_path / "vicuna")
    write_config(tmp_path / "pretrained")
    torch.save(projector(), tmp_path / "pretrained" / "mm_projector.bin")
    llava, config, _ = import_llava(tmp_path / "pretrained", tmp_path / "vicuna")
    assert config.dtype == "float16"
    assert same(as_theirs(llava), {key: value.half() for key, value in whole_state().items()})
    with pytest.raises(CheckpointError, match=r"'nobody/base', which is no folder here.*--base"):
        import_llava(tmp_path / "pretrained")
    torch.save(
        {**projector(), "model.norm.scale": torch.ones(1)}, tmp_path / "pretrained" / "mm_projector.bin"
    )
    with pytest.raises(CheckpointError, match=r"mm_projector.bin has unexpected model.norm.scale"):
        import_llava(tmp_path / "pretrained", tmp_path / "vicuna")


@pytest.mark.parametrize("file", ["mm_projector.bin", "mm_projector.safetensors"])
@pytest.mark.parametrize(
    "prefix", ["", "model.", "module.model.", "module.", "base_model.model.model.", "base_model.model."]
)
def test_a_projector_is_read_under_every_name(tmp_path: Path, file: str, prefix: str) -> None:
    transformers_model("LlamaForCausalLM").save_pretrained(tmp_path / "vicuna")
    write_config(tmp_path / "pretrained")
    state = {prefix + key.removeprefix("model."): value for key, value in projector().items()}
    save: Any = torch.save if file.endswith("bin") else save_file
    save(state, tmp_path / "pretrained" / file)
    llava, _, _ = import_llava(tmp_path / "pretrained", tmp_path / "vicuna")
    assert same(as_theirs(llava), whole_state())


def test_one_name_twice_is_refused(tmp_path: Path) -> None:
    transformers_model("LlamaForCausalLM").save_pretrained(tmp_path / "vicuna")
    write_config(tmp_path / "pretrained")
    twice = projector() | {"mm_projector.0.bias": torch.ones(16)}
    torch.save(twice, tmp_path / "pretrained" / "mm_projector.bin")
    with pytest.raises(CheckpointError, match=r"are both model.mm_projector.0.bias"):
        import_llava(tmp_path / "pretrained", tmp_path / "vicuna")


@pytest.mark.parametrize("how", ["safetensors", "bin", "safetensors shards", "bin shards"])
def test_names_of_a_model_that_was_wrapped_are_read(tmp_path: Path, how: str) -> None:
    write_config(tmp_path / "wsi")
    store(tmp_path / "wsi", {f"module.{key}": value for key, value in whole_state().items()}, how)
    assert same(as_theirs(import_llava(tmp_path / "wsi")[0]), whole_state())


@pytest.mark.parametrize("kind", ["model-{}-of-00002.safetensors", "pytorch_model-{}-of-00002.bin"])
def test_shards_without_an_index_are_joined_where_all_are_there(tmp_path: Path, kind: str) -> None:
    write_config(tmp_path / "wsi")
    save: Any = torch.save if kind.endswith("bin") else save_file
    for number in (1, 2):
        shard = {key: value for i, (key, value) in enumerate(whole_state().items()) if i % 2 == number - 1}
        save(shard, tmp_path / "wsi" / kind.format(f"{number:05d}"))
    assert same(as_theirs(import_llava(tmp_path / "wsi")[0]), whole_state())
    (tmp_path / "wsi" / kind.format("00001")).unlink()
    with pytest.raises(
        CheckpointError, match=rf"{kind.format('00001')} is missing.*download that file again"
    ):
        import_llava(tmp_path / "wsi")


# ---- what is refused ----


@pytest.mark.parametrize("how", ["safetensors", "bin", "safetensors shards", "bin shards"])
def test_what_zero_3_left_empty_is_refused_with_the_command_that_mends_it(tmp_path: Path, how: str) -> None:
    write_config(tmp_path / "wsi")
    state = whole_state() | {"model.layers.1.mlp.up_proj.weight": torch.empty(0)}
    store(tmp_path / "wsi", state, how)
    says = r"up_proj.weight holds no numbers: DeepSpeed ZeRO-3.*`python zero_to_fp32.py \. recovered`"
    with pytest.raises(CheckpointError, match=says):
        import_llava(tmp_path / "wsi")


def test_an_empty_projector_is_refused_likewise(tmp_path: Path) -> None:
    transformers_model("LlamaForCausalLM").save_pretrained(tmp_path / "vicuna")
    write_config(tmp_path / "pretrained")
    torch.save({key: torch.empty(0) for key in projector()}, tmp_path / "pretrained" / "mm_projector.bin")
    says = r"mm_projector.bin: model.mm_projector.0.weight and 3 more holds? no numbers.*zero_to_fp32.py"
    with pytest.raises(CheckpointError, match=says):
        import_llava(tmp_path / "pretrained", tmp_path / "vicuna")


def test_a_folder_with_deepspeed_s_own_files_only_names_the_command(tmp_path: Path) -> None:
    write_config(tmp_path / "wsi")
    (tmp_path / "wsi" / "global_step100").mkdir()
    with pytest.raises(
        CheckpointError, match=r"split over its processes.*python zero_to_fp32.py \. recovered"
    ):
        import_llava(tmp_path / "wsi")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (drop("model.norm.weight"), "the model lacks model.norm.weight"),
        (drop("model.mm_projector.2.bias"), "the model lacks model.mm_projector.2.bias"),
        (rename("lm_head.weight", "head.weight"), "the model lacks lm_head.weight"),
        (add("model.mm_projector.4.weight", 2), "unexpected model.mm_projector.4.weight"),
        (add("model.layers.2.mlp.up_proj.weight", 2), "unexpected model.layers.2.mlp.up_proj.weight"),
        (add("lm_head.weight", 41, 16), r"lm_head.weight has shape \(41, 16\), expected \(40, 16\)"),
    ],
)
def test_a_key_that_is_missing_renamed_unexpected_or_misshapen_is_named(
    released: Path, change: Change, says: str
) -> None:
    state = whole_state()
    change(state)
    store(released, state, "safetensors")
    with pytest.raises(CheckpointError, match=says):
        import_llava(released)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"architectures": ["LlavaMptForCausalLM"]}, "LlavaMptForCausalLM"),
        ({"mm_projector_type": "linear"}, "mm_projector_type 'linear'"),
        ({"mm_use_im_start_end": True}, "mm_use_im_start_end True"),
        ({"rope_scaling": {"type": "linear", "factor": 8.0}}, "rope_scaling"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "rope_parameters"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu'"),
        ({"attention_bias": True}, "attention_bias"),
        ({"use_sliding_window": True}, "use_sliding_window"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"head_dim": 32}, "head_dim 32"),
        ({"mm_hidden_size": None}, "has no mm_hidden_size"),
        ({"rms_norm_eps": None}, "has no rms_norm_eps"),
        ({"mm_hidden_size": 64}, "feature_dim must be at least"),
    ],
)
def test_a_setting_that_our_network_does_not_have_is_named(
    released: Path, changed: dict[str, Any], says: str
) -> None:
    write_config(released, **changed)
    with pytest.raises(CheckpointError, match=says):
        import_llava(released)


def test_shards_must_be_those_of_the_index(released: Path) -> None:
    (released / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="holds no weights"):
        import_llava(released)
    store(released, whole_state(), "safetensors shards")
    index = released / "model.safetensors.index.json"
    places = json.loads(index.read_text())["weight_map"]
    index.write_text(json.dumps({"weight_map": places | {"model.extra": "part-0.safetensors"}}))
    with pytest.raises(CheckpointError, match=r"part-0.safetensors lacks model.extra"):
        import_llava(released)
    index.write_text(json.dumps({"weight_map": places | {"model.extra": "../part-9.safetensors"}}))
    with pytest.raises(CheckpointError, match=r"part-9.safetensors, which is missing"):
        import_llava(released)


class _Runs:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("executed"),))


def test_a_pickle_is_never_executed(released: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (released / "model.safetensors").unlink()
    torch.save({"model.norm.weight": _Runs()}, released / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="cannot be read as weights"):
        import_llava(released)
    assert not (tmp_path / "executed").exists()


def test_numbers_that_the_base_s_type_does_not_hold_are_named(tmp_path: Path) -> None:
    transformers_model("LlamaForCausalLM").half().save_pretrained(tmp_path / "vicuna")
    write_config(tmp_path / "pretrained")
    large = projector() | {"model.mm_projector.0.bias": torch.full((16,), 1e6)}
    torch.save(large, tmp_path / "pretrained" / "mm_projector.bin")
    with pytest.raises(CheckpointError, match=r"mm_projector.0.bias holds numbers that torch.float16"):
        import_llava(tmp_path / "pretrained", tmp_path / "vicuna")


def test_no_folder_and_a_base_too_many(released: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such folder"):
        import_llava(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match="needs no base"):
        import_llava(released, tmp_path)
    (released / "config.json").write_text("[")
    with pytest.raises(CheckpointError, match=r"config.json: the file cannot be read"):
        import_llava(released)


# ---- round trips ----


@pytest.mark.parametrize("shard_bytes", [10**9, 20_000])
@pytest.mark.parametrize("kind", KINDS)
def test_theirs_to_ours_to_theirs_is_exact(tmp_path: Path, kind: str, shard_bytes: int) -> None:
    state = {key: value.half() for key, value in whole_state(kind).items()}
    write_config(tmp_path / "wsi", kind)
    store(tmp_path / "wsi", state, "safetensors")
    llava, config, _ = import_llava(tmp_path / "wsi")
    export_llava(llava, config, tmp_path / "again", shard_bytes=shard_bytes)
    shards = sorted((tmp_path / "again").glob("*.safetensors"))
    assert (len(shards) == 1) == (shard_bytes == 10**9)
    found: State = {}
    for shard in shards:
        found |= load_file(shard)
    assert same(found, state)
    written = json.loads((tmp_path / "again" / "config.json").read_text())
    assert {name: written[name] for name in fields(kind)} == fields(kind)
    again, same_config, _ = import_llava(tmp_path / "again")
    assert same_config == config
    assert same(as_theirs(again), state)


def test_ours_to_theirs_to_ours_is_exact(
    tmp_path: Path, tiny_parts: Any, tiny_config: ModelConfig, tiny_tokenizer: Any
) -> None:
    """With tied embeddings, an <image> inside the vocabulary and a tokenizer of ours."""
    config = tiny_config.model_copy(update={"dtype": "float32"})
    export_llava(tiny_parts.llava, config, tmp_path / "theirs", tiny_tokenizer)
    llava, found, tokenizer = import_llava(tmp_path / "theirs")
    assert found == config
    assert same(dict(llava.state_dict()), dict(tiny_parts.llava.state_dict()))
    text = "USER: <image>\nGrade? ASSISTANT: grade 1</s>"
    assert tokenizer(text)["input_ids"] == tiny_tokenizer(text)["input_ids"]


def test_transformers_reads_what_is_exported(released: Path, tmp_path: Path) -> None:
    """The language model's keys and dimensions, as a plain Llama."""
    from transformers import LlamaForCausalLM

    llava, config, _ = import_llava(released)
    export_llava(llava, config, tmp_path / "again")
    change_json(tmp_path / "again" / "config.json", model_type="llama", architectures=["LlamaForCausalLM"])
    llama = LlamaForCausalLM.from_pretrained(tmp_path / "again", dtype=torch.float32)
    expected = transformers_model("LlamaForCausalLM").state_dict()
    assert all(torch.equal(llama.state_dict()[key], value) for key, value in expected.items())


def test_an_export_appears_whole_or_not_at_all(released: Path, tmp_path: Path) -> None:
    class Unsaved:
        def save_pretrained(self, folder: Path) -> None:
            raise OSError("No space left on device")

    llava, config, _ = import_llava(released)
    with pytest.raises(CheckpointError, match="No space left"):
        export_llava(llava, config, tmp_path / "out" / "again", Unsaved())
    assert list((tmp_path / "out").iterdir()) == []
    with pytest.raises(CheckpointError, match="is in the way"):
        export_llava(llava, config, released)
