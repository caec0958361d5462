"""The language model that reads slides, against LLaVA's own outputs and its own cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from core_model.config import LanguageModelConfig, ModelConfig, SlideEncoderConfig, TileEncoderConfig
from core_model.wsi_llava import WsiLlavaForConditionalGeneration, llava_config


@pytest.fixture
def reference(shared: Path) -> tuple[WsiLlavaForConditionalGeneration, dict[str, torch.Tensor]]:
    """A small LLaVA checkpoint in our model, and what LLaVA's code computed with it."""
    folder = shared / "goldens" / "wsi_llava_checkpoint"
    language = LanguageModelConfig(
        vocab_size=128,
        embed_dim=32,
        depth=2,
        heads=4,
        ffn_dim=64,
        rms_eps=1e-6,
        tie_embeddings=False,
        image_id=0,
    )
    config = ModelConfig(
        n_tokens=576,
        feature_dim=1024,
        tile_encoder=TileEncoderConfig(embed_dim=12),
        slide_encoder=SlideEncoderConfig(in_chans=12, embed_dim=12),
        language_model=language,
    )
    llava = WsiLlavaForConditionalGeneration(llava_config(config)).eval()
    names = {
        "model.mm_projector.0": "model.multi_modal_projector.linear_1",
        "model.mm_projector.2": "model.multi_modal_projector.linear_2",
        "lm_head": "lm_head",
    }
    state = {}
    for key, value in load_file(folder / "base" / "model.safetensors").items():
        stem, kind = key.rsplit(".", 1)
        state[names.get(stem, stem.replace("model.", "model.language_model.", 1)) + "." + kind] = value
    llava.load_state_dict(state)
    return llava, load_file(folder / "expected.safetensors")


def with_placeholders(ids: torch.Tensor, image_id: int, fill: int | None = None) -> torch.Tensor:
    """LLaVA's single -200 as 576 placeholders (of `image_id`, or filled with another value)."""
    at = int((ids[0] == -200).nonzero())
    middle = torch.full((1, 576), image_id if fill is None else fill)
    return torch.cat([ids[:, :at], middle, ids[:, at + 1 :]], dim=1)


def expanded(expected: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    at = int((expected["in.input_ids"][0] == -200).nonzero())
    labels = expected["in.labels"]
    ids = with_placeholders(expected["in.input_ids"], 0)
    return ids, torch.cat([labels[:, :at], torch.full((1, 576), -100), labels[:, at + 1 :]], dim=1)


@torch.inference_mode()
def test_logits_and_loss_are_those_of_llava(reference: Any) -> None:
    llava, expected = reference
    ids, labels = expanded(expected)
    out = llava(input_ids=ids, slide_features=expected["in.features"], labels=labels)
    torch.testing.assert_close(out.logits, expected["base.logits"], atol=1e-5, rtol=0)
    torch.testing.assert_close(out.loss[None], expected["base.loss"], atol=1e-5, rtol=0)


@torch.inference_mode()
def test_generation_with_a_cache_writes_what_llava_writes(reference: Any) -> None:
    llava, expected = reference
    ids = with_placeholders(expected["in.input_ids"][:, :6], 0)
    out = llava.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        slide_features=expected["in.features"],
        max_new_tokens=8,
        do_sample=False,
        pad_token_id=0,
        eos_token_id=2,
    )
    assert out[:, ids.shape[1] :].tolist() == expected["base.greedy"].tolist()


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
def test_without_a_slide_it_is_the_language_model_it_was_given(tiny_config: Any) -> None:
    from transformers import LlamaForCausalLM

    torch.manual_seed(3)
    llava = WsiLlavaForConditionalGeneration(llava_config(tiny_config)).eval()
    llama = LlamaForCausalLM(llava_config(tiny_config).text_config).eval()
    llava.take_language_model(llama)
    ids = torch.tensor([[2, 30, 31, 32]])
    torch.testing.assert_close(llava(input_ids=ids).logits, llama(input_ids=ids).logits)
