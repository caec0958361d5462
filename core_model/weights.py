"""Files of weights that others made, read safely.

Whatever `torch.load` raises for a file that is not its own is translated here and nowhere else.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core_model.errors import CheckpointError, GiantError

if TYPE_CHECKING:
    from torch import Tensor

_UNREADABLE = (OSError, RuntimeError, EOFError, KeyError, ValueError, IndexError, AttributeError)
"""What torch raises for a file that is damaged, cut or not its own."""


def load_torch(
    file: Path, noun: str = "weights", error_class: type[GiantError] = CheckpointError, fix: str | None = None
) -> Any:
    """The content of a torch file, on the CPU, mapped from the disk where its format allows.

    Only tensors and plain values are read (`weights_only`): nothing in the file is ever executed. Raises
    `error_class`, which calls the content `noun`, where the file is damaged or holds anything else.
    """
    import torch

    try:
        return torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except pickle.UnpicklingError as error:
        reason = "it is damaged, or holds more than tensors"
        raise error_class(f"the file cannot be read as {noun} ({reason})", where=file, fix=fix) from error
    except _UNREADABLE as error:
        reason = f"it is damaged: {first_line(error)}"
        raise error_class(f"the file cannot be read as {noun} ({reason})", where=file, fix=fix) from error


def read_state(file: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors or a torch file by name, mapped from the disk where its format allows.

    Raises `CheckpointError`. Nothing in the file is ever executed.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if file.suffix == ".safetensors":
        try:
            return load_file(file)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(
                f"the file cannot be read as weights ({first_line(error)})", where=file
            ) from error
    state = load_torch(file)
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise CheckpointError("the file is no state dict: it must hold tensors by name", where=file)
    return state


def read_model_entry(path: Path) -> dict[str, Tensor]:
    """The tensors that a torch file holds under "model", as Prov-GigaPath's slide encoder is published.

    Raises `CheckpointError`.
    """
    import torch

    content = load_torch(path, fix="copy or download the file again")
    state = content.get("model") if isinstance(content, dict) else None
    if not isinstance(state, dict):
        raise CheckpointError(
            'the file holds nothing under "model"', where=path, fix="give slide_encoder.pth"
        )
    odd = [
        str(key)
        for key, value in state.items()
        if not (isinstance(value, torch.Tensor) and value.is_floating_point())
    ]
    if odd:
        raise CheckpointError(f"the file holds no weights under {some_names(odd)}", where=path)
    return state


def some_names(names: Iterable[str], most: int = 10) -> str:
    """The first names of a list, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its class where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
