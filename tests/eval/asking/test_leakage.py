"""A model measured on what it was trained on is found out, and an unknown past is not called clean."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core_model.checkpoints.folder import TRAINING_SLIDES, read_config
from core_model.errors import CheckpointError
from core_model.models.tile_encoders import MINI
from eval.asking.leakage import leakage

UUID = "0a1b2c3d-0000-4000-8000-0123456789ab"


def checkpoint(folder: Path, *slides: str) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text((MINI / "config.json").read_text())
    (folder / TRAINING_SLIDES).write_text(json.dumps({"version": 1, "slides": slides}))
    return folder


def test_slides_and_patients_of_the_training_are_named(tmp_path: Path) -> None:
    model = checkpoint(
        tmp_path / "m", "TCGA-AA-0001-01Z-00-DX1", f"TCGA-AA-0002-01Z-00-DX1.{UUID}", "plain_7"
    )
    asked = [
        f"TCGA-AA-0001-01Z-00-DX1.{UUID}.svs", "TCGA-AA-0002-01Z-00-DX2.svs", "TCGA-AA-0003-01Z-00-DX1.svs",
        "sub/Plain_7.tiff",
    ]  # fmt: skip
    found = leakage(str(model), None, asked)
    assert found["slides"] == [asked[0], asked[3]]
    assert found["patients"] == ["TCGA-AA-0001", "TCGA-AA-0002", "plain_7"]
    assert found["of"] == 4
    assert "2 of the 4 slides evaluated" in found["text"]
    assert "3 of their patients" in found["text"]


def test_none_is_said_only_where_the_list_is_known(tmp_path: Path) -> None:
    found = leakage(str(checkpoint(tmp_path / "m", "a", "b")), None, ["c.svs", "phantom_2026_00001.tiff"])
    assert (found["slides"], found["patients"]) == ([], [])
    assert found["text"].startswith("None of the 2 slides")
    assert "not recorded" in leakage("mini", None, ["c.svs"])["text"]


def test_procedural_slides_tell_their_seed() -> None:
    found = leakage("mini", None, ["phantom_2026_00003.tiff", "phantom_9001_00003.tiff"])
    assert found["slides"] == ["phantom_2026_00003.tiff"]
    assert "seed 2026" in found["text"]
    clean = leakage("mini", None, ["phantom_9001_00003.tiff"])
    assert clean["slides"] == []
    assert "none of the 1 evaluated has that seed" in clean["text"]


def test_of_a_chat_model_nobody_knows_but_of_the_one_beside_it(tmp_path: Path) -> None:
    beside = checkpoint(tmp_path / "m", "a")
    found = leakage("openai:any", str(beside), ["a.svs"])
    assert "What openai:any was trained on is not known." in found["text"]
    assert found["slides"] == ["a.svs"]
    assert leakage("openai:any", None, ["a.svs"])["slides"] == []


def test_a_damaged_list_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "m", "a")
    (model / TRAINING_SLIDES).write_text("{")
    with pytest.raises(CheckpointError, match=TRAINING_SLIDES):
        leakage(str(model), None, ["a.svs"])


def test_a_checkpoint_keeps_its_list_under_its_manifest(tmp_path: Path) -> None:
    from core_model.checkpoints.folder import load_checkpoint, save_checkpoint

    parts, config = load_checkpoint(MINI, only=("tile_encoder",))
    save_checkpoint(tmp_path / "m", parts, config, slides=["b", "a"])
    assert json.loads((tmp_path / "m" / TRAINING_SLIDES).read_text())["slides"] == ["a", "b"]
    read_config(tmp_path / "m")
    assert leakage(str(tmp_path / "m"), None, ["a.svs"])["slides"] == ["a.svs"]
    (tmp_path / "m" / TRAINING_SLIDES).write_text('{"slides": []}')
    with pytest.raises(CheckpointError, match="does not match"):
        read_config(tmp_path / "m")
