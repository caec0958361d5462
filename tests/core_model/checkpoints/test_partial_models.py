"""Models as others release them: without some parts, with an `<image>` beyond the words; how they write."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from llava_folders import llama, qwen

from core_model import load_model
from core_model.checkpoints.folder import new_model, save_checkpoint
from core_model.checkpoints.parts import Parts
from core_model.config import GenerationConfig, ModelConfig
from core_model.errors import CheckpointError, FeatureStoreError, GiantError, UsageError
from core_model.features.slide_tokens import SlideTokens, open_slide_tokens
from core_model.features.tiles import TileFeatures
from core_model.language.wsi_llava import write

OPTIONS = ["absent", "focal", "extensive necrosis"]
QUESTION = "Is there necrosis?"
Make = Callable[..., Any]


@pytest.fixture
def make(tmp_path: Path, tiny_config: ModelConfig, tiny_tokenizer: Any) -> Make:
    """Save a model of some parts, with `changed` in its configuration, and load it."""

    def made(*only: str, name: str = "released", load: dict[str, Any] | None = None, **changed: Any) -> Any:
        config = tiny_config.model_copy(update={"name": name, **changed})
        parts = new_model(config, tiny_tokenizer, seed=3, only=only)
        save_checkpoint(tmp_path / name, parts, config)
        return load_model(tmp_path / name, device="cpu", **(load or {}))

    return made


def tokens(seed: int = 0, shape: tuple[int, int] = (4, 24)) -> SlideTokens:
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return SlideTokens(values, "slide", "digest")


def features(channels: int = 12) -> TileFeatures:
    rng = np.random.default_rng(0)
    coords = np.array([(0, 0), (64, 0), (0, 64)], dtype=np.int64)
    return TileFeatures(rng.normal(size=(3, channels)).astype(np.float32), coords, 64, 16.0, 0.25, "any")


# ---- parts ----


def test_language_model_and_projector_answer_from_slide_tokens(make: Make) -> None:
    model = make("language_model")
    scores = model.score_options(tokens(), QUESTION, OPTIONS)
    assert scores.sum() == pytest.approx(1)
    assert np.abs(scores - model.score_options(tokens(1), QUESTION, OPTIONS)).max() > 0
    assert model.answer(tokens(), QUESTION, OPTIONS) == OPTIONS[int(scores.argmax())]
    text, probability = model.generate(tokens(), QUESTION, max_new_tokens=4)
    assert isinstance(text, str)
    assert 0 < probability <= 1
    assert model.question_unfamiliarity(QUESTION, OPTIONS) is not None
    assert torch.equal(model.slide_tokens(tokens()), tokens().tokens)


@pytest.mark.parametrize(
    ("use", "says"),
    [
        (lambda model: model.tile_encoder, "has no tile encoder.*features"),
        (lambda model: model.slide_tokens(features()), r"has no slide encoder.*slide tokens \(.pt\)"),
        (lambda model: model.embed_text(["grade"]), "has no alignment.*--mode slide"),
        (lambda model: model.embed_slide(features()), "has no alignment.*--mode slide"),
        (lambda model: model.embed_tiles(features()), "has no alignment.*--mode slide"),
    ],
)
def test_what_needs_a_missing_part_names_it_and_what_works_instead(
    make: Make, use: Callable[[Any], Any], says: str
) -> None:
    model = make("language_model")
    with pytest.raises(CheckpointError, match=f"'released' {says}") as caught:
        use(model)
    assert "\n" not in str(caught.value)
    assert not model.has("tile_encoder")
    assert model.has("llava")


def test_a_checkpoint_of_an_earlier_stage_says_so_when_asked(make: Make) -> None:
    model = make("slide_encoder", "alignment")
    assert model.embed_text(["grade"]).shape == (1, 8)
    assert model.slide_tokens(features()).shape == (4, 24)  # nobody says whose features these must be
    with pytest.raises(CheckpointError, match=r"no language model.*later training stage"):
        model.answer(features(), QUESTION, OPTIONS)
    with pytest.raises(FeatureStoreError, match="13 channels"):
        model.slide_tokens(features(13))


def test_slide_tokens_of_another_shape_are_refused(make: Make, tmp_path: Path) -> None:
    model = make("language_model")
    with pytest.raises(FeatureStoreError, match=r"shape \(5, 24\), 'released' reads \(4, 24\)"):
        model.answer(tokens(shape=(5, 24)), QUESTION, OPTIONS)
    torch.save(tokens().tokens.half(), tmp_path / "TCGA-1.pt")
    found = open_slide_tokens(tmp_path / "TCGA-1.pt", 4, 24)
    assert (found.name, len(found.id), len(found)) == ("TCGA-1", 64, 4)
    assert torch.equal(found.tokens, tokens().tokens.half().float())


@pytest.mark.parametrize("pooling", ["mean", "class"])
def test_one_token_may_stand_for_the_slide(make: Make, pooling: str) -> None:
    parts = ("slide_encoder", "language_model")
    model = make(*parts, n_tokens=1, pooling=pooling)
    assert model.slide_tokens(features()).shape == (1, 24)
    assert model.score_options(features(), QUESTION, OPTIONS).sum() == pytest.approx(1)
    many = model.config.model_dump() | {"n_tokens": 4}
    with pytest.raises(ValueError, match="gives one token"):
        ModelConfig.model_validate(many)


# ---- language models of others ----


@pytest.fixture
def foreign(make: Make, tiny_config: ModelConfig) -> Make:
    """A model whose `<image>` has no row, as Vicuna and Qwen have it."""

    def made(kind: str = "LlamaForCausalLM", **given: Any) -> Any:
        from core_model.language.tokenizer import prepared

        template = "chatml" if kind == "Qwen2ForCausalLM" else "vicuna_v1"
        tokenizer = prepared(
            qwen() if template == "chatml" else llama("".join(map(chr, range(65, 123)))), template
        )
        language = tiny_config.language_model.model_copy(
            update={"class_name": kind, "vocab_size": 0, "tie_embeddings": False, "max_positions": 900}
            | {"embed_dim": 64, "ffn_dim": 128}  # multiples of 64, which packing on a CPU wants
        )
        config = tiny_config.model_copy(
            update={"language_model": language, "template": template, "system": "Be kind.", "name": "foreign"}
        ).for_tokenizer(tokenizer)
        parts = new_model(config, tokenizer, seed=3, only=("language_model",))
        folder = make("tile_encoder").folder.with_name("foreign")
        save_checkpoint(folder, parts, config)
        return load_model(folder, device="cpu", **given)

    return made


@pytest.mark.parametrize("kind", ["LlamaForCausalLM", "Qwen2ForCausalLM"])
def test_an_image_without_a_row_is_no_hindrance(foreign: Make, kind: str) -> None:
    model = foreign(kind)
    language = model.config.language_model
    assert language.image_id == language.vocab_size
    how = {"temperature": 0.7, "no_repeat_ngram": 2, "max_new_tokens": 12}
    text, _ = model.generate(tokens(), QUESTION, OPTIONS, **how)
    assert model.generate(tokens(), QUESTION, OPTIONS, **how)[0] == text
    scores = model.score_options(tokens(), QUESTION, OPTIONS)
    assert scores.sum() == pytest.approx(1)
    assert model.question_nll(QUESTION) > 0
    assert (language.bos_id is None) == (kind == "Qwen2ForCausalLM")


# ---- generation ----


def test_the_configuration_says_how_to_write(make: Make, tiny_config: ModelConfig) -> None:
    drawn = make("language_model", generation=GenerationConfig(temperature=1.5, max_new_tokens=20))
    greedy = make("language_model", name="greedy", generation=GenerationConfig(max_new_tokens=20))
    first = drawn.generate(tokens(), QUESTION)
    assert drawn.generate(tokens(), QUESTION) == first  # one seed, one text
    assert drawn.generate(tokens(), QUESTION, seed=1) != first
    assert drawn.generate(tokens(), QUESTION, temperature=0) == greedy.generate(tokens(), QUESTION)
    before = greedy.usage.tokens_out
    greedy.generate(tokens(), QUESTION, max_new_tokens=3)
    assert greedy.usage.tokens_out - before <= 3
    with pytest.raises(UsageError, match="generation: temperature"):
        drawn.generate(tokens(), QUESTION, temperature=-1)
    with pytest.raises(UsageError, match="generation: top_p"):
        drawn.generate(tokens(), QUESTION, top_p=0.9)
    assert tiny_config.generation == GenerationConfig()


def test_room_is_left_for_slide_and_question(make: Make) -> None:
    """The published setting, 1,024 new tokens, is more than this model can read at all."""
    model = make("language_model", generation=GenerationConfig(max_new_tokens=1024))
    before = model.usage.tokens_out
    model.generate(tokens(), QUESTION)
    assert model.usage.tokens_out - before <= model.config.language_model.max_positions // 2


def test_drawing_changes_nobody_else_s_random_numbers(make: Make) -> None:
    model = make("language_model")
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    model.generate(tokens(), QUESTION, temperature=0.9)
    assert torch.equal(torch.rand(1), expected)


def test_no_run_of_words_is_written_twice(make: Make) -> None:
    """A random model soon repeats itself; the prompt's own runs do not count."""
    model = make("language_model")
    prompt = [2, *[4] * 4, *[30, 31, 32] * 5]
    seen = tokens().tokens[None]
    free, _ = write(model.need("llava"), seen, prompt, GenerationConfig(max_new_tokens=40))
    ruled, _ = write(
        model.need("llava"), seen, prompt, GenerationConfig(max_new_tokens=40, no_repeat_ngram=3)
    )
    assert repeats(free, 3) > 0
    assert repeats(ruled, 3) == 0
    first = next(i for i, (a, b) in enumerate(zip(free, ruled, strict=False)) if a != b)
    assert repeats(free[: first + 1], 3) == 1  # it departs exactly where the rule first bites


def repeats(ids: list[int], n: int) -> int:
    runs = [tuple(ids[i : i + n]) for i in range(len(ids) - n + 1)]
    return len(runs) - len(set(runs))


def test_words_are_drawn_as_often_as_they_are_likely(make: Make) -> None:
    """The share of each first word over many seeds against the softmax at that temperature."""
    from core_model.language.wsi_llava import _Draw

    logits = torch.tensor([[2.0, 1.0, 0.0, -torch.inf]])
    draws = 4000
    counts = np.zeros(4)
    for seed in range(draws):
        rule = _Draw(GenerationConfig(temperature=0.5, seed=seed))
        counts[int(rule(torch.zeros(1, 0), logits).argmax())] += 1
    expected = torch.softmax(logits[0] / 0.5, -1).numpy()
    np.testing.assert_allclose(counts / draws, expected, atol=4 * np.sqrt(0.25 / draws))
    assert counts[3] == 0


# ---- types and bits ----


def test_a_cpu_computes_in_float32_unless_told(make: Make) -> None:
    assert make("language_model").need("llava").dtype == torch.float32
    stored = make("language_model", name="stored", load={"dtype": torch.bfloat16})
    assert stored.need("llava").dtype == torch.bfloat16
    full = load_model(stored.folder, device="cpu")
    found, expected = (m.score_options(tokens(), QUESTION, OPTIONS) for m in (stored, full))
    np.testing.assert_allclose(found, expected, atol=0.05)


@pytest.mark.parametrize("bits", [4, 8])
def test_packed_weights_answer_nearly_as_full_ones(foreign: Make, bits: int) -> None:
    pytest.importorskip("bitsandbytes")
    packed, full = foreign(bits=bits, dtype=torch.float32), foreign()
    kinds = {type(module).__name__ for module in packed.need("llava").modules()}
    assert {4: "Linear4bit", 8: "Linear8bitLt"}[bits] in kinds
    assert type(packed.need("llava").lm_head) is torch.nn.Linear
    found, expected = (m.score_options(tokens(), QUESTION, OPTIONS) for m in (packed, full))
    np.testing.assert_allclose(found, expected, atol=0.1)
    assert np.abs(found - expected).max() > 0
    assert packed.generate(tokens(), QUESTION, max_new_tokens=4)[1] > 0


def test_packing_without_the_library_says_what_to_install(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from core_model.language import quantize

    def missing(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named '{name}'")

    monkeypatch.setattr(quantize, "import_module", missing)
    with pytest.raises(GiantError, match="pip install bitsandbytes"):
        make("language_model", load={"bits": 4})
    with pytest.raises(UsageError, match="5 bits"):
        make("language_model", name="odd", load={"bits": 5})


def test_an_old_configuration_still_means_what_it_did(make: Make) -> None:
    """A folder written before templates, generation and pooling were configured."""
    model = make("language_model")
    config = json.loads((model.folder / "config.json").read_text())
    for name in ("template", "generation", "pooling", "encoder_dtype"):
        del config[name]
    assert ModelConfig.model_validate(config) == model.config
    assert Parts().states() == {}
