"""Dual encoders: tiles and texts in one space."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    CLIPConfig,
    CLIPModel,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipModel,
)

from core_model import load_tile_encoder
from core_model.encoders.two_tower import TwoTowerEncoder
from core_model.errors import CheckpointError

TEXTS = ["necrosis", "a lymph node with tumour", "necrosis " * 40]
SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
PROCESSOR = {
    "size": {"shortest_edge": 40},
    "crop_size": {"height": 32, "width": 32},
    "do_center_crop": True,
    "resample": 3,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}


def tokenizer() -> PreTrainedTokenizerFast:
    """A word-level tokenizer that ends a text as CLIP's does."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    words = ["[UNK]", "<pad>", "a", "necrosis", "lymph", "node", "with", "tumour", "<end>"]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(single="$A <end>", special_tokens=[("<end>", 8)])
    return PreTrainedTokenizerFast(
        tokenizer_object=core, unk_token="[UNK]", pad_token="<pad>", eos_token="<end>"
    )


def write(folder: Path, kind: str) -> Any:
    """A tiny random model of that kind with its tokenizer in `folder`; returns the model."""
    torch.manual_seed(0)
    text = {**SMALL, "vocab_size": 9, "max_position_embeddings": 12, "eos_token_id": 8, "pad_token_id": 1}
    vision = {**SMALL, "image_size": 32, "patch_size": 16}
    model: Any
    if kind == "clip":
        text["bos_token_id"] = 2
        model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=10))
    else:
        model = SiglipModel(SiglipConfig(text_config=text, vision_config=vision))
    for parameter in model.parameters():  # far from their start, where all images look alike
        torch.nn.init.normal_(parameter, std=0.3)
    model.eval().save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    return model


@pytest.fixture(params=["clip", "siglip"])
def towers(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Any, TwoTowerEncoder]:
    model = write(tmp_path / request.param, request.param)
    encoder = load_tile_encoder(tmp_path / request.param, device="cpu")
    assert isinstance(encoder, TwoTowerEncoder)
    encoder.bf16 = False
    return model, encoder


def pictures(n: int) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)) for _ in range(n)]


@torch.inference_mode()
def test_similarities_are_the_models_own(towers: tuple[Any, TwoTowerEncoder]) -> None:
    """Through its whole forward pass, as its authors score images against texts."""
    model, encoder = towers
    seen = torch.from_numpy(encoder.pixels.batch(pictures(4)))
    batch = tokenizer()(TEXTS, padding="max_length", truncation=True, max_length=12, return_tensors="pt")
    mask = {"attention_mask": batch["attention_mask"]} if model.config.model_type == "clip" else {}
    out = model(input_ids=batch["input_ids"], pixel_values=seen, **mask)
    tiles, texts = encoder.encode(pictures(4)), encoder.embed_text(TEXTS)
    np.testing.assert_allclose(tiles, out.image_embeds, atol=1e-5)
    np.testing.assert_allclose(texts, out.text_embeds, atol=1e-5)
    expected = torch.nn.functional.cosine_similarity(out.image_embeds[:, None], out.text_embeds[None], dim=-1)
    np.testing.assert_allclose(tiles @ texts.T, expected, atol=1e-5)


def test_vectors_have_length_one_and_the_shared_width(towers: tuple[Any, TwoTowerEncoder]) -> None:
    model, encoder = towers
    width = 10 if model.config.model_type == "clip" else 16
    assert encoder.dim == width
    assert (encoder.tile_px, encoder.pixels.crop_px) == (40, 32)
    for vectors, rows in ((encoder.encode(pictures(3)), 3), (encoder.embed_text(TEXTS * 30), 90)):
        assert (vectors.shape, vectors.dtype) == ((rows, width), np.float32)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert encoder.embed_text([]).shape == (0, width)


def test_a_text_has_one_vector_whatever_else_is_asked(towers: tuple[Any, TwoTowerEncoder]) -> None:
    together = towers[1].embed_text(TEXTS)
    alone = np.concatenate([towers[1].embed_text([text]) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-6)
    assert np.abs(together[0] - together[1]).max() > 0.01


def test_without_its_tokenizer_it_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "clip")
    for file in tmp_path.glob("token*"):
        file.write_text("{}")
    with pytest.raises(CheckpointError, match="tokenizer cannot be read"):
        load_tile_encoder(tmp_path)


def test_missing_weights_of_either_tower_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    write(tmp_path, "clip")
    state = load_file(tmp_path / "model.safetensors")
    state.pop("text_projection.weight")
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"text_projection\.weight"):
        load_tile_encoder(tmp_path)
