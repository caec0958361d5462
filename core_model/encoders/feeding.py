"""How prepared tiles reach the device of an encoder, and how its features come back.

On a CPU one step is computed after the other. On a GPU the steps of a batch are queued: pixels go through
pinned memory while the step before them is computed, and the program waits once, at the end of the batch.
The queue is tested on a CPU only: pinned memory, copies behind the program's back and compiled networks
have not been run on a GPU.

Letters: n tiles of a step, P side of the image that the network sees, px, D channels of a feature.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from core_model.devices import wait_for_device

STEP_TILES = {"cpu": 32, "cuda": 128}
"""Tiles that a network computes at once. A constant of the kind of device: the last bits may depend on it."""

Forward = Callable[[torch.Tensor], torch.Tensor]
Parts = Sequence[np.ndarray]
"""The tiles of one step, in parts: (…, 3, P, P) float32 each, n in all."""


def step_tiles(device: str) -> int:
    """Tiles of a step on this device."""
    return STEP_TILES.get(torch.device(device).type, STEP_TILES["cpu"])


def run_steps(forward: Forward, steps: Sequence[Parts], device: str) -> list[np.ndarray]:
    """(n, D) float32 of each step; `forward` takes (n, 3, P, P) on the device."""
    if torch.device(device).type == "cuda":
        return run_queued(forward, steps, device, pinned=True)
    return [_numbers(forward(_joined(parts))) for parts in steps]


def run_queued(forward: Forward, steps: Sequence[Parts], device: str, pinned: bool) -> list[np.ndarray]:
    """The same, all steps queued before the first is waited for."""
    sent, returned = [], []
    for parts in steps:
        pixels = _joined(parts)
        sent.append(pixels.pin_memory() if pinned else pixels)  # kept until the device has read it
        features = forward(sent[-1].to(device, non_blocking=pinned)).float()
        back = torch.empty(features.shape, dtype=torch.float32, pin_memory=pinned)
        returned.append(back.copy_(features, non_blocking=pinned))
    wait_for_device(device)
    return [_numbers(features) for features in returned]


def _joined(parts: Parts) -> torch.Tensor:
    tensors = [torch.from_numpy(part) for part in parts]
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors)  # (n, 3, P, P)


def _numbers(features: torch.Tensor) -> np.ndarray:
    # A copy: a view would keep all tokens of the step in memory, 4.8 MB for 32 tiles.
    return features.float().cpu().numpy().copy()
