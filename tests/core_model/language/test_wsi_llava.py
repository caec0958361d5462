"""The language model that reads slides: where the slide goes, what learns, and how large it is."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from core_model.config import (
    GenerationConfig,
    LanguageModelConfig,
    ModelConfig,
    SlideEncoderConfig,
    TileEncoderConfig,
)
from core_model.language.wsi_llava import WsiLlavaForConditionalGeneration, llava_config, write

KINDS = ("LlamaForCausalLM", "Qwen2ForCausalLM")


def rowless(config: ModelConfig, kind: str = "LlamaForCausalLM") -> ModelConfig:
    """A language model whose `<image>` lies beyond its embedding, as with published ones."""
    language = config.language_model.model_copy(update={"class_name": kind, "image_id": 999, "kv_heads": 1})
    return config.model_copy(update={"language_model": language})


@pytest.mark.parametrize(
    ("language", "count"),
    [(LanguageModelConfig.vicuna_7b(), 6_738_415_616), (LanguageModelConfig.qwen_7b(), 7_615_616_512)],
)
def test_published_language_models_have_their_size(language: LanguageModelConfig, count: int) -> None:
    config = ModelConfig(
        n_tokens=576,
        feature_dim=1024,
        tile_encoder=TileEncoderConfig.gigapath(),
        slide_encoder=SlideEncoderConfig.gigapath(),
        language_model=language,
    )
    with torch.device("meta"):
        llava = WsiLlavaForConditionalGeneration(llava_config(config))
    sizes = {name: value.numel() for name, value in llava.named_parameters()}
    projector = sum(size for name, size in sizes.items() if "multi_modal_projector" in name)
    width = language.embed_dim
    assert projector == 1024 * width + width + width * width + width
    assert sum(sizes.values()) - projector == count


@torch.inference_mode()
@pytest.mark.parametrize("kind", KINDS)
def test_an_image_beyond_the_embedding_is_where_one_inside_it_is(tiny_config: ModelConfig, kind: str) -> None:
    config = rowless(tiny_config, kind)
    torch.manual_seed(0)
    llava = WsiLlavaForConditionalGeneration(llava_config(config)).eval()
    ids, slide = torch.tensor([[2, *[999] * 4, 9, 10, 3]]), torch.randn(1, 4, 24)
    outside = llava(input_ids=ids, slide_features=slide).logits
    llava.config.image_token_id = 4
    inside = llava(input_ids=ids.masked_fill(ids == 999, 4), slide_features=slide).logits
    assert torch.equal(outside, inside)
    llava.config.image_token_id = 999
    with pytest.raises(ValueError, match="without slide_features"):
        llava(input_ids=ids)


@torch.inference_mode()
def test_generation_from_ids_and_from_embeddings_is_one(tiny_parts: Any, tiny_config: ModelConfig) -> None:
    image = tiny_config.language_model.image_id
    prompt, slide = (
        [2, *[image] * 4, 9, 10, 11],
        torch.randn(1, 4, 24, generator=torch.Generator().manual_seed(1)),
    )
    written, _ = write(tiny_parts.llava, slide, prompt, GenerationConfig(max_new_tokens=8))
    ids = torch.tensor([prompt])
    out = tiny_parts.llava.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        slide_features=slide,
        max_new_tokens=8,
        do_sample=False,
        pad_token_id=0,
        eos_token_id=tiny_config.language_model.eos_id,
    )
    assert out[0, len(prompt) :].tolist() == written


def test_state_dict_names_and_no_vision_tower(tiny_parts: Any) -> None:
    names = set(tiny_parts.llava.state_dict())
    assert {
        f"model.multi_modal_projector.linear_{i}.{kind}" for i in (1, 2) for kind in ("weight", "bias")
    } == {name for name in names if "projector" in name}
    others = {name for name in names if "projector" not in name}
    assert all(name.startswith("model.language_model.") or name == "lm_head.weight" for name in others)


def test_only_the_projector_learns_when_the_rest_is_frozen(tiny_parts: Any, tiny_config: Any) -> None:
    """Stage 2 of training: the gradient reaches the projector through the merged words."""
    llava = WsiLlavaForConditionalGeneration(llava_config(tiny_config))
    llava.requires_grad_(False)
    llava.model.multi_modal_projector.requires_grad_(True)
    image = tiny_config.language_model.image_id
    ids = torch.tensor([[2, *[image] * 4, 9, 10, 3]])
    llava(input_ids=ids, slide_features=torch.randn(1, 4, 24), labels=ids.clone()).loss.backward()
    learned = {name for name, p in llava.named_parameters() if p.grad is not None and p.grad.any()}
    assert learned == {name for name, _ in llava.named_parameters() if "multi_modal_projector" in name}


@pytest.mark.parametrize("placeholders", [(3, 5), (0, 8), (4, 3)])
def test_each_row_needs_its_own_placeholders(
    tiny_parts: Any, tiny_config: Any, placeholders: tuple[int, int]
) -> None:
    """Eight in all would fill two rows of four; the rows are still refused one by one."""
    image = tiny_config.language_model.image_id
    ids = torch.tensor([[image] * n + [9] * (10 - n) for n in placeholders])
    with pytest.raises(ValueError, match="4 <image> tokens"):
        tiny_parts.llava(input_ids=ids, slide_features=torch.zeros(2, 4, 24))


@torch.inference_mode()
@pytest.mark.parametrize("kind", KINDS)
def test_without_a_slide_it_is_the_language_model_it_was_given(tiny_config: ModelConfig, kind: str) -> None:
    import transformers

    torch.manual_seed(3)
    described = llava_config(rowless(tiny_config, kind))
    llava = WsiLlavaForConditionalGeneration(described).eval()
    given = getattr(transformers, kind)(described.text_config).eval()
    llava.take_language_model(given)
    ids = torch.tensor([[2, 30, 31, 32]])
    torch.testing.assert_close(llava(input_ids=ids).logits, given(input_ids=ids).logits)


def test_another_kind_of_language_model_is_not_taken(tiny_config: ModelConfig) -> None:
    from transformers import Qwen2ForCausalLM

    qwen: Any = llava_config(rowless(tiny_config, "Qwen2ForCausalLM")).text_config
    llava = WsiLlavaForConditionalGeneration(llava_config(rowless(tiny_config)))
    with pytest.raises(RuntimeError, match="Unexpected key"):
        llava.take_language_model(Qwen2ForCausalLM(qwen))
