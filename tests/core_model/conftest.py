"""Small slides written on the spot, and a model of a few thousand random weights."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

sys.path.insert(0, str(Path(__file__).parent))

WriteSlide = Callable[..., Path]


def halve(rgb: np.ndarray) -> np.ndarray:
    """2x2 means, an odd last row or column cropped, as scanners do."""
    h, w = rgb.shape[0] // 2, rgb.shape[1] // 2
    blocks = rgb[: 2 * h, : 2 * w].reshape(h, 2, w, 2, 3).astype(np.float64)
    return blocks.mean(axis=(1, 3)).round().astype(np.uint8)


@pytest.fixture
def write_slide(tmp_path: Path) -> WriteSlide:
    """Write an RGB array as a tiled, lossless pyramid; `mpp` may be a pair for x and y, or None for none."""

    def write(
        rgb: np.ndarray,
        name: str = "slide.tiff",
        mpp: float | tuple[float, float] | None = 0.5,
        levels: int = 1,
        tile: int = 64,
    ) -> Path:
        path = tmp_path / name
        x, y = mpp if isinstance(mpp, tuple) else (mpp, mpp)
        scale = {"resolution": (1e4 / x, 1e4 / y), "resolutionunit": "CENTIMETER"} if x and y else {}
        with tifffile.TiffWriter(path) as tiff:
            for level in range(levels):
                kind = int(level > 0)
                tiff.write(rgb, tile=(tile, tile), photometric="rgb", compression="adobe_deflate",
                           subfiletype=kind, metadata=None, **scale)  # fmt: skip
                rgb = halve(rgb)
        return path

    return write


@pytest.fixture
def he_image() -> Callable[..., np.ndarray]:
    """Glass with one pink-and-purple rectangle of tissue: (H, W, 3) uint8."""

    def paint(height: int, width: int, tissue: tuple[int, int, int, int], seed: int = 0) -> np.ndarray:
        x, y, w, h = tissue
        rng = np.random.default_rng(seed)
        rgb = np.full((height, width, 3), 243, dtype=np.int16)
        rgb[y : y + h, x : x + w] = (215, 130, 175)
        nuclei = rng.random((h, w)) < 0.1
        rgb[y : y + h, x : x + w][nuclei] = (90, 60, 140)
        rgb += rng.integers(-4, 5, rgb.shape, dtype=np.int16)
        return rgb.clip(0, 255).astype(np.uint8)

    return paint


TEXTS = [
    "USER: \nWhat is the grade of this tumour? ASSISTANT: grade 1</s>",
    "USER: \nIs there necrosis?\nOptions: absent; focal; extensive ASSISTANT: focal</s>",
    "Adenocarcinoma, squamous cell carcinoma, papillary carcinoma, small cell carcinoma, benign tissue.",
]


@pytest.fixture(scope="session")
def tiny_tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    from core_model.language.conversation import BOS, SPECIAL_TOKENS, TOKEN_ROLES

    core = Tokenizer(models.BPE())
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(TEXTS, trainer)
    core.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, 2)])
    return PreTrainedTokenizerFast(tokenizer_object=core, **TOKEN_ROLES)


@pytest.fixture(scope="session")
def tiny_config(tiny_tokenizer: Any) -> Any:
    from core_model import config

    return config.ModelConfig(
        name="tiny",
        n_tokens=4,
        feature_dim=24,
        tile_encoder=config.TileEncoderConfig(embed_dim=12, depth=1, heads=2, ffn_dim=16, tile_px=32),
        slide_encoder=config.SlideEncoderConfig(
            in_chans=12, embed_dim=16, depth=2, heads=2, ffn_dim=16, tile_size=32
        ),
        alignment=config.AlignmentConfig(
            embed_dim=16, depth=1, heads=2, ffn_dim=16, shared_dim=8, max_positions=64
        ),
        language_model=config.LanguageModelConfig(
            embed_dim=16, depth=2, heads=2, kv_heads=2, ffn_dim=24, max_positions=160
        ),
        familiarity=config.FamiliarityConfig(slide_threshold=0.8, question_nll=50.0),
    ).for_tokenizer(tiny_tokenizer)


@pytest.fixture(scope="session")
def tiny_parts(tiny_config: Any, tiny_tokenizer: Any) -> Any:
    """All parts; tests must not change them."""
    from core_model.checkpoints.folder import new_model
    from core_model.features.tiles import fit_familiarity

    parts = new_model(tiny_config, tiny_tokenizer, seed=1)
    parts.familiarity = fit_familiarity(np.random.default_rng(0).normal(size=(200, 12)), k=20, seed=0)
    parts.words = ("absent", "focal", "grade", "necrosis", "tumour")
    return parts


@pytest.fixture
def tiny_checkpoint(tmp_path: Path, tiny_parts: Any, tiny_config: Any) -> Path:
    """A whole checkpoint folder that the test may spoil."""
    from core_model.checkpoints.folder import save_checkpoint

    save_checkpoint(tmp_path / "models" / "tiny", tiny_parts, tiny_config, card="# tiny\nRandom weights.\n")
    return tmp_path / "models" / "tiny"


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory, tiny_parts: Any, tiny_config: Any) -> Any:
    """A loaded model; tests must not change it."""
    from core_model import load_model
    from core_model.checkpoints.folder import save_checkpoint

    folder = tmp_path_factory.mktemp("model") / "tiny"
    save_checkpoint(folder, tiny_parts, tiny_config)
    return load_model(folder, device="cpu")


@pytest.fixture
def timm_state() -> dict[str, Any]:
    """Weights as timm writes them: 2 blocks of 128 channels (2 heads of 64), 3 x 3 patches of 16 px."""
    import torch

    make = torch.Generator().manual_seed(0)
    D, F = 128, 344  # 128 · 4 · 2/3 rounded up to a multiple of 8
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, D), "pos_embed": (1, 10, D), "norm.weight": (D,), "norm.bias": (D,),
        "patch_embed.proj.weight": (D, 3, 16, 16), "patch_embed.proj.bias": (D,),
    }  # fmt: skip
    for i in range(2):
        block = {
            "norm1.weight": (D,), "norm1.bias": (D,), "norm2.weight": (D,), "norm2.bias": (D,),
            "attn.qkv.weight": (3 * D, D), "attn.qkv.bias": (3 * D,),
            "attn.proj.weight": (D, D), "attn.proj.bias": (D,), "ls1.gamma": (D,), "ls2.gamma": (D,),
            "mlp.fc1.weight": (2 * F, D), "mlp.fc1.bias": (2 * F,),
            "mlp.fc2.weight": (D, F), "mlp.fc2.bias": (D,),
        }  # fmt: skip
        shapes |= {f"blocks.{i}.{name}": shape for name, shape in block.items()}
    return {name: torch.randn(shape, generator=make) / 5 for name, shape in shapes.items()}
