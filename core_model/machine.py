"""What this machine lends to one process: processors, memory, GPUs."""

from __future__ import annotations

import os
import re
from pathlib import Path

THREADS = "OMP_NUM_THREADS"
"""Environment variable by which a process is told how many processors it may keep busy."""
GPUS = "CUDA_VISIBLE_DEVICES"
"""Environment variable by which a process is told which GPUs are its own."""

MEMINFO, CGROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup")


def usable_cores() -> int:
    """Processors that this process may keep busy: those it may run on, at most `OMP_NUM_THREADS`."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    told = os.environ.get(THREADS, "")
    return max(1, min(cores, int(told)) if told.isdecimal() and int(told) else cores)


def free_memory() -> int:
    """Bytes that this process may still take: what the system has free, or the limit of its container."""
    return max(0, min(_system_memory(), _container_memory()))


def _system_memory() -> int:
    if MEMINFO.exists() and (found := re.search(r"MemAvailable:\s*(\d+) kB", MEMINFO.read_text())):
        return int(found.group(1)) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def _container_memory() -> int:
    """What a memory limit leaves; the largest number where there is none."""
    try:
        limit, used = (int((CGROUP / f"memory.{name}").read_text()) for name in ("max", "current"))
    except (OSError, ValueError):  # no container, or "max": no limit
        return 1 << 62
    return limit - used


def gpu_names() -> list[str]:
    """What each GPU is called in `CUDA_VISIBLE_DEVICES`; none where there is no GPU. Loads torch."""
    import torch

    count = torch.cuda.device_count()
    told = os.environ.get(GPUS)
    if told is None:
        return [str(number) for number in range(count)]
    return [name.strip() for name in told.split(",") if name.strip()][:count]
