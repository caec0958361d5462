"""`giant import` and `giant export`: models and features of other tools come in and go out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agent.cli.options import MppOpt, opt
from core_model.models.importing import add_encoders, card, read_released


def import_model(
    out: Annotated[Path, opt("DIR", "The checkpoint folder to write, or the feature store.")],
    llava: Annotated[
        Path | None, opt("DIR", "Released WSI-LLaVA: merged, LoRA or projector; becomes a checkpoint.")
    ] = None,
    features: Annotated[
        Path | None, opt("JOB", "Tile features of TRIDENT, CLAM or AtlasPatch: a folder; becomes an index.")
    ] = None,
    slides: Annotated[
        list[str] | None, opt("SLIDE|DIR", "With --features: the slides they are of; repeat it.")
    ] = None,
    encoder: Annotated[
        str | None, opt("NAME", "With --features: which encoder's, or what CLAM's was called.")
    ] = None,
    mpp: MppOpt = None,
    base: Annotated[Path | None, opt("DIR", "The model that an adapter or a projector belongs to.")] = None,
    tile_encoder: Annotated[
        str | None,
        opt("FILE", "Prov-GigaPath's, or mini, or a checkpoint folder that has one."),
    ] = None,
    slide_encoder: Annotated[Path | None, opt("FILE", "slide_encoder.pth, or a checkpoint folder.")] = None,
    tokenizer: Annotated[Path | None, opt("DIR", "Where the released folder has no tokenizer.json.")] = None,
    name: Annotated[str | None, opt("NAME", "Default: the folder's.")] = None,
) -> None:
    """Make a checkpoint of a released WSI-LLaVA, or an index of another tool's features, without encoding."""
    from agent.cli.exchange import import_tiles, one_of
    from agent.session.models import quieten_libraries
    from core_model.checkpoints.folder import check_place, save_checkpoint

    quieten_libraries(quiet=False)
    one_of(llava=llava, features=features)
    if features is not None:
        import_tiles(features, out, slides, encoder, mpp)
        return
    assert llava is not None
    check_place(out)
    parts, config = read_released(llava, base, tokenizer)
    config = add_encoders(parts, config, tile_encoder, slide_encoder)
    if name is not None:
        config = config.model_copy(update={"name": name})
    save_checkpoint(out, parts, config, card=card(parts, config))
    typer.echo(str(out))


def export_model(
    out: Annotated[Path, opt("DIR", "The folder to write; for a model it must be new or empty.")],
    model: Annotated[
        str | None, typer.Argument(metavar="[MODEL]", help="mini, or a checkpoint folder.")
    ] = None,
    features: Annotated[
        Path | None, opt("STORE", "In its place: the features in a folder of indexes.")
    ] = None,
    layout: Annotated[str, opt("trident|clam", "With --features: whose tools are to read them.")] = "trident",
    encoder: Annotated[str | None, opt("NAME", "With --features: whose, where there are several.")] = None,
    pt: Annotated[bool, typer.Option("--pt", help="With --layout clam: its bare tensors too.")] = False,
) -> None:
    """Write a model in LLaVA's format, or tile features as TRIDENT or CLAM lay them out."""
    from agent.cli.exchange import export_tiles, one_of

    one_of(model=model, features=features)
    if features is not None:
        export_tiles(features, out, layout, encoder, pt)
    elif model is not None:
        _export_checkpoint(model, out)


def _export_checkpoint(model: str, out: Path) -> None:
    """The language model and projector in LLaVA's format."""
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
