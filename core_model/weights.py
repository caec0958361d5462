"""Files of weights: reading them safely, and telling one set of weights from another."""

from __future__ import annotations

import hashlib
import pickle
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from core_model.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor, nn


_UNREADABLE = (RuntimeError, EOFError, KeyError, ValueError, pickle.UnpicklingError)
"""What torch raises for a file that is not its own."""


def _read_pth(path: Path) -> dict[str, Tensor]:
    """The tensors under "model", mapped rather than read where the file's format allows it."""
    try:
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"cannot be read as weights ({first})", where=path, fix="copy or download the file again"
        ) from error
    state = found.get("model") if isinstance(found, dict) else None
    if not isinstance(state, dict):
        raise CheckpointError('holds nothing under "model"', where=path, fix="give slide_encoder.pth")
    if odd := [str(key) for key, x in state.items() if not (isinstance(x, Tensor) and x.is_floating_point())]:
        raise CheckpointError(f"holds no weights under {_listed(odd)}", where=path)
    return state


def _listed(names: list[str], most: int = 10) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def read_state(file: Path) -> dict[str, Tensor]:
    """Tensors of a .safetensors or a torch file, mapped from the disk where its format allows.

    Raises `CheckpointError`. Nothing in the file is ever executed.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        state = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except (OSError, SafetensorError, *_UNREADABLE) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"cannot be read as weights ({reason})", where=file) from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise CheckpointError("is no state dict: names with tensors", where=file)
    return state


def fingerprint(module: nn.Module) -> str:
    """The first 16 hex digits of a sha256 over names, shapes and float32 values of all weights."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name}{tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
