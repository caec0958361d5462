"""`giant import` and `giant export`: WSI-LLaVA's released format becomes a giant checkpoint, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agent.cli.options import opt
from core_model.models.importing import add_encoders, card, read_released


def import_model(
    llava: Annotated[Path, opt("DIR", "Released checkpoint: merged, LoRA or projector.")],
    out: Annotated[Path, opt("DIR", "The checkpoint folder to write.")],
    base: Annotated[Path | None, opt("DIR", "The model that an adapter or a projector belongs to.")] = None,
    tile_encoder: Annotated[
        str | None,
        opt("FILE", "Prov-GigaPath's, or mini, or a checkpoint folder that has one."),
    ] = None,
    slide_encoder: Annotated[Path | None, opt("FILE", "slide_encoder.pth, or a checkpoint folder.")] = None,
    tokenizer: Annotated[Path | None, opt("DIR", "Where the released folder has no tokenizer.json.")] = None,
    name: Annotated[str | None, opt("NAME", "Default: the folder's.")] = None,
) -> None:
    """Make a checkpoint that `ask --mode slide` uses out of a released WSI-LLaVA."""
    from agent.session.models import quieten_libraries
    from core_model.checkpoints.folder import check_place, save_checkpoint

    quieten_libraries(quiet=False)
    check_place(out)
    parts, config = read_released(llava, base, tokenizer)
    config = add_encoders(parts, config, tile_encoder, slide_encoder)
    if name is not None:
        config = config.model_copy(update={"name": name})
    save_checkpoint(out, parts, config, card=card(parts, config))
    typer.echo(str(out))


def export_model(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="mini, or a checkpoint folder.")],
    out: Annotated[Path, opt("DIR", "The folder to write; it must be new or empty.")],
) -> None:
    """Write a model's language model and projector in LLaVA's format."""
    import torch

    from agent.session.models import quieten_libraries
    from core_model.checkpoints.folder import load_checkpoint, read_config
    from core_model.checkpoints.llava import export_llava
    from core_model.checkpoints.parts import LLAVA
    from core_model.models.tile_encoders import MINI

    quieten_libraries(quiet=False)
    folder = MINI if model == "mini" else Path(model)
    dtype = getattr(torch, read_config(folder, verify=False).dtype)
    parts, config = load_checkpoint(folder, need=LLAVA, only=LLAVA, dtype=dtype)
    assert parts.llava is not None
    export_llava(parts.llava, config, out, parts.tokenizer)
    typer.echo(str(out))
