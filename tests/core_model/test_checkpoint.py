"""A checkpoint folder is whole and exactly what its manifest says, or it is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from core_model.checkpoint import Parts, load_checkpoint, new_model, read_config, save_checkpoint
from core_model.errors import CheckpointError


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
def test_a_spoilt_folder_is_refused_by_name(
    tiny_checkpoint: Path, spoil: Callable[[Path], Any], named: str
) -> None:
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
