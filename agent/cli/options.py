"""Options that several commands have, each written once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

SlideArg = Annotated[str, typer.Argument(metavar="SLIDE", help="A slide file.")]
SlidesArg = Annotated[list[str], typer.Argument(metavar="SLIDE|DIR...", help="Slides, or folders of them.")]
BitsOpt = Annotated[
    int | None, typer.Option(metavar="4|8", help="Pack the language model's weights; needs bitsandbytes.")
]
ModelOpt = Annotated[str, typer.Option(metavar="NAME", help="mini, or a checkpoint folder.")]
AnyModelOpt = Annotated[
    str, typer.Option(metavar="NAME", help="mini, a checkpoint folder, or provider:name of a chat model.")
]
MppOpt = Annotated[float | None, typer.Option(help="µm per px at level 0, where the file does not say.")]
JsonOpt = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else.")]
QuietOpt = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
EncoderOpt = Annotated[
    str, typer.Option(metavar="NAME", help="Tile encoder: mini, gigapath, a folder, or an id of the hub.")
]
EncoderMppOpt = Annotated[
    float | None,
    typer.Option(metavar="UM", help="µm per px that a folder's or hub's encoder was trained at; default .5."),
]
BaseUrlOpt = Annotated[str | None, typer.Option(metavar="URL", help="Server of the chat model.")]
SlideModelOpt = Annotated[
    str, typer.Option(metavar="NAME", help="Local model that a chat model may consult.")
]
ProfileOpt = Annotated[
    str | None,
    typer.Option(metavar="survey|giant", help="How a chat model looks: our way, or as published."),
]
PricesOpt = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Your prices of chat models, over our table.")
]
SeedOpt = Annotated[int, typer.Option(metavar="N")]
PatchesOpt = Annotated[
    int | None, typer.Option(metavar="N", help="Patches of modes patches (30) and joint (16).")
]
PatchPxOpt = Annotated[int | None, typer.Option(metavar="PX", help="Their side, px: 224 and 512.")]
PatchMppOpt = Annotated[
    float | None, typer.Option(metavar="UM", help="Their resolution, µm per px: 0.5 and 2.")
]
