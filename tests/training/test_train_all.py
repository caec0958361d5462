"""The whole recipe on a cohort of small slides: every folder is written, and each step is known when done."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core_model.errors import RunError
from core_model.models.wsi_llava import load_model
from training import pipeline as runs
from training.phantom import cohort as phantom
from training.phantom.spec import SlideSpec, sample_spec
from training.pipeline import STEPS, train_recipe
from training.recipes import make_recipe

SHORT = [f"stage{n}.schedule.steps=4" for n in (1, 2, 3)] + [
    "language.steps=4",
    "stage1.schedule.save_every=2",
]


def small_spec(seed: int, index: int) -> SlideSpec:
    return replace(sample_spec(seed, index), width=896, height=768, mpp=0.5, artefact=None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six slides of under half a millimetre."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(phantom, "sample_spec", small_spec)
        return phantom.write_cohort(tmp_path_factory.mktemp("cohort"), slides=6, seed=3)


@pytest.fixture(scope="module")
def trained(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "run"
    train_recipe(make_recipe("tiny", SHORT), folder, out)
    return out


def test_the_last_folder_is_a_model_that_answers(trained: Path, folder: Path) -> None:
    from core_model.features.extract import extract
    from core_model.slides.slide import open_slide

    model = load_model(trained / "model/checkpoint", "cpu")
    with open_slide(next((folder / "slides").iterdir())) as slide:
        features = extract(slide, model.tile_encoder)
    options = ["benign tissue", "adenocarcinoma"]
    assert model.answer(features, "What is the diagnosis?", options) in options
    assert model.score_options(features, "Necrosis?", options).sum() == pytest.approx(1)
    assert 0 < model.slide_unfamiliarity(features) < 2
    assert model.question_unfamiliarity("Which xylophone?")[1] == ["xylophone"]


def test_every_stage_leaves_its_figures_and_the_card_tells_them(trained: Path) -> None:
    for name in ("stage1", "stage2", "stage3"):
        record = json.loads((trained / name / "metrics.json").read_text())
        assert record["steps"] == 4
        assert record["figures"]
        assert (trained / name / "checkpoint/manifest.json").is_file()
    final = json.loads((trained / "model/metrics.json").read_text())
    card = (trained / "model/checkpoint/MODEL_CARD.md").read_text()
    assert f"{final['figures']['closed']:.3f}" in card
    assert "not for diagnosis" in card
    assert json.loads((trained / "model/checkpoint/config.json").read_text())["training"] == final


def test_the_model_names_the_slides_it_was_made_from(trained: Path, folder: Path) -> None:
    named = json.loads((trained / "model/checkpoint/training_slides.json").read_text())["slides"]
    assert named == sorted(path.stem for path in (folder / "slides").iterdir())
    manifest = json.loads((trained / "model/checkpoint/manifest.json").read_text())
    assert "training_slides.json" in manifest["sha256"]


def test_parts_pass_unchanged_through_the_stages_that_do_not_train_them(trained: Path) -> None:
    def digest(stage: str, part: str) -> str:
        manifest = json.loads((trained / stage / "checkpoint/manifest.json").read_text())
        return str(manifest["sha256"][f"{part}.safetensors"])

    stages = ("stage1", "stage2", "stage3", "model")
    for part in ("tile_encoder", "slide_encoder", "alignment"):
        assert len({digest(stage, part) for stage in stages}) == 1, part
    assert digest("stage1", "language_model") == digest("stage2", "language_model")
    assert digest("stage2", "language_model") != digest("stage3", "language_model")
    assert len({digest(stage, "projector") for stage in stages}) == 3


def test_resume_skips_what_is_done(trained: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(run: Any, resume: bool) -> None:
        raise AssertionError("a finished step was done again")

    monkeypatch.setattr(runs, "STEPS", {name: replace(step, work=never) for name, step in STEPS.items()})
    train_recipe(make_recipe("tiny", SHORT), folder, trained, resume=True)


def test_a_step_that_did_not_finish_is_continued(
    trained: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = []
    spied = {
        name: replace(step, work=lambda run, resume, name=name: called.append((name, resume)))
        for name, step in STEPS.items()
    }
    monkeypatch.setattr(runs, "STEPS", spied)
    before = os.stat(trained / "stage2/checkpoint/manifest.json").st_mtime_ns
    (trained / "stage3/done.json").unlink()
    train_recipe(make_recipe("tiny", SHORT), folder, trained, resume=True)
    assert called == [("stage3", True)]
    assert (trained / "stage3/done.json").is_file()
    assert os.stat(trained / "stage2/checkpoint/manifest.json").st_mtime_ns == before


def test_finished_work_is_not_overwritten_unasked(trained: Path, folder: Path) -> None:
    with pytest.raises(RunError, match="--resume"):
        train_recipe(make_recipe("tiny", SHORT), folder, trained)
    with pytest.raises(RunError, match="other settings or another cohort: stage2, stage3, model"):
        train_recipe(make_recipe("tiny", [*SHORT, "stage2.max_length=100"]), folder, trained, resume=True)
    with pytest.raises(RunError, match="other settings or another cohort: language"):
        train_recipe(make_recipe("tiny", [*SHORT, "seed=4"]), folder, trained, command="stage2")


def test_a_stage_without_the_one_before_says_so(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="giant train tiles"):
        train_recipe(make_recipe("tiny"), folder, tmp_path / "empty", command="stage2")


def test_the_log_of_a_stage_has_a_line_per_step(trained: Path) -> None:
    from training.engine.fit import read_log

    rows = read_log(trained / "stage1")
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert np.isfinite([row["loss"] for row in rows]).all()
