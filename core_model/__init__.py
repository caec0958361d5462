"""From a slide's pixels to features, tokens and words. Names are loaded when they are first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from core_model.features.store import FeatureStore
    from core_model.models.tile_encoders import load_tile_encoder
    from core_model.models.wsi_llava import load_model
    from core_model.slides.slide import open_slide

_HOME = {
    "FeatureStore": "features.store",
    "load_model": "models.wsi_llava",
    "load_tile_encoder": "models.tile_encoders",
    "open_slide": "slides.slide",
}

__all__ = ["FeatureStore", "load_model", "load_tile_encoder", "open_slide"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'core_model' has no attribute '{name}'")
    return getattr(import_module(f"core_model.{_HOME[name]}"), name)
