"""DeepSpeed's ZeRO: its configuration, what goes into its engine, and whole tensors back out of it.

ZeRO-2 divides gradients and optimizer state among the processes, ZeRO-3 the weights too. On GPUs they talk
through nccl, on CPUs through gloo.
"""

from __future__ import annotations

import copy
import gc
import importlib.util
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from core_model.devices import default_device, has_bf16
from core_model.errors import GiantError
from training.engine import ranks
from training.settings import Schedule

Module = TypeVar("Module", bound=nn.Module)

CLIP = 1.0
"""Gradients longer than this are shortened to it."""
BUCKET = 50_000_000
"""Numbers that are sent, or fetched ahead, at a time."""
SMALL = 100_000
"""ZeRO-3 leaves tensors of fewer numbers with every process: norms, biases, the temperature."""


def is_bf16(schedule: Schedule) -> bool:
    """Whether to compute in bfloat16."""
    if schedule.precision == "auto":
        return has_bf16(default_device())
    return schedule.precision == "bfloat16"


def zero_config(schedule: Schedule, world: int, parts: int = 1) -> dict[str, Any]:
    """DeepSpeed's configuration for `parts` micro-batches per step in each of `world` processes.

    The optimizer is ours. In bfloat16, it and the sum of gradients are still float32.
    """
    gpu = torch.cuda.is_available()
    zero: dict[str, Any] = {
        "stage": schedule.zero,
        "overlap_comm": gpu,
        "contiguous_gradients": True,
        "reduce_bucket_size": BUCKET,
        "allgather_bucket_size": BUCKET,
    }
    if schedule.zero == 3:
        zero |= {
            "stage3_prefetch_bucket_size": BUCKET,
            "stage3_param_persistence_threshold": SMALL,
            "stage3_gather_16bit_weights_on_model_save": False,
        }
    if schedule.offload:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": gpu}
    return {
        "train_batch_size": world * parts,
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": parts,
        "gradient_clipping": CLIP,
        "bf16": {"enabled": is_bf16(schedule)},
        "data_types": {"grad_accum_dtype": "fp32"},
        "zero_force_ds_cpu_optimizer": False,
        "zero_optimization": zero,
    }


def prepare_engine(schedule: Schedule) -> None:
    """Set up all that DeepSpeed needs before it begins. Raises GiantError where it is not installed."""
    if schedule.zero and importlib.util.find_spec("deepspeed") is None:
        raise GiantError(
            "ZeRO needs DeepSpeed, which is not installed",
            fix="pip install 'giant-pathology[train]', or train with --set …schedule.zero=0",
        )
    ranks.join(alone=schedule.zero > 0)
    if schedule.zero:
        from deepspeed import ops

        # Sums for inference on CPUs: building them takes a compiler and a minute, and nothing needs them.
        ops.__compatible_ops__["deepspeed_shm_comm"] = False
        warnings.filterwarnings("ignore", r"`torch\.distributed\.\w+` is deprecated", FutureWarning)


@contextmanager
def deepspeed_of(schedule: Schedule) -> Iterator[None]:
    """While it lasts, DeepSpeed may change the process; after it, also after an error, nothing is left of it.

    transformers and accelerate remember that it ran, and would cut up the next model too. ZeRO-3 puts its own
    `linear` in torch's place, which rounds otherwise under autocast.
    """
    linear = nn.functional.linear
    try:
        yield
    finally:
        nn.functional.linear = linear
        if schedule.zero:
            from transformers.integrations.deepspeed import unset_hf_deepspeed_config

            unset_hf_deepspeed_config()
            os.environ.pop("ACCELERATE_USE_DEEPSPEED", None)
            gc.collect()  # engine and model refer to each other


def twin(module: Module) -> Module:
    """A copy of the modules around the very same tensors.

    DeepSpeed cuts up the parameters that it is given and hooks itself into their modules: it gets the
    twin, and the original stays whole.
    """
    memo: dict[int, Any] = {}
    for parameter in module.parameters():
        data = parameter.data if parameter.ndim else parameter.data[None]  # DeepSpeed takes no scalars
        memo[id(parameter)] = nn.Parameter(data, parameter.requires_grad)
    return copy.deepcopy(module, memo)


def whole_tensors(
    parameters: Mapping[str, nn.Parameter], shapes: Mapping[str, nn.Parameter]
) -> dict[str, Tensor]:
    """Trained parameters by name, in float32, on the CPU, in the shapes of their originals.

    DeepSpeed's are those that its optimizer knows; every process must ask for them.
    """
    return {
        name: _whole(parameter).float().cpu().clone().view(shapes[name].shape)
        for name, parameter in parameters.items()
    }


def _whole(parameter: nn.Parameter) -> Tensor:
    if hasattr(parameter, "ds_id") or hasattr(parameter, "_hp_mapping"):  # ZeRO-3, ZeRO-2
        from deepspeed.utils import safe_get_full_fp32_param

        return safe_get_full_fp32_param(parameter)
    return parameter.detach()
