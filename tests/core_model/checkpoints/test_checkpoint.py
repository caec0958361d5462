"""A checkpoint folder is whole and exactly what its manifest says, or it is refused by name."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from core_model.checkpoints.folder import Parts, load_checkpoint, new_model, read_config, save_checkpoint
from core_model.errors import CheckpointError

Spoil = Callable[[Path], Any]


def rehash(folder: Path) -> None:
    """Make the manifest agree with the files again, as a careful forger would."""
    import hashlib

    manifest = json.loads((folder / "manifest.json").read_text())
    for name in manifest["sha256"]:
        manifest["sha256"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))


def change_weights(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        path = folder / "slide_encoder.safetensors"
        state = load_file(path)
        change(state)
        save_file(state, path)
        rehash(folder)

    return spoil


def unlist_weights(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["sha256"]["alignment.safetensors"]
    (folder / "manifest.json").write_text(json.dumps(manifest))


def change_config(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["slide_encoder"]["depht"] = 3
    (folder / "config.json").write_text(json.dumps(config))
    rehash(folder)


def flip_a_byte(folder: Path) -> None:
    path = folder / "tile_encoder.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))


def test_what_is_saved_is_what_is_loaded(
    tiny_checkpoint: Path, tiny_parts: Any, tiny_config: Any, tiny_tokenizer: Any
) -> None:
    parts, config = load_checkpoint(tiny_checkpoint)
    assert config.model_dump(exclude={"parts"}) == tiny_config.model_dump(exclude={"parts"})
    expected, found = tiny_parts.states(), parts.states()
    assert set(found) == set(expected) == set(config.parts)
    for name, state in expected.items():
        assert set(found[name]) == set(state)
        for key, value in state.items():
            stored = value.float() if name == "familiarity" else value.bfloat16().float()
            assert found[name][key].dtype == torch.float32
            assert torch.equal(found[name][key], stored), key
    assert parts.words == tiny_parts.words
    text = "USER: <image>\nGrade? ASSISTANT: grade 1</s>"
    assert parts.tokenizer(text)["input_ids"] == tiny_tokenizer(text)["input_ids"]


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda folder: (folder / "manifest.json").unlink(), "manifest.json"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "manifest.json"),
        (lambda folder: (folder / "projector.safetensors").unlink(), "projector.safetensors is missing"),
        (lambda folder: (folder / "tokenizer" / "tokenizer.json").unlink(), "tokenizer/tokenizer.json"),
        (flip_a_byte, "tile_encoder.safetensors does not match"),
        (unlist_weights, "alignment.safetensors is not in the manifest"),
        (change_config, "depht"),
        (change_weights(lambda state: state.pop("norm.bias")), "lacks norm.bias"),
        (change_weights(lambda state: state.update(extra=torch.ones(1))), "unexpected extra"),
        (change_weights(lambda state: state.update({"norm.bias": torch.ones(1)})), "norm.bias has shape"),
    ],
)
def test_a_spoilt_folder_is_refused_by_name(tiny_checkpoint: Path, spoil: Spoil, named: str) -> None:
    spoil(tiny_checkpoint)
    with pytest.raises(CheckpointError, match=named) as caught:
        load_checkpoint(tiny_checkpoint)
    assert str(tiny_checkpoint) in str(caught.value)


def test_an_early_stage_is_a_checkpoint_of_fewer_parts(tmp_path: Path, tiny_config: Any) -> None:
    parts = new_model(tiny_config, only=("tile_encoder",))
    save_checkpoint(tmp_path / "pretrained", parts, tiny_config)
    loaded, config = load_checkpoint(tmp_path / "pretrained")
    assert config.parts == ("tile_encoder",)
    assert loaded.slide_encoder is None
    with pytest.raises(CheckpointError, match="holds no slide_encoder"):
        load_checkpoint(tmp_path / "pretrained", need=("tile_encoder", "slide_encoder"))


def test_a_newer_checkpoint_replaces_an_older_one_whole(tiny_checkpoint: Path, tiny_config: Any) -> None:
    parts = new_model(tiny_config, only=("tile_encoder",))
    save_checkpoint(tiny_checkpoint, parts, tiny_config)
    assert not (tiny_checkpoint / "language_model.safetensors").exists()
    assert read_config(tiny_checkpoint).parts == ("tile_encoder",)
    assert [path.name for path in tiny_checkpoint.parent.iterdir()] == [tiny_checkpoint.name]


def test_a_folder_that_is_something_else_is_left_alone(tmp_path: Path, tiny_config: Any) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(CheckpointError, match="is no checkpoint"):
        save_checkpoint(tmp_path, Parts(), tiny_config)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_write_that_fails_leaves_the_old_checkpoint(
    tiny_checkpoint: Path, tiny_parts: Any, tiny_config: Any
) -> None:
    class Unsaved:
        def save_pretrained(self, folder: Path) -> None:
            raise OSError("No space left on device")

    before = (tiny_checkpoint / "manifest.json").read_bytes()
    with pytest.raises(CheckpointError, match="No space left"):
        save_checkpoint(
            tiny_checkpoint, Parts(tile_encoder=tiny_parts.tile_encoder, tokenizer=Unsaved()), tiny_config
        )
    assert (tiny_checkpoint / "manifest.json").read_bytes() == before
    assert [path.name for path in tiny_checkpoint.parent.iterdir()] == [tiny_checkpoint.name]


def test_new_models_repeat_their_seed_and_leave_the_generator_alone(tiny_config: Any) -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, second, third = (new_model(tiny_config, seed=seed, only=("slide_encoder",)) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected)
    weights = [parts.slide_encoder.patch_embed["proj"].weight for parts in (first, second, third)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_loading_draws_no_random_numbers_and_computes_what_was_saved(
    tiny_checkpoint: Path, tiny_parts: Any
) -> None:
    """Rotary frequencies are in no file: logits tell whether they are right."""
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    parts, _ = load_checkpoint(tiny_checkpoint)
    assert torch.equal(torch.rand(1), expected)
    ids = torch.tensor([[2, 30, 31, 32]])
    with torch.inference_mode():
        found, saved = parts.llava(input_ids=ids).logits, tiny_parts.llava(input_ids=ids).logits
    torch.testing.assert_close(found, saved, atol=2e-3, rtol=0)  # stored as bfloat16
    assert parts.llava.lm_head.weight is parts.llava.get_input_embeddings().weight  # tied
    networks = (parts.tile_encoder, parts.slide_encoder, parts.alignment, parts.llava)
    assert all(p.requires_grad and not p.is_meta for network in networks for p in network.parameters())


def test_another_thread_keeps_its_weights_while_a_checkpoint_is_loaded(tiny_config: Any) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from core_model.checkpoints.parts import _without_weights

    with _without_weights(), ThreadPoolExecutor(1) as pool:
        mine = torch.nn.Linear(2, 2)
        theirs = pool.submit(torch.nn.Linear, 2, 2).result()
    assert mine.weight.is_meta
    assert not theirs.weight.is_meta
    assert not torch.nn.Linear(2, 2).weight.is_meta


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_language_model_and_projector_come_in_the_type_asked_for(
    tiny_checkpoint: Path, dtype: torch.dtype
) -> None:
    parts, _ = load_checkpoint(tiny_checkpoint, dtype=dtype)
    assert {p.dtype for p in parts.llava.parameters()} == {dtype}
    assert parts.llava.model.language_model.rotary_emb.inv_freq.dtype == torch.float32
    assert {p.dtype for p in parts.slide_encoder.parameters()} == {torch.float32}


def test_training_what_was_loaded_as_stored_leaves_the_file_alone(tiny_checkpoint: Path) -> None:
    before = (tiny_checkpoint / "language_model.safetensors").read_bytes()
    parts, _ = load_checkpoint(tiny_checkpoint, dtype=torch.bfloat16)
    with torch.no_grad():
        for parameter in parts.llava.parameters():
            parameter.add_(1)
    assert (tiny_checkpoint / "language_model.safetensors").read_bytes() == before
    read_config(tiny_checkpoint)  # and the manifest still agrees


def test_projector_and_language_model_are_one(tiny_checkpoint: Path) -> None:
    parts, _ = load_checkpoint(tiny_checkpoint, only=("projector",))
    assert not any(p.is_meta for p in parts.llava.parameters())
    assert parts.slide_encoder is None
    change = json.loads((tiny_checkpoint / "config.json").read_text())
    change["parts"].remove("language_model")
    (tiny_checkpoint / "config.json").write_text(json.dumps(change))
    rehash(tiny_checkpoint)
    with pytest.raises(CheckpointError, match="holds no language_model"):
        load_checkpoint(tiny_checkpoint, only=("projector",))


@pytest.mark.parametrize("kept", ["float32", "float16"])
def test_encoders_may_be_kept_in_a_wider_type(
    tmp_path: Path, tiny_parts: Any, tiny_config: Any, kept: str
) -> None:
    config = tiny_config.model_copy(update={"dtype": "float16", "encoder_dtype": kept})
    save_checkpoint(tmp_path / "model", tiny_parts, config)
    types = {name: load_file(tmp_path / "model" / f"{name}.safetensors") for name in config_parts(tmp_path)}
    found = {name: {str(value.dtype) for value in state.values()} for name, state in types.items()}
    assert found.pop("familiarity") == {"torch.float32"}
    assert found.pop("language_model") == found.pop("projector") == {"torch.float16"}
    assert all(dtypes == {f"torch.{kept}"} for dtypes in found.values())


def config_parts(root: Path) -> tuple[str, ...]:
    return read_config(root / "model").parts


def test_unchanged_parts_are_taken_from_the_checkpoint_before(
    tiny_checkpoint: Path, tmp_path: Path, tiny_config: Any, tiny_tokenizer: Any
) -> None:
    new = new_model(tiny_config, seed=7, only=("slide_encoder",))
    config = save_checkpoint(tmp_path / "next", new, tiny_config, card="# next\n", base=tiny_checkpoint)
    assert config.parts == read_config(tiny_checkpoint).parts
    parts, _ = load_checkpoint(tmp_path / "next")
    before, _ = load_checkpoint(tiny_checkpoint)
    assert torch.equal(parts.slide_encoder.norm.weight, new.slide_encoder.norm.weight)
    weight = new.slide_encoder.patch_embed["proj"].weight.bfloat16().float()
    assert torch.equal(parts.slide_encoder.patch_embed["proj"].weight, weight)
    first, second = (x.states()["language_model"] for x in (parts, before))
    assert all(torch.equal(value, second[key]) for key, value in first.items())
    assert parts.words == before.words
    assert parts.tokenizer("Grade?")["input_ids"] == tiny_tokenizer("Grade?")["input_ids"]
    assert (tmp_path / "next" / "MODEL_CARD.md").read_text() == "# next\n"
    flip_a_byte(tiny_checkpoint)  # through the link too: what was taken is checked like the rest
    with pytest.raises(CheckpointError, match=r"tile_encoder.safetensors does not match"):
        load_checkpoint(tmp_path / "next")


def test_a_text_encoder_brings_its_own_tokenizer(
    tmp_path: Path, tiny_config: Any, tiny_tokenizer: Any
) -> None:
    from transformers import BertConfig

    text = BertConfig(
        vocab_size=500, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    alignment = tiny_config.alignment.model_copy(
        update={"text_config": text.to_diff_dict(), "vocab_size": 500}
    )
    config = tiny_config.model_copy(update={"alignment": alignment})
    parts = new_model(config, tiny_tokenizer, only=("alignment",))
    parts.text_tokenizer = tiny_tokenizer
    save_checkpoint(tmp_path / "model", parts, config)
    found, same = load_checkpoint(tmp_path / "model")
    assert found.text_tokenizer("Grade?")["input_ids"] == tiny_tokenizer("Grade?")["input_ids"]
    assert same.alignment == alignment
    (tmp_path / "model" / "text_tokenizer" / "tokenizer.json").write_text("{")
    rehash(tmp_path / "model")
    with pytest.raises(CheckpointError, match="text_tokenizer/ cannot be read"):
        load_checkpoint(tmp_path / "model")


def test_a_tokenizer_with_more_tokens_than_rows_does_not_fit(tiny_checkpoint: Path) -> None:
    path = tiny_checkpoint / "tokenizer" / "tokenizer.json"
    described = json.loads(path.read_text())
    described["added_tokens"].append(described["added_tokens"][-1] | {"id": 5000, "content": "<more>"})
    path.write_text(json.dumps(described))
    rehash(tiny_checkpoint)
    with pytest.raises(CheckpointError, match="does not fit the vocabulary"):
        load_checkpoint(tiny_checkpoint)


@pytest.mark.parametrize("limit", [100, 3000, 10_000])
def test_a_disk_that_takes_no_more_is_one_line_and_no_half_checkpoint(
    tmp_path: Path, tiny_parts: Any, tiny_config: Any, limit: int
) -> None:
    """Each library puts it in words of its own: tokenizers, safetensors, Python."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, old[1]))
    try:
        with pytest.raises(CheckpointError, match="the checkpoint cannot be written") as caught:
            save_checkpoint(tmp_path / "new", tiny_parts, tiny_config)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_can_be_shared(tmp_path: Path, tiny_checkpoint: Path) -> None:
    (tmp_path / "plain").touch()
    modes = {path.stat().st_mode for path in tiny_checkpoint.rglob("*") if path.is_file()}
    assert modes == {(tmp_path / "plain").stat().st_mode}
