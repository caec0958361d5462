"""Slide tokens as WSI-LLaVA's authors release them: one `.pt` file of 576 x 1024 numbers for each slide.

They are what the slide encoder would give, already pooled, normalised and padded to the projector's width.
Letters: n slide tokens, C channels of a slide token.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from core_model.errors import FeatureStoreError
from core_model.features.tiles import SlideTokens
from core_model.weights import load_torch

__all__ = ["SlideTokens", "open_slide_tokens", "read_slide_tokens"]

_FIX = "Check that it is a released feature file"


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
    if not path.is_file():
        raise FeatureStoreError("there is no such file of slide tokens", where=path)
    content = load_torch(path, "slide tokens", FeatureStoreError, _FIX)
    if not isinstance(content, Tensor):
        raise _unusable(path, f"it holds {_kind(content)}, not one tensor")
    shape = tuple(content.shape)
    if shape not in ((n, channels), (1, n, channels)):
        raise _unusable(path, f"its tensor has shape {shape} where ({n}, {channels}) is needed")
    if not content.is_floating_point() or content.layout is not torch.strided:
        raise _unusable(
            path, f"its tensor is {content.layout} of {content.dtype}, not plain floating-point numbers"
        )
    tokens = content.detach().reshape(n, channels).to(torch.float32, copy=True)  # (n, C), no longer mapped
    if bad := int((~torch.isfinite(tokens)).sum()):
        raise _unusable(path, f"of its {tokens.numel()} numbers {bad} are not finite in float32")
    return tokens.contiguous()


def _kind(content: Any) -> str:
    """The content of a file in few words: the names of a dictionary help to see whose file it is."""
    if isinstance(content, dict):
        names = ", ".join(str(name) for name in list(content)[:5])
        return f"a dictionary ({names}{', …' if len(content) > 5 else ''})"
    return f"a {type(content).__name__}"


def _unusable(path: Path, why: str) -> FeatureStoreError:
    return FeatureStoreError(f"slide tokens cannot be used: {why}", where=path, fix=_FIX)
