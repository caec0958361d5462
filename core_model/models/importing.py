"""Released checkpoints of WSI-LLaVA, put together to one model folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from core_model.checkpoints.parts import Parts
    from core_model.config import ModelConfig


def read_released(llava: Path, base: Path | None, tokenizer: Path | None) -> tuple[Parts, ModelConfig]:
    """Projector, language model and tokenizer. Raises `CheckpointError`."""
    from core_model.checkpoints.llava import import_llava, with_tokenizer
    from core_model.checkpoints.parts import Parts
    from core_model.errors import CheckpointError

    network, config, own_tokenizer = import_llava(llava, base)
    if tokenizer is not None:
        config, own_tokenizer = with_tokenizer(config, tokenizer)
    if own_tokenizer is None:
        raise CheckpointError(
            "the folder holds no tokenizer", where=llava, fix="give a folder that does: --tokenizer DIR"
        )
    return Parts(llava=network, tokenizer=own_tokenizer), config


def add_encoders(parts: Parts, config: ModelConfig, tiles: str | None, slides: Path | None) -> ModelConfig:
    """Read the encoders into `parts`; returns the configuration with theirs.

    Raises `CheckpointError` where they do not fit each other or the projector.
    """
    from pydantic import ValidationError

    from core_model.errors import CheckpointError
    from core_model.models.tile_encoders import read_tile_network

    updates: dict[str, Any] = {}
    if slides is not None:
        updates |= _slide_encoder(parts, slides)
    if tiles is not None:
        parts.tile_encoder, tile_config = read_tile_network(tiles)
        updates["tile_encoder"] = tile_config.model_dump()
    try:
        return type(config).model_validate(config.model_dump() | updates)
    except ValidationError as error:
        why = str(error.errors(include_url=False)[0]["msg"]).removeprefix("Value error, ")
        raise CheckpointError(
            f"the encoders do not fit: {why}", fix="give the two that were trained together"
        ) from error


def card(parts: Parts, config: ModelConfig) -> str:
    """The model card of an imported checkpoint: what it has and what it cannot do."""
    encoders = [name for name in ("tile_encoder", "slide_encoder") if getattr(parts, name) is not None]
    part_names = ", ".join([*encoders, "projector", "language model"]).replace("_", " ")
    return (
        f"# {config.name}\n\nImported from LLaVA's format. It holds: {part_names}.\n\n"
        "It was not calibrated here and does not know what is unlike its training data: it answers every"
        " question, and its probabilities are the language model's own. It has no text alignment, so it is"
        " asked with `--mode slide`.\n"
    )


def _slide_encoder(parts: Parts, place: Path) -> dict[str, Any]:
    """The slide encoder; one of a checkpoint folder brings the description of its tile encoder with it."""
    from core_model.checkpoints.folder import MANIFEST, load_checkpoint

    if (place / MANIFEST).is_file():
        source, config = load_checkpoint(place, need=("slide_encoder",), only=("slide_encoder",))
        parts.slide_encoder = source.slide_encoder
        return config.model_dump(include={"slide_encoder", "tile_encoder"})
    from core_model.encoders.slide_encoder import load_slide_encoder

    parts.slide_encoder = load_slide_encoder(place)
    return {"slide_encoder": parts.slide_encoder.config.model_dump()}
