"""The options of commands, each written once; those of a question come from `AskOptions`."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from agent.session.options import AskOptions
from core_model.errors import UsageError


def opt(metavar: str, text: str, *flags: str) -> Any:
    """An option with its placeholder and help text; `flags` only where they are not the parameter's name."""
    return typer.Option(*flags, metavar=metavar, help=text)


SlideArg = Annotated[str, typer.Argument(metavar="SLIDE", help="A slide file.")]
SlidesArg = Annotated[list[str], typer.Argument(metavar="SLIDE|DIR...", help="Slides, or folders of them.")]
BitsOpt = Annotated[int | None, opt("4|8", "Pack the language model's weights; needs bitsandbytes.")]
ModelOpt = Annotated[str, opt("NAME", "mini, or a checkpoint folder.")]
AnyModelOpt = Annotated[str, opt("NAME", "mini, a checkpoint folder, or provider:name of a chat model.")]
MppOpt = Annotated[float | None, typer.Option(help="µm per px at level 0, where the file does not say.")]
OverrideOpt = Annotated[
    float | None, opt("UM", "µm per px at level 0, whatever the file says.", "--mpp-override")
]
JsonOpt = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else.")]
QuietOpt = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
EncoderOpt = Annotated[str, opt("NAME", "Tile encoder: mini, gigapath, a folder, or an id of the hub.")]
EncoderMppOpt = Annotated[
    float | None,
    opt("UM", "µm per px that a folder's or hub's encoder was trained at; default .5."),
]
BaseUrlOpt = Annotated[str | None, opt("URL", "Server of the chat model.")]
SlideModelOpt = Annotated[str, opt("NAME", "Local model that a chat model may consult.")]
ProfileOpt = Annotated[
    str | None,
    opt("survey|giant", "How a chat model looks: our way, or as published."),
]
PricesOpt = Annotated[Path | None, opt("FILE", "Your prices of chat models, over our table.")]
SightOpt = Annotated[
    bool | None,
    typer.Option(
        "--sight-check/--no-sight-check",
        help="First show a chat model a drawn number, to find out one that sees no images.",
        show_default=False,
    ),
]
RegionsOpt = Annotated[
    Path | None,
    opt("FILE|DIR", "Only tissue in these QuPath annotations: a GeoJSON, or SLIDE.geojson in DIR."),
]
AskRegionsOpt = Annotated[
    Path | None, opt("FILE", "Look only at tissue in these QuPath annotations (GeoJSON); a local model.")
]
AskIndexOpt = Annotated[
    Path | None,
    opt("DIR", "retrieve also names tiles of the other slides indexed there that look alike."),
]
IsolateOpt = Annotated[
    bool | None,
    typer.Option(
        "--isolate/--no-isolate",
        help="Read slides in a child process with limits of memory and time; default: report and index do.",
        show_default=False,
    ),
]
SeedOpt = Annotated[int, opt("N", "Decides what is drawn at random.")]
NavigatorOpt = Annotated[
    str | None,
    opt("search|chat", "Who decides where to look; default: what fits the model."),
]
OptionOpt = Annotated[list[str] | None, opt("TEXT", "An answer to choose from; repeat it.", "--option")]
ModeOpt = Annotated[
    str,
    typer.Option(
        metavar="MODE",
        help="agent looks around. One pass: slide (local) reads the whole at once, patches vote; by chat"
        " thumbnail, joint, patches, blind.",
    ),
]
PatchesOpt = Annotated[int | None, opt("N", "Patches of modes patches (30) and joint (16).")]
PatchPxOpt = Annotated[int | None, opt("PX", "Their side, px: 224 and 512.")]
PatchMppOpt = Annotated[float | None, opt("UM", "Their resolution, µm per px: 0.5 and 2.")]
VotesOpt = Annotated[int, opt("N", "Independent runs; the majority answers.")]
MaxStepsOpt = Annotated[
    int | None,
    opt("N", "Most looks before an answer: 16, or 20 by a chat model."),
]
MaxCostOpt = Annotated[float | None, opt("USD", "Spending limit.")]
TimeoutOpt = Annotated[
    float | None, opt("SECONDS", "For one attempt of a chat model's call; default GIANT_TIMEOUT, else 300.")
]
RunFolderOpt = Annotated[Path | None, opt("DIR", "Run folder.")]
ResumeOpt = Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")]

PseudonymOpt = Annotated[
    bool, typer.Option("--pseudonymise", help="Name slides by ids that only --key can undo.")
]
KeyOpt = Annotated[
    Path | None, opt("FILE", "Your key file for --pseudonymise; made where there is none. Keep it apart.")
]

ASK_OPTIONS: dict[str, Any] = {
    "options": OptionOpt,
    "model": AnyModelOpt,
    "bits": BitsOpt,
    "base_url": BaseUrlOpt,
    "slide_model": SlideModelOpt,
    "navigator": NavigatorOpt,
    "profile": ProfileOpt,
    "mode": ModeOpt,
    "patches": PatchesOpt,
    "patch_px": PatchPxOpt,
    "patch_mpp": PatchMppOpt,
    "votes": VotesOpt,
    "max_steps": MaxStepsOpt,
    "max_cost": MaxCostOpt,
    "prices": PricesOpt,
    "timeout": TimeoutOpt,
    "sight_check": SightOpt,
    "seed": SeedOpt,
    "mpp": MppOpt,
    "mpp_override": OverrideOpt,
    "regions": AskRegionsOpt,
    "index": AskIndexOpt,
    "isolate": IsolateOpt,
    "out": RunFolderOpt,
    "resume": ResumeOpt,
}
"""How the command line writes each field of `AskOptions`; the defaults are the record's."""


def check_key(pseudonymise: bool, key: Path | None) -> None:
    """Raise `UsageError` where one of --pseudonymise and --key is given without the other."""
    if pseudonymise and key is None:
        raise UsageError(
            "--pseudonymise needs a key file, by which you find the slides again",
            fix="Give --key FILE outside the output folder; it is made where there is none",
        )
    if key is not None and not pseudonymise:
        raise UsageError("--key means nothing without --pseudonymise", fix="Add --pseudonymise")


def with_ask_options(*names: str, **types: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the fields `names` of `AskOptions` as options, and hand it the record as `ask_options`.

    Without names it has all of them. `types` are written in place of those of `ASK_OPTIONS`, for other help.
    """
    fields = [name for name in ASK_OPTIONS if name in (names or ASK_OPTIONS) or name in types]
    defaults = {field.name: field.default for field in dataclasses.fields(AskOptions)}

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def call(**arguments: Any) -> None:
            options = AskOptions(**{name: arguments.pop(name) for name in fields})
            command(ask_options=options, **arguments)

        signature = inspect.signature(command, eval_str=True)  # typer reads the objects, not their names
        parameters = []
        for parameter in signature.parameters.values():
            if parameter.name != "ask_options":
                parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
                continue
            for name in fields:
                kind = types.get(name, ASK_OPTIONS[name])
                parameters.append(
                    inspect.Parameter(
                        name, inspect.Parameter.KEYWORD_ONLY, default=defaults[name], annotation=kind
                    )
                )
        call.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        call.__annotations__ = {p.name: p.annotation for p in parameters} | {"return": None}
        return call

    return decorate
