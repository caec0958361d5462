"""Tile encoders that others trained: a transformers folder, or the repository of one on the hub.

A vision transformer gives its class token after the last LayerNorm. A dual encoder gives its projected
image embedding (see `two_tower.py`). What a folder says of its images (`preprocessor_config.json`) holds.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from core_model.encoders.vit import TilePixels, ViTTileEncoder, read_processor
from core_model.errors import CheckpointError

log = logging.getLogger(__name__)

WITH_CLASS_TOKEN = ("vit", "deit", "vit_msn", "dinov2", "dinov2_with_registers", "dinov3_vit")
"""Kinds of network (`model_type`) whose first output token is the class token, after the last LayerNorm."""
TWO_TOWERS = ("clip", "siglip")
"""Kinds with an image and a text tower that meet in one space."""


def model_type(folder: Path) -> str | None:
    """The kind of transformers network in a folder; None where there is none."""
    try:
        kind = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(f"config.json cannot be read ({error})", where=folder) from error
    return str(kind) if kind else None


def load_pretrained(folder: Path, name: str, device: str | None, mpp: float) -> ViTTileEncoder:
    """The encoder in a transformers folder, for tiles at `mpp` µm per px. Raises `CheckpointError`."""
    kind = model_type(folder)
    if kind not in WITH_CLASS_TOKEN + TWO_TOWERS:
        raise CheckpointError(
            f"the folder holds no vision transformer of transformers: its model_type is {kind!r}",
            where=folder,
            fix=f"known are {', '.join(WITH_CLASS_TOKEN)} and, for text search, {', '.join(TWO_TOWERS)}",
        )
    network = _network(folder)
    vision = getattr(network.config, "vision_config", network.config)
    pixels = read_processor(folder, _image_px(vision)) or _assumed(folder, _image_px(vision))
    if kind in TWO_TOWERS:
        from core_model.encoders.two_tower import TwoTowerEncoder, load_tokenizer

        tokenizer = load_tokenizer(folder)
        encoder: ViTTileEncoder = TwoTowerEncoder(
            network, tokenizer, name=name, pixels=pixels, mpp=mpp, device=device
        )
    else:
        network.pooler = None  # not used, random where the folder has none, and counted by the fingerprint
        encoder = ViTTileEncoder(network, name=name, pixels=pixels, mpp=mpp, device=device)
    _try(encoder, folder)
    return encoder


def _network(folder: Path) -> Any:
    """The network in float32 with every weight from the folder."""
    import torch
    from transformers import AutoModel

    try:
        network, report = AutoModel.from_pretrained(
            folder, local_files_only=True, output_loading_info=True, dtype=torch.float32
        )
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(f"transformers cannot load the network ({reason})", where=folder) from error
    wrong = [str(key) for key in report["missing_keys"] if "pooler" not in str(key)]
    wrong += [str(key) for key in report["mismatched_keys"]]
    if wrong:
        raise CheckpointError(
            f"weights are missing or misshapen: {', '.join(sorted(wrong)[:3])}", where=folder
        )
    return network


def _image_px(config: Any) -> int:
    """Side of the images that a network was built for, px."""
    side = config.image_size
    return int(side if isinstance(side, int) else side[0])


def _assumed(folder: Path, image_px: int) -> TilePixels:
    log.warning(
        "%s does not say how its images are prepared (preprocessor_config.json):"
        " tiles of %d px with mean and standard deviation .5 are assumed",
        folder,
        image_px,
    )
    return TilePixels(image_px)


def _try(encoder: ViTTileEncoder, folder: Path) -> None:
    """Encode one tile, so that what does not fit is found now and not after the slide was read."""
    from PIL import Image

    try:
        encoder.encode([Image.new("RGB", (encoder.tile_px, encoder.tile_px))])
    except (ValueError, RuntimeError, TypeError) as error:
        raise CheckpointError(
            f"the network cannot read tiles of {encoder.pixels.side} px ({error})", where=folder
        ) from error
