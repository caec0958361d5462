"""Several processes that train one model: which of them this is, and how they wait for each other.

torchrun and deepspeed tell every process its place through the environment (RANK, WORLD_SIZE, LOCAL_RANK,
MASTER_ADDR, MASTER_PORT). Alone, a process is rank 0 of 1 and nothing here does anything.

Letters: B rows of a process, E channels, W processes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

from core_model.errors import GiantError, UsageError

Found = TypeVar("Found")

PLACE = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
"""Variables of the environment by which a process knows its place."""
STUCK = timedelta(hours=1)
"""Processes that train wait so long for one that does not answer."""
PATIENCE = timedelta(days=7)
"""Processes wait so long while one alone prepares, saves or evaluates."""


def join(alone: bool = False) -> None:
    """Join the processes that torchrun or deepspeed started with this one, where there are any.

    `alone`: be a group of one even then, as DeepSpeed wants it.
    """
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # without, DeepSpeed looks for others and warns
    several = _number("WORLD_SIZE", 1) > 1
    if distributed.is_initialized() or not (several or alone):
        return
    os.environ.setdefault("LOCAL_RANK", "0")  # read by DeepSpeed too
    how: dict[str, Any] = {} if several else {"store": distributed.HashStore(), "rank": 0, "world_size": 1}
    if torch.cuda.is_available():
        device = torch.device("cuda", _number("LOCAL_RANK", 0))
        torch.cuda.set_device(device)
        distributed.init_process_group("nccl", timeout=STUCK, device_id=device, **how)
    else:
        distributed.init_process_group("gloo", timeout=STUCK, **how)
    _hosts()


def _number(variable: str, default: int) -> int:
    """A whole number from 0 up in the environment. Raises `UsageError`."""
    text = os.environ.get(variable, "").strip() or str(default)
    if not text.isdecimal():
        fix = f"Start with torchrun or deepspeed, which set {variable}, or unset it"
        raise UsageError(f"{variable} is {text}, and not a number", fix=fix)
    return int(text)


def leave() -> None:
    """Leave the other processes, where there are any."""
    _hosts.cache_clear()
    if distributed.is_initialized():
        distributed.destroy_process_group()


def rank() -> int:
    """Number of this process, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def world() -> int:
    """Number of processes."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def is_main() -> bool:
    """Whether this is the process that writes files and speaks."""
    return rank() == 0


def wait() -> None:
    """Go on when every process is here; the others may take days."""
    if world() > 1:
        distributed.barrier(group=_hosts())


@contextmanager
def alone() -> Iterator[None]:
    """Hide the other processes from what runs within: transformers' Trainer would wait for them."""
    variables = {name: os.environ.pop(name) for name in PLACE if name in os.environ}
    try:
        yield
    finally:
        os.environ |= variables


def from_main(work: Callable[[], Found]) -> Found:
    """Run `work` in the main process; every process gets its result, or raises its GiantError."""
    if world() == 1:
        return work()
    message: list[Any] = [None, None]
    if is_main():
        try:
            message[0] = work()
        except GiantError as error:
            message[1] = error
    distributed.broadcast_object_list(message, src=0, group=_hosts())
    if message[1] is not None:
        raise message[1]
    result: Found = message[0]
    return result


def gather(x: Tensor) -> Tensor:
    """Rows (B, E) of every process, in order of rank: (W·B, E). Gradients flow back to their process.

    Every process must give the same shape. A row's gradient is the sum over all processes of what each
    computes from it.
    """
    return x if world() == 1 else _Gather.apply(x)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        every = [torch.empty_like(x) for _ in range(world())]
        distributed.all_gather(every, x.contiguous())
        return torch.cat(every)  # (W·B, E)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        whole = grads[0].clone(memory_format=torch.contiguous_format)  # (W·B, E)
        distributed.all_reduce(whole)
        return whole.chunk(world())[rank()]  # (B, E)


@cache
def _hosts() -> Any:
    """A group over the network of the hosts, which does not lose patience as one of GPUs would."""
    return distributed.new_group(backend="gloo", timeout=PATIENCE)
