"""Pretraining of the small Llama: it learns, weighs answers, saves what loads, and is measured rightly."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from core_model.config import LanguageModelConfig
from core_model.errors import CohortError
from core_model.language.conversation import Turn
from training.cohort.corpus import ReadingDocument, truth_document
from training.language.pretrain import (
    _trainer,
    build_language_model,
    encode_document,
    pretrain_language_model,
    reading_scores,
)
from training.language.tokenizer import train_tokenizer
from training.phantom.truth import BoxTruth
from training.settings import LanguageModelSettings

TINY = LanguageModelConfig(embed_dim=32, depth=1, heads=2, kv_heads=2, ffn_dim=64, max_positions=512)
SETTINGS = LanguageModelSettings(model=TINY, steps=25, batch=4, learning_rate=1e-2, bf16=False)


@pytest.fixture(scope="module")
def texts() -> list[str]:
    rng = np.random.default_rng(0)
    t = BoxTruth(1.0, 0.9, 0.5, 0.1, 700.0, 30.0, "adenocarcinoma", 2)
    return [truth_document(t, rng) for _ in range(40)]


@pytest.fixture(scope="module")
def tokenizer(texts: list[str]) -> Any:
    return train_tokenizer(texts, vocabulary=500)


def test_pretraining_learns_and_leaves_a_folder_that_loads(
    texts: list[str], tokenizer: Any, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer, LlamaForCausalLM

    held_out = [ReadingDocument("Grade 2.", (Turn("Grade?", "grade 2", ("grade 2", "grade 1")),))]
    model = pretrain_language_model(texts, tokenizer, tmp_path, settings=SETTINGS, held_out=held_out)
    log = json.loads((tmp_path / "log.json").read_text())
    assert log["loss"][-1] < log["loss"][0] - 1
    assert log["questions"] == 1
    assert {name: log[name] for name in ("perplexity", "accuracy", "questions")} == pytest.approx(
        reading_scores(model, tokenizer, held_out, SETTINGS.max_length)
    )
    loaded = LlamaForCausalLM.from_pretrained(tmp_path).eval()
    ids = torch.tensor([AutoTokenizer.from_pretrained(tmp_path)(texts[0])["input_ids"]])
    with torch.no_grad():
        assert torch.allclose(model(ids).logits, loaded(ids).logits, atol=1e-5)


def test_the_same_seed_trains_the_same_model(texts: list[str], tokenizer: Any, tmp_path: Path) -> None:
    short = LanguageModelSettings(model=TINY, steps=2, batch=2, bf16=False, seed=3)
    first, second = (
        pretrain_language_model(texts, tokenizer, tmp_path / name, settings=short).state_dict()
        for name in ("a", "b")
    )
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_it_fits_where_the_embedded_model_takes_it(tokenizer: Any) -> None:
    model = build_language_model(TINY, tokenizer)
    assert model.config.vocab_size == len(tokenizer)
    assert model.config.eos_token_id == tokenizer.eos_token_id
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_answers_weigh_more_than_the_rest(tokenizer: Any) -> None:
    text = "USER: Benign.\nGrade? ASSISTANT: no tumour</s>USER: Mitoses? ASSISTANT: low</s>"
    row = encode_document(tokenizer, text, SETTINGS)
    heavy = [token for token, weight in zip(row["input_ids"], row["weights"], strict=True) if weight > 1]
    assert tokenizer.decode(heavy) == " no tumour</s> low</s>"
    assert set(row["weights"]) == {1.0, SETTINGS.answer_weight}


def test_the_loss_is_the_weighted_mean_over_the_tokens_that_are_there(tokenizer: Any, tmp_path: Path) -> None:
    """Padding counts for nothing, however long the other document of the batch is."""
    model = build_language_model(TINY, tokenizer).eval()
    texts = (
        "USER: Grade? ASSISTANT: grade 2</s>",
        "Benign tissue only, no tumour is seen in this slide.</s>",
    )
    rows = [encode_document(tokenizer, text, SETTINGS) for text in texts]
    trainer = _trainer(model, rows, tokenizer.pad_token_id, tmp_path, SETTINGS)
    total, weight = 0.0, 0.0
    for row in rows:
        ids, weights = torch.tensor([row["input_ids"]]), torch.tensor(row["weights"])[1:]
        with torch.no_grad():
            logs = model(ids).logits[0, :-1].log_softmax(-1)
        total -= float((logs[torch.arange(len(weights)), ids[0, 1:]] * weights).sum())
        weight += float(weights.sum())
    loss = trainer.compute_loss(model, trainer.data_collator(rows))
    assert float(loss) == pytest.approx(total / weight, rel=1e-4)


def test_documents_are_closed_and_cut_to_length(tokenizer: Any) -> None:
    assert encode_document(tokenizer, "Benign.", SETTINGS)["input_ids"][-1] == tokenizer.eos_token_id
    long = encode_document(tokenizer, "benign " * 1000, SETTINGS)
    assert len(long["input_ids"]) == len(long["weights"]) == SETTINGS.max_length


def test_reading_is_scored_by_the_likeliest_option(tokenizer: Any) -> None:
    """A model that always finds "yes" likeliest is right where yes is the answer and only there."""
    yes = tokenizer(" yes", add_special_tokens=False)["input_ids"][0]

    def always_yes(input_ids: torch.Tensor) -> Any:
        logits = torch.zeros(*input_ids.shape, len(tokenizer))
        logits[..., yes] = 5.0
        return SimpleNamespace(logits=logits)

    turns = (
        Turn("Tumour?", "yes", ("yes", "no")),
        Turn("Tumour?", "yes", ("no", "yes")),
        Turn("Necrosis?", "no", ("yes", "no")),
        Turn("Describe.", "Benign."),
    )
    model: Any = always_yes
    scores = reading_scores(model, tokenizer, [ReadingDocument("Text.", turns)], 100)
    assert scores["questions"] == 3
    assert scores["accuracy"] == pytest.approx(2 / 3)


def test_perplexity_is_that_of_the_answers_tokens_alone(tokenizer: Any) -> None:
    """A model to which all tokens are alike is as perplexed as its vocabulary is large."""

    def uniform(input_ids: torch.Tensor) -> Any:
        return SimpleNamespace(logits=torch.zeros(*input_ids.shape, len(tokenizer)))

    model: Any = uniform
    turns = (Turn("Grade?", "grade 2", ("grade 2", "grade 1")), Turn("Describe.", "Benign tissue."))
    scores = reading_scores(model, tokenizer, [ReadingDocument("Text.", turns)], 100)
    assert scores["perplexity"] == pytest.approx(len(tokenizer), rel=1e-4)


def test_no_text_is_an_error(tokenizer: Any, tmp_path: Path) -> None:
    with pytest.raises(CohortError, match="no text"):
        pretrain_language_model([], tokenizer, tmp_path)
