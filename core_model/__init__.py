"""From a slide's pixels to features, tokens and words. Names are loaded when they are first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from core_model.bundle import load_model
    from core_model.features import FeatureStore
    from core_model.slide import open_slide
    from core_model.tile_encoder import load_tile_encoder

_HOME = {
    "FeatureStore": "features",
    "load_model": "bundle",
    "load_tile_encoder": "tile_encoder",
    "open_slide": "slide",
}

__all__ = ["FeatureStore", "load_model", "load_tile_encoder", "open_slide"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'core_model' has no attribute '{name}'")
    return getattr(import_module(f"core_model.{_HOME[name]}"), name)
