"""The speed of stages 2 and 3: tokens per second, memory, and the share of the device's rate.

Weights are random and of the recipe's size, so nothing needs to be downloaded. The work counted is what the
stage must do: 2 operations per weight and token forward, and 2 backward for the gradient that passes
through frozen weights; only what learns needs a further 2. Recomputed activations are not counted (MFU,
Chowdhery et al. 2022, appendix B).

Letters: B samples, L tokens of a sample, n slide tokens, C channels of a slide token.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from core_model.devices import device_name, matmul_rate, peak_memory_gb, wait_for_device
from core_model.errors import UsageError
from core_model.language.conversation import IGNORE
from core_model.language.wsi_llava import WsiLlavaForConditionalGeneration, llava_config
from training.stages.conversations import LlavaTask
from training.stages.instruct import add_lora

if TYPE_CHECKING:
    from core_model.config import ModelConfig
    from training.settings import Recipe


SMALL_SIZE = (
    *("n_tokens=16", "feature_dim=64", "slide_encoder.embed_dim=64", "slide_encoder.heads=2"),
    *("language.model.embed_dim=64", "language.model.heads=4", "language.model.kv_heads=4"),
    *("language.model.depth=2", "language.model.ffn_dim=128", "stage3.rank=8", "stage3.alpha=16"),
    *("language.model.vocab_size=512", "language.model.image_id=512"),
)
"""Changes of a recipe that make it a toy."""
SMALL_LENGTH = 64


@dataclass(frozen=True)
class StageSpeed:
    """How fast one stage learns: what `bench_stage` measured."""

    stage: int
    device: str
    parameters: int
    trained: int
    batch: int
    length: int
    """Tokens of a sample, slide tokens included."""
    step_seconds: float
    tokens_per_second: float
    model_flops: float
    """Per second, in operations that the stage must do."""
    matmul_flops: float
    """Per second, of a large bf16 product on the same device in the same run."""
    mfu: float
    """The former over the latter."""
    peak_gb: float

    def sentence(self) -> str:
        """The figures in one line for people."""
        return (
            f"stage {self.stage} on {self.device}: {self.parameters / 1e9:.2f} G parameters,"
            f" {self.trained / 1e6:.1f} M trained, {self.batch} x {self.length} tokens:"
            f" {self.step_seconds:.3f} s a step, {self.tokens_per_second:,.0f} tokens/s,"
            f" {self.model_flops / 1e12:.2f} of {self.matmul_flops / 1e12:.2f} TFLOP/s"
            f" (MFU {100 * self.mfu:.1f} %), peak {self.peak_gb:.2f} GB"
        )

    def record(self) -> dict[str, Any]:
        """The figures as a mapping for JSON."""
        return asdict(self)


def bench_stage(
    recipe: Recipe, stage: int, *, batch: int, length: int, steps: int, device: str, depth: int | None = None
) -> StageSpeed:
    """Time optimizer steps of stage 2 or 3 with random weights; `depth` limits the layers, for a trial."""
    if stage not in (2, 3):
        raise UsageError(f"there is no stage {stage} to time", fix="choose 2 or 3")
    config = recipe.model
    if length <= config.n_tokens + 2:
        raise UsageError(
            f"{length} tokens leave no words beside {config.n_tokens} slide tokens",
            fix="give a larger --length",
        )
    lm = config.language_model.model_copy(
        update={"vocab_size": config.language_model.vocab_size or recipe.vocabulary}
        | ({"depth": depth} if depth else {})
    )
    config = config.model_copy(update={"language_model": lm})
    llava = random_llava(config, device)
    parameters = sum(p.numel() for p in llava.parameters())
    if stage == 3:
        add_lora(llava, recipe.stage3)
    else:
        llava.requires_grad_(False)
        llava.model.multi_modal_projector.requires_grad_(True)
    schedule = (recipe.stage2 if stage == 2 else recipe.stage3).schedule
    task = LlavaTask(llava, schedule.recompute).train()
    parameters_learned = [p for p in task.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters_learned, lr=1e-5, fused=torch.device(device).type == "cuda")
    sample = random_batch(config, batch, length, device)

    def step() -> None:
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            loss = task(**sample)["loss"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    step_seconds = seconds_per_step(step, steps, device)
    flops = step_flops(config, llava, batch, length, sample["labels"], stage) / step_seconds
    rate = matmul_rate(device)
    return StageSpeed(
        stage=stage,
        device=device_name(device),
        parameters=parameters,
        trained=sum(p.numel() for p in parameters_learned),
        batch=batch,
        length=length,
        step_seconds=step_seconds,
        tokens_per_second=batch * length / step_seconds,
        model_flops=flops,
        matmul_flops=rate,
        mfu=flops / rate,
        peak_gb=peak_memory_gb(device),
    )


def random_llava(config: ModelConfig, device: str) -> Any:
    """The network of `config` on the device: bf16 language model, float32 projector."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            llava = WsiLlavaForConditionalGeneration(llava_config(config))
    finally:
        torch.set_default_dtype(before)
    llava.model.multi_modal_projector.float()
    return llava


def random_batch(config: ModelConfig, batch: int, length: int, device: str) -> dict[str, Any]:
    """`batch` samples of `length` tokens: the slide's, then words, of which the last third is learned."""
    n, lm = config.n_tokens, config.language_model
    draw = torch.Generator().manual_seed(0)
    words = torch.randint(4, min(lm.vocab_size, lm.image_id), (batch, length), generator=draw)
    words[:, :n] = lm.image_id
    labels = words.clone()
    labels[:, : n + 2 * (length - n) // 3] = IGNORE
    slide_features = torch.randn((batch, n, config.feature_dim), generator=draw)
    return {
        "slide_features": slide_features.to(device),
        "input_ids": words.to(device),
        "labels": labels.to(device),
        "label_count": float((labels[:, 1:] != IGNORE).sum()),
    }


def seconds_per_step(step: Any, steps: int, device: str) -> float:
    """Seconds of one call of `step`, the mean of `steps` calls after two that are not counted."""
    for _ in range(2):
        step()
    wait_for_device(device)
    since = time.perf_counter()
    for _ in range(steps):
        step()
    wait_for_device(device)
    return (time.perf_counter() - since) / steps


def step_flops(config: ModelConfig, llava: Any, batch: int, length: int, labels: Tensor, stage: int) -> float:
    """Operations of one step: weights of the layers, causal attention, head where a label asks, LoRA."""
    lm, tokens = config.language_model, batch * length
    layers = llava.model.language_model.layers
    frozen = sum(p.numel() for p in layers.parameters() if p.ndim > 1 and not p.requires_grad)
    lora = sum(p.numel() for p in layers.parameters() if p.ndim > 1 and p.requires_grad)
    attention = 4 * lm.depth * lm.embed_dim * length / 2  # per token: scores and sums, half of them masked
    head = 4 * lm.embed_dim * lm.vocab_size * int((labels[:, 1:] != IGNORE).sum())
    projector = sum(p.numel() for p in llava.model.multi_modal_projector.parameters() if p.ndim > 1)
    return tokens * (4 * frozen + 6 * lora + 3 * attention) + head + 6 * projector * batch * config.n_tokens
