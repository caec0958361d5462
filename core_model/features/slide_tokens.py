"""Slide tokens as WSI-LLaVA's authors release them: one `.pt` file of 576 x 1024 numbers for each slide.

They are what the slide encoder would give, already pooled, normalised and padded to the projector's width.
"""

from __future__ import annotations

import hashlib
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from core_model.errors import FeatureStoreError


@dataclass(frozen=True)
class SlideTokens:
    """A slide as the language model reads it, and nothing else of it."""

    tokens: Tensor
    """(n, C) float32."""
    name: str
    """The file's stem."""
    id: str
    """sha256 of the file."""

    def __len__(self) -> int:
        return len(self.tokens)


def open_slide_tokens(path: str | Path, n: int, channels: int) -> SlideTokens:
    """A `.pt` file with what tells it from others. Raises what `read_slide_tokens` raises."""
    path = Path(path)
    tokens = read_slide_tokens(path, n, channels)
    with path.open("rb") as file:
        return SlideTokens(tokens, path.stem, hashlib.file_digest(file, "sha256").hexdigest())


def read_slide_tokens(path: str | Path, n: int = 576, channels: int = 1024) -> Tensor:
    """The (n, channels) float32 slide tokens of a `.pt` file; the defaults are the released shape.

    The file holds one bare tensor of floating-point numbers, (n, channels) or (1, n, channels), and is read
    with `weights_only=True`. Raises `FeatureStoreError` where it is missing, damaged or anything else, or
    holds a number that is not finite.
    """
    path = Path(path)
    found = _loaded(path)
    if not isinstance(found, Tensor):
        raise _unusable(path, f"it holds {_kind(found)}, not one tensor")
    shape = tuple(found.shape)
    if shape not in ((n, channels), (1, n, channels)):
        raise _unusable(path, f"its tensor has shape {shape} where ({n}, {channels}) is needed")
    if not found.is_floating_point() or found.layout is not torch.strided:
        raise _unusable(
            path, f"its tensor is {found.layout} of {found.dtype}, not plain floating-point numbers"
        )
    tokens = found.detach().reshape(n, channels).to(torch.float32)  # (n, C)
    if bad := int((~torch.isfinite(tokens)).sum()):
        raise _unusable(path, f"of its {tokens.numel()} numbers {bad} are not finite in float32")
    return tokens.contiguous()


def _loaded(path: Path) -> Any:
    if not path.is_file():
        raise FeatureStoreError("slide tokens are not there", where=path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _unusable(path, "it is damaged, or holds more than tensors") from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, AttributeError, IndexError) as error:
        raise _unusable(path, f"it is damaged ({type(error).__name__})") from error


def _kind(found: Any) -> str:
    """What a file holds, in few words: the names of a dictionary help to see whose file it is."""
    if isinstance(found, dict):
        names = ", ".join(str(name) for name in list(found)[:5])
        return f"a dictionary ({names}{', …' if len(found) > 5 else ''})"
    return f"a {type(found).__name__}"


def _unusable(path: Path, why: str) -> FeatureStoreError:
    return FeatureStoreError(
        f"slide tokens cannot be used: {why}", where=path, fix="Check that it is a released feature file"
    )
