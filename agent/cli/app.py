"""The `giant` command: ask, replay, report, index, similar, doctor, verify, import, export, and others.

Only typer is imported here, so that `giant --help` answers at once; each command imports what it needs.
A `GiantError` is printed once, as one line on stderr; anything else is a bug and keeps its traceback.

    exit 0  answered (an abstention is an answer)      exit 2    the call means nothing
    exit 1  a GiantError                               exit 130  interrupted
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from agent.cli import convert
from agent.cli.ask import ask
from agent.cli.options import JsonOpt
from agent.cli.replay import replay
from agent.cli.report import report
from agent.cli.similar import index, similar
from core_model.errors import GiantError

COMMANDS = "giant.commands"
"""Entry-point group: each entry is a function `register(app)` that adds commands."""


class Commands(TyperGroup):
    """The one place where errors become lines and exit codes, for our commands and added ones alike."""

    missing: dict[str, str]
    """Entry points that could not be loaded, and why."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was called."""
        try:
            return super().invoke(ctx)
        except GiantError as error:
            typer.echo(f"giant: {error}", err=True)
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt:
            called = self.commands.get(ctx.invoked_subcommand)
            resumes = called is not None and any(option.name == "resume" for option in called.params)
            how = "; repeat the command with --resume to go on from there" if resumes else ""
            typer.echo(f"giant: interrupted{how}", err=True)
            raise typer.Exit(130) from None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """As typer does, but a name that a broken part may have offered says so."""
        if args and self.missing and args[0] not in self.commands and not args[0].startswith("-"):
            why = "; ".join(
                f"the commands of '{name}' cannot be loaded ({w})" for name, w in self.missing.items()
            )
            fix = "Install what they need, e.g. pip install 'giant-pathology[train]'"
            raise GiantError(f"there is no command '{args[0]}' here: {why}", fix=fix)
        return super().resolve_command(ctx, args)


def build_app() -> typer.Typer:
    """The whole command line, with the commands that other installed packages add."""
    missing: dict[str, str] = {}
    app = typer.Typer(
        name="giant",
        cls=type("Commands", (Commands,), {"missing": missing}),
        help="Ask a whole-slide image a question. For research and demonstration, not for diagnosis.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for command in (ask, replay, report, index, similar, doctor, verify):
        app.command()(command)
    app.command("import")(convert.import_model)
    app.command("export")(convert.export_model)
    missing |= add_commands(app)
    return app


def add_commands(app: typer.Typer) -> dict[str, str]:
    """Let every entry point register its commands; returns those that cannot be loaded, and why."""
    from importlib.metadata import entry_points

    missing = {}
    for entry in sorted(entry_points(group=COMMANDS), key=lambda e: e.name):
        try:
            register = entry.load()
        except (ImportError, AttributeError) as error:
            missing[entry.name] = str(error)
        else:
            register(app)
    return missing


def main() -> None:
    """Run the command line."""
    build_app()(prog_name="giant")


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(version("giant-pathology"))
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def verify(
    folder: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="Golden files of reference networks.")
    ] = None,
    tolerance: Annotated[float, typer.Option(metavar="X", help="Largest |Δ| that agrees.")] = 1e-4,
    weights: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Prov-GigaPath's tile encoder; with the next two.")
    ] = None,
    image: Annotated[
        Path | None, typer.Option(metavar="PNG", help="Its published image, images/prov_normal_000_1.png.")
    ] = None,
    expected: Annotated[
        Path | None, typer.Option(metavar="PT", help="The embedding published with it; agrees within .01.")
    ] = None,
    as_json: JsonOpt = False,
) -> None:
    """Check that this installation computes what the reference networks do."""
    from agent.cli.verify import run, show
    from agent.session.models import quieten_libraries

    quieten_libraries(quiet=True)
    found = run(folder, tolerance, weights, image, expected)
    show(found, as_json)
    if not found.ok:
        raise typer.Exit(1)


def doctor(as_json: JsonOpt = False) -> None:
    """Check the installation; every fault comes with its fix."""
    from agent.cli.doctor import examine, show

    checks = examine()
    show(checks, as_json)
    if any(check.status == "failed" for check in checks):
        raise typer.Exit(1)
