"""What an interrupted command says: what of it is kept, and how to go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agent.run.folder import is_begun

RESUME = "; repeat the command with --resume to go on from there"
GOES_ON = "; what is done is kept: repeat the command to go on from there"
"""Of a command that needs no --resume."""
NOTHING = " before anything was kept; repeat the command"


def what_is_kept(group: Any, ctx: Any, args: tuple[str, ...]) -> str:
    """Of a command with its arguments: the second half of the line "giant: interrupted…".

    `index` keeps every step. Of the others only one that has `--resume` keeps anything, and only where its
    folder (`--out`) holds something.
    """
    command, name, rest = group, "", list(args)
    while rest and hasattr(command, "commands"):
        name, command, rest = command.resolve_command(ctx, rest)
    if name == "index":
        return GOES_ON
    given = command.make_context(name, rest, parent=ctx, resilient_parsing=True).params
    if "resume" not in given:
        return ""
    folder = given.get("out")
    return RESUME if folder is not None and _holds_something(Path(folder)) else NOTHING


def run_is_kept(folder: Path | None, resumed: bool) -> str:
    """The same of a run and its folder (None: it has none yet)."""
    if folder is not None and is_begun(folder):
        return f"; the run is kept in {folder}: repeat the command with --resume to go on from there"
    return "; the run stands as it was before" if resumed else NOTHING


def _holds_something(folder: Path) -> bool:
    return folder.is_dir() and any(not path.name.startswith(".") for path in folder.iterdir())
