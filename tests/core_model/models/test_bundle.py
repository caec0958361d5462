"""The loaded model: probabilities that add up, vectors of unit length, and honest refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core_model import load_model
from core_model.errors import CheckpointError, FeatureStoreError, NoTissue, UsageError
from core_model.features.tiles import TileFeatures, fit_familiarity
from core_model.language.conversation import Turn, encode_turns
from core_model.slides.box import Box

OPTIONS = ["absent", "focal", "extensive necrosis"]
QUESTION = "Is there necrosis?"


def features(n: int, seed: int = 0, encoder: str = "tiny") -> TileFeatures:
    rng = np.random.default_rng(seed)
    coords = np.stack([np.arange(n) % 5, np.arange(n) // 5], axis=1) * 64
    return TileFeatures(
        rng.normal(size=(n, 12)).astype(np.float32), coords.astype(np.int64), 64, 16.0, 0.25, encoder
    )


def test_an_option_scores_the_likelihood_of_its_words(tiny_model: Any) -> None:
    """The shared cache gives what reading each conversation on its own gives."""
    regions = [features(7), features(3, seed=1)]
    found = tiny_model.score_options_many(regions, QUESTION, OPTIONS)
    for row, region in zip(found, regions, strict=True):
        sums = []
        for option in OPTIONS:
            turn = Turn(QUESTION, option, tuple(OPTIONS))
            ids, labels = (torch.tensor([x]) for x in encode_turns(tiny_model.tokenizer, [turn], 4, 160))
            with torch.inference_mode():
                out = tiny_model.need("llava")(
                    input_ids=ids, slide_features=tiny_model.slide_tokens(region)[None], labels=labels
                )
            sums.append(-float(out.loss) * int((labels[:, 1:] != -100).sum()))
        np.testing.assert_allclose(row, np.exp(sums) / np.exp(sums).sum(), rtol=1e-3)
    np.testing.assert_allclose(found.sum(axis=1), 1.0)
    np.testing.assert_allclose(tiny_model.score_options(regions[1], QUESTION, OPTIONS), found[1], rtol=1e-4)
    assert tiny_model.answer(regions[0], QUESTION, OPTIONS) == OPTIONS[int(found[0].argmax())]


def test_temperature_flattens_the_probabilities(tiny_checkpoint: Path, tiny_model: Any) -> None:
    hot = load_model(tiny_checkpoint, device="cpu")
    calibration = hot.config.calibration.model_copy(update={"temperature": 10.0})
    hot.config = hot.config.model_copy(update={"calibration": calibration})
    warm = tiny_model.score_options(features(5), QUESTION, OPTIONS)
    mild = hot.score_options(features(5), QUESTION, OPTIONS)
    np.testing.assert_allclose(np.log(mild / mild[0]) * 10, np.log(warm / warm[0]), rtol=1e-5)


def test_the_answer_depends_on_the_slide(tiny_model: Any) -> None:
    first, second = (tiny_model.score_options(features(20, seed), QUESTION, OPTIONS) for seed in (0, 1))
    assert np.abs(first - second).max() > 0


def test_a_large_slide_is_encoded_once_and_never_taken_for_another(tiny_model: Any) -> None:
    first, second, copy = features(300, 0), features(300, 1), features(300, 0)
    tokens = [tiny_model.slide_tokens(x) for x in (first, second, first, copy)]
    assert tiny_model.slide_tokens(second).shape == (4, 24)
    assert torch.equal(tokens[0], tokens[2])
    assert torch.equal(tokens[0], tokens[3])
    assert not torch.equal(tokens[0], tokens[1])


def test_generated_text_repeats_and_is_counted(tiny_model: Any) -> None:
    before = tiny_model.usage
    text, probability = tiny_model.generate(features(5), QUESTION, max_new_tokens=6)
    used = tiny_model.usage
    assert tiny_model.generate(features(5), QUESTION, max_new_tokens=6) == (text, probability)
    assert 0 < probability <= 1
    assert 0 < used.tokens_out - before.tokens_out <= 6
    assert used.tokens_in > before.tokens_in + 4
    assert "<" not in text


def test_all_embeddings_are_unit_vectors_in_one_space(tiny_model: Any) -> None:
    many = features(12)
    tiles, slide = tiny_model.embed_tiles(many), tiny_model.embed_slide(many)
    texts = tiny_model.embed_text(["focal necrosis", "a much longer text about necrosis in a tumour"])
    assert (tiles.shape, slide.shape, texts.shape) == ((12, 8), (8,), (2, 8))
    for vectors in (tiles, slide[None], texts):
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=-1), 1, rtol=1e-5)
    assert tiny_model.embed_text([]).shape == (0, 8)


def test_a_tile_embeds_like_a_slide_of_that_tile_alone(tiny_model: Any) -> None:
    many = features(6)
    alone = many.inside(Box(*(int(v) for v in many.coords[3]), 64, 64))
    assert len(alone) == 1
    np.testing.assert_allclose(tiny_model.embed_tiles(many)[3], tiny_model.embed_slide(alone), atol=1e-5)


def test_padding_does_not_change_a_text(tiny_model: Any) -> None:
    short = "grade"
    together = tiny_model.embed_text([short, "a much longer text about necrosis in a tumour"])[0]
    np.testing.assert_allclose(together, tiny_model.embed_text([short])[0], atol=1e-5)


def test_no_tiles_and_foreign_features_are_refused(tiny_model: Any) -> None:
    with pytest.raises(NoTissue):
        tiny_model.answer(features(0), QUESTION, OPTIONS)
    with pytest.raises(FeatureStoreError, match="'other'"):
        tiny_model.answer(features(3, encoder="other"), QUESTION, OPTIONS)
    wide = replace(features(3), features=np.zeros((3, 13), dtype=np.float32))
    with pytest.raises(FeatureStoreError, match="13 channels"):
        tiny_model.embed_slide(wide)


def test_a_question_longer_than_the_model_reads_is_refused(tiny_model: Any) -> None:
    endless = "necrosis " * 200
    with pytest.raises(UsageError, match="at most"):
        tiny_model.generate(features(3), endless, max_new_tokens=4)
    with pytest.raises(UsageError, match="at most"):
        tiny_model.score_options(features(3), endless, OPTIONS)


def test_slides_unlike_the_training_tiles_are_unfamiliar(tiny_model: Any) -> None:
    usual, odd = features(50, seed=5), features(50, seed=5)
    odd.features[:] = odd.features * 3 + 5
    assert tiny_model.slide_unfamiliarity(usual) < 1.5
    assert tiny_model.slide_unfamiliarity(odd) > 3


def test_questions_are_unfamiliar_by_their_words(tiny_model: Any) -> None:
    known, words = tiny_model.question_unfamiliarity("Is the necrosis focal or absent?", None)
    assert (known <= 1, words) == (True, [])
    strange, words = tiny_model.question_unfamiliarity("Which EGFR mutation does the tumour carry?", None)
    assert strange > 1
    assert {"egfr", "mutation"} <= set(words)
    strange, words = tiny_model.question_unfamiliarity("Grade?", ["melanoma", "sarcoma"])
    assert strange > 1
    assert words == ["melanoma", "sarcoma"]
    assert tiny_model.question_unfamiliarity("???", None)[0] > 1


def test_question_surprise_counts_the_question_only(tiny_model: Any) -> None:
    ids = tiny_model.tokenizer("USER: \nGrade? ASSISTANT:", return_tensors="pt")["input_ids"]
    stop = len(tiny_model.tokenizer("USER: \nGrade?")["input_ids"])
    start = len(tiny_model.tokenizer("USER: \n")["input_ids"])
    labels = torch.full_like(ids, -100)
    labels[0, start:stop] = ids[0, start:stop]
    with torch.inference_mode():
        expected = float(tiny_model.need("llava")(input_ids=ids, labels=labels).loss)
    assert tiny_model.question_nll("Grade?") == pytest.approx(expected, rel=1e-4)


def test_k_means_finds_what_there_is_to_find() -> None:
    rng = np.random.default_rng(0)
    centres = np.eye(3) * 9
    points = np.concatenate([centre + rng.normal(scale=0.1, size=(60, 3)) for centre in centres])
    fitted, again = (fit_familiarity(points, k=12, seed=3) for _ in range(2))
    np.testing.assert_array_equal(fitted.centroids, again.centroids)
    assert fitted.distance(points) < 0.05
    assert fitted.distance(np.array([[5.0, 5.0, 1.0]])) > 0.5
    assert len(fit_familiarity(points[:5], k=12).centroids) == 5


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such model folder"):
        load_model(tmp_path / "nothing")
