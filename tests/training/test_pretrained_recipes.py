"""The recipes of full size run from pretrained parts and given features, here at toy size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM
from trident_files import write_trident

from core_model.checkpoints.folder import load_checkpoint
from core_model.config import SlideEncoderConfig
from core_model.encoders.slide_encoder import LongNetViT
from core_model.errors import CheckpointError, FeatureStoreError, RunError
from training.pipeline import train_recipe
from training.recipes import make_recipe
from training.start import pretrained_language, pretrained_text

CHANNELS, N, C = 8, 4, 24
NAMES = [f"TCGA-{i:02d}" for i in range(6)]
SLIDES = SlideEncoderConfig(
    in_chans=CHANNELS, embed_dim=C, depth=1, heads=2, ffn_dim=32, tile_size=256, dilated_ratio=(1, 4)
)
SHORT = [
    "tile_encoder.path=null",
    f"tile_encoder.encoder.embed_dim={CHANNELS}",
    "tile_encoder.encoder.heads=2",
    *(
        f"slide_encoder.{key}={value}"
        for key, value in SLIDES.model_dump(
            include={"in_chans", "embed_dim", "depth", "heads", "ffn_dim"}
        ).items()
    ),
    "slide_encoder.dilated_ratio=[1,4]",
    f"n_tokens={N}",
    f"feature_dim={C}",
    "alignment.shared_dim=8",
    *(
        f"stage{n}.schedule.{key}"
        for n in (1, 2, 3)
        for key in ("zero=0", "steps=3", "batch=4", "micro_batch=2", "precision=float32")
    ),
    *(f"stage{n}.schedule.workers=0" for n in (1, 2, 3)),
    "stage3.rank=2",
    "stage3.alpha=4",
    "calibrate.regions=1",
    "calibrate.centroids=4",
]


@pytest.fixture(scope="module")
def given(world: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What others have trained: a language model, a text encoder, a slide encoder."""
    root = tmp_path_factory.mktemp("given")
    torch.manual_seed(0)
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    rows = len(world.tokenizer)
    LlamaForCausalLM(LlamaConfig(vocab_size=rows, **size)).save_pretrained(root / "llama")
    BertModel(BertConfig(vocab_size=rows, max_position_embeddings=64, **size)).save_pretrained(root / "bert")
    for name in ("llama", "bert"):
        world.tokenizer.save_pretrained(root / name)
    torch.save({"model": LongNetViT(SLIDES).state_dict()}, root / "slide_encoder.pth")
    return {
        "language.path": root / "llama",
        "text_encoder": root / "bert",
        "slide_weights": root / "slide_encoder.pth",
    }


QUESTION = "benchmark_name,image_path,answer,options,prompt\n"


def write_cohort(folder: Path, tokens: bool) -> Path:
    """Six slides that are known by features or tokens alone."""
    rng = np.random.default_rng(0)
    for i, name in enumerate(NAMES):
        if tokens:
            (folder / "tokens").mkdir(parents=True, exist_ok=True)
            torch.save(
                torch.from_numpy(rng.normal(size=(N, C)).astype(np.float32)), folder / f"tokens/{name}.pt"
            )
        else:
            (folder / "features").mkdir(parents=True, exist_ok=True)
            write_trident(
                folder / f"features/{name}.h5", rng.normal(size=(5 + i, CHANNELS)).astype(np.float32)
            )
    reports = [{"slide": name, "report": f"the tumour is grade {i % 3 + 1}."} for i, name in enumerate(NAMES)]
    turns = [{"from": "human", "value": "<image>\nwhat grade?"}, {"from": "gpt", "value": "grade 2."}]
    rows = [{"id": name, "image": f"TCGA-LUSC/{name}.pt", "conversations": turns} for name in NAMES]
    (folder / "reports.jsonl").write_text("".join(json.dumps(row) + "\n" for row in reports))
    (folder / "instructions.json").write_text(json.dumps(rows))
    (folder / "split.json").write_text(json.dumps({"train": NAMES[:4], "val": NAMES[4:]}))
    return folder


def overrides(given: dict[str, Path]) -> list[str]:
    return [*SHORT, *(f"{key}={path}" for key, path in given.items())]


@pytest.mark.parametrize("tokens", [False, True])
def test_a_full_recipe_runs_through_its_steps(given: dict[str, Path], tmp_path: Path, tokens: bool) -> None:
    cohort, out = write_cohort(tmp_path / "cohort", tokens), tmp_path / "out"
    train_recipe(make_recipe("wsi-llava-7b", overrides(given)), cohort, out)
    done = {path.parent.name for path in out.glob("*/done.json")}
    expected = {"start", "tokens", "stage2", "stage3", "model"}
    assert done == (expected if tokens else expected | {"features", "stage1"})
    record = json.loads((out / "model/metrics.json").read_text())
    assert record["figures"]["val_loss"] > 0
    assert record["language"]["pretrained"] == str(given["language.path"])
    card = (out / "model/checkpoint/MODEL_CARD.md").read_text()
    assert "nats per token" in card
    assert "procedural" not in card
    parts, config = load_checkpoint(out / "model/checkpoint")
    assert config.parts[:2] == ("slide_encoder", "alignment")
    assert (parts.familiarity is None) == tokens
    assert config.generation.no_repeat_ngram == 3


def test_what_is_pretrained_is_what_training_starts_from(given: dict[str, Path], tmp_path: Path) -> None:
    cohort, out = write_cohort(tmp_path / "cohort", tokens=True), tmp_path / "out"
    train_recipe(make_recipe("wsi-llava-7b", overrides(given)), cohort, out, command="stage2")
    parts, config = load_checkpoint(out / "start/checkpoint")
    assert parts.slide_encoder is not None
    assert parts.alignment is not None
    assert parts.llava is not None
    slides = torch.load(given["slide_weights"], weights_only=True)["model"]
    for key, value in parts.slide_encoder.state_dict().items():
        torch.testing.assert_close(value, slides[key], rtol=0, atol=0)
    language = LlamaForCausalLM.from_pretrained(given["language.path"], dtype=torch.bfloat16)
    for key, value in language.model.state_dict().items():
        torch.testing.assert_close(
            parts.llava.model.language_model.state_dict()[key], value.float(), rtol=0, atol=0
        )
    text = BertModel.from_pretrained(given["text_encoder"])
    ids = torch.tensor([[5, 6, 7]])
    with torch.inference_mode():
        torch.testing.assert_close(
            parts.alignment.text.bert(ids, torch.ones_like(ids)).last_hidden_state,
            text.eval()(ids).last_hidden_state,
        )
    assert config.alignment.class_name == "BertModel"
    assert parts.text_tokenizer is not None


def test_closed_questions_are_asked_and_calibrated_on(given: dict[str, Path], tmp_path: Path) -> None:
    cohort, out = write_cohort(tmp_path / "cohort", tokens=False), tmp_path / "out"
    rows = [
        f"grade,{name}.pt,{1 + i % 2},\"['grade 1', 'grade 2']\",what grade?\n"
        for i, name in enumerate(NAMES)
    ]
    (cohort / "questions.csv").write_text(QUESTION + "".join(rows))
    train_recipe(make_recipe("wsi-llava-7b", overrides(given)), cohort, out)
    record = json.loads((out / "model/metrics.json").read_text())
    assert record["questions"] == 2
    assert record["figures"]["closed"] in (0.0, 0.5, 1.0)
    parts, config = load_checkpoint(out / "model/checkpoint")
    assert parts.words is None  # a pretrained language model knows more words than the cohort
    assert config.familiarity.question_nll is not None
    assert "words.txt" not in (out / "model/checkpoint/MODEL_CARD.md").read_text()


def test_a_file_that_is_not_finite_stops_the_step(given: dict[str, Path], tmp_path: Path) -> None:
    cohort = write_cohort(tmp_path / "cohort", tokens=False)
    write_trident(cohort / f"features/{NAMES[2]}.h5", np.full((4, CHANNELS), np.nan, np.float32))
    with pytest.raises(FeatureStoreError, match=f"{NAMES[2]}.*not finite"):
        train_recipe(
            make_recipe("wsi-llava-7b", overrides(given)), cohort, tmp_path / "out", command="stage1"
        )


def test_stage_1_has_nothing_to_train_where_tokens_are_given(given: dict[str, Path], tmp_path: Path) -> None:
    cohort = write_cohort(tmp_path / "cohort", tokens=True)
    with pytest.raises(RunError, match="no step 'stage1'"):
        train_recipe(
            make_recipe("wsi-llava-7b", overrides(given)), cohort, tmp_path / "out", command="stage1"
        )


def test_features_of_another_width_are_refused_by_name(given: dict[str, Path], tmp_path: Path) -> None:
    cohort = write_cohort(tmp_path / "cohort", tokens=False)
    write_trident(cohort / f"features/{NAMES[1]}.h5", np.zeros((4, 5), np.float32))
    with pytest.raises(RunError, match=f"{NAMES[1]} have 5 channels, but the recipe reads 8"):
        train_recipe(
            make_recipe("wsi-llava-7b", overrides(given)), cohort, tmp_path / "out", command="stage1"
        )


def test_a_folder_that_is_no_model_is_told(tmp_path: Path, world: Any) -> None:
    recipe = make_recipe("wsi-llava-7b")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="text encoder"):
        pretrained_text(str(tmp_path / "empty"), recipe.alignment)
    settings = recipe.language.model_copy(update={"path": str(tmp_path / "empty")})
    with pytest.raises(CheckpointError, match="no tokenizer"):
        pretrained_language(settings)
    world.tokenizer.save_pretrained(tmp_path / "empty")
    with pytest.raises(CheckpointError, match="language model"):
        pretrained_language(settings)
