"""Which device and number format a model runs in, and how fast this machine multiplies."""

from __future__ import annotations

import platform
import resource
import time
from collections.abc import Callable

import torch

from core_model.errors import UsageError

LARGE, SMALL = 8192, 1024
"""Side of the matrices on a GPU and on a CPU."""


IN_A_ROW = 16
"""Products between two waits for the device, so that waiting takes no share of the time."""


AT_LEAST = 0.5
"""Seconds that a measurement lasts."""


def default_device() -> str:
    """The GPU where there is one, else the CPU."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def usable_device(name: str | None) -> str:
    """The device of that name, the default one for None. Raises `UsageError` where it is not there."""
    if name is None:
        return default_device()
    try:
        kind = torch.device(name).type
    except RuntimeError as error:
        raise UsageError(f"there is no device '{name}'", fix="There are cpu and cuda") from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise UsageError("there is no GPU that this PyTorch can use", fix="Leave --device away")
    return name


def has_bf16(device: str) -> bool:
    """True where the device computes bf16 in hardware: elsewhere it is emulated and slower than float32."""
    if torch.device(device).type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    able = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def wait_for_device(device: str) -> None:
    """Wait until the device has done what it was given: GPUs work behind the program's back."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(work: Callable[[], object], device: str, at_least: float = AT_LEAST) -> float:
    """Seconds that one call takes, over as many calls as fill `at_least`, after one that is not counted."""
    work()
    wait_for_device(device)
    calls, since = 0, time.perf_counter()
    while True:
        work()
        wait_for_device(device)
        calls += 1
        if (seconds := time.perf_counter() - since) >= at_least:
            return seconds / calls


def matmul_rate(device: str, dtype: torch.dtype = torch.bfloat16, side: int | None = None) -> float:
    """FLOP/s that a large square product of this type reaches on the device."""
    side = side or (LARGE if torch.device(device).type == "cuda" else SMALL)
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    work = 2 * side**3 * IN_A_ROW
    return work / seconds_of(lambda: [a @ b for _ in range(IN_A_ROW)], device)


def device_name(device: str) -> str:
    """The device in words, for a table of results."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU {platform.machine()}, {torch.get_num_threads()} threads"


def peak_memory_gb(device: str) -> float:
    """Most memory held so far, GB (10⁹ bytes): of the GPU, or of the process where there is none."""
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
