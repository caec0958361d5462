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
from agent.cli.index import index
from agent.cli.interrupts import what_is_kept
from agent.cli.options import IsolateOpt, JsonOpt, MppOpt, QuietOpt, opt, with_ask_options
from agent.cli.replay import replay
from agent.cli.report import report
from agent.cli.similar import similar
from agent.cli.streams import ascii_json, open_streams, unprinted
from agent.cli.tissue import tissue
from agent.session.options import AskOptions
from core_model.errors import GiantError

COMMANDS = "giant.commands"
"""Entry-point group: each entry is a function `register(app)` that adds commands."""


class Commands(TyperGroup):
    """Our commands, and those of other packages once one is named that is not ours.

    The one place where errors become lines and exit codes.
    """

    called: tuple[str, ...] = ()
    """The command that was called, and its arguments."""
    failures: dict[str, str] | None = None
    """Entry points that could not be loaded, and why; None until they were tried."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was called."""
        try:
            return super().invoke(ctx)
        except GiantError as error:
            typer.echo(f"giant: {error}", err=True)
            raise typer.Exit(error.exit_code) from error
        except Exception as error:
            line = _disk_line(error)
            if line is None:
                raise
            typer.echo(f"giant: {line}", err=True)
            raise typer.Exit(line.exit_code) from error
        except KeyboardInterrupt as error:
            words = error.args[0] if error.args else what_is_kept(self, ctx, self.called)
            typer.echo(f"giant: interrupted{words}", err=True)
            raise typer.Exit(130) from None

    def list_commands(self, ctx: Any) -> list[str]:
        """Every command, also of other packages."""
        self._add_commands()
        return super().list_commands(ctx)

    def get_command(self, ctx: Any, name: str) -> Any:
        """The command of a name; other packages are loaded only where it is none of ours."""
        if name not in self.commands:
            self._add_commands()
        return super().get_command(ctx, name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that was called; a name that a broken package may have offered says so."""
        self.called = tuple(args)
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None and self.failures:
            parts = (
                f"the commands of '{name}' cannot be loaded ({why})" for name, why in self.failures.items()
            )
            fix = "Install what they need, e.g. pip install 'giant-pathology[train]'"
            raise GiantError(f"there is no command '{args[0]}' here: {'; '.join(parts)}", fix=fix)
        return super().resolve_command(ctx, args)

    def _add_commands(self) -> None:
        if self.failures is not None:
            return
        app = new_app()
        app.callback()(_root)
        self.failures = add_commands(app)
        for name, command in typer.main.get_group(app).commands.items():
            self.commands.setdefault(name, command)


def _disk_line(error: Exception) -> GiantError | None:
    """What to say where a disk that takes no more is behind an error that nobody was ready for."""
    from core_model.files import disk_trouble

    trouble = disk_trouble(error)
    fix = "Make room or choose another place; what is complete is kept"
    return GiantError(trouble, fix=fix) if trouble is not None else None


def new_app(**options: Any) -> typer.Typer:
    """An empty command line that prints texts as they are and keeps tracebacks."""
    return typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
        **options,
    )


def build_app() -> typer.Typer:
    """The whole command line. Commands that other installed packages add are loaded when they are needed."""
    app = new_app(
        name="giant",
        cls=Commands,
        help="Ask a whole-slide image a question. For research and demonstration, not for diagnosis.",
        no_args_is_help=True,
    )
    app.callback()(_root)
    for command in (ask, replay, report, index, similar, tissue, doctor, verify):
        app.command()(command)
    app.command("import")(convert.import_model)
    app.command("export")(convert.export_model)
    return app


def add_commands(app: typer.Typer) -> dict[str, str]:
    """Let every entry point register its commands; returns those that cannot be loaded, and why."""
    from importlib.metadata import entry_points

    failures = {}
    for entry in sorted(entry_points(group=COMMANDS), key=lambda e: e.name):
        try:
            register = entry.load()
        except (ImportError, AttributeError) as error:
            failures[entry.name] = str(error)
        else:
            register(app)
    return failures


def main() -> None:
    """Run the command line. Ends with `SystemExit`."""
    out = open_streams()
    try:
        build_app()(prog_name="giant")
    except SystemExit as end:
        fault = unprinted(out)
        if fault is None:
            raise
        fix = "What was written is kept; send the output somewhere else"
        typer.echo(f"giant: {GiantError(f'stdout takes no output ({fault})', fix=fix)}", err=True)
        raise SystemExit(end.code or 1) from None


def _print_version(value: bool) -> None:
    if value:
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
    tolerance: Annotated[float, opt("X", "Largest |Δ| that agrees.")] = 1e-4,
    weights: Annotated[Path | None, opt("FILE", "Prov-GigaPath's tile encoder; with the next two.")] = None,
    image: Annotated[Path | None, opt("PNG", "Its published image, images/prov_normal_000_1.png.")] = None,
    expected: Annotated[Path | None, opt("PT", "The embedding published with it; agrees within .01.")] = None,
    device: Annotated[str | None, opt("NAME", "cpu or cuda. Default: the GPU where there is one.")] = None,
    as_json: JsonOpt = False,
) -> None:
    """Check that this installation computes what the reference networks do."""
    from agent.cli.verify import compare_outputs, show_verification
    from agent.session.models import quieten_libraries

    quieten_libraries(quiet=True)
    verification = compare_outputs(folder, tolerance, weights, image, expected, device)
    show_verification(verification, as_json)
    if not verification.ok:
        raise typer.Exit(1)


def doctor(
    slides: Annotated[
        list[str] | None, typer.Argument(metavar="[SLIDE|DIR...]", help="Check these in its place.")
    ] = None,
    mpp: MppOpt = None,
    isolate: IsolateOpt = None,
    privacy: Annotated[
        bool, typer.Option("--privacy", help="Count what in slides could identify a patient, unshown.")
    ] = False,
    as_json: JsonOpt = False,
) -> None:
    """Check the installation, or slides; every fault comes with its fix."""
    from agent.cli.doctor import examine, examine_slides, show_checks
    from agent.session.models import quieten_libraries

    quieten_libraries(quiet=True)
    if privacy:
        from agent.cli.privacy import search_and_show

        search_and_show(slides or [], bool(isolate), as_json)
        return
    checks = examine_slides(slides, mpp, bool(isolate)) if slides else examine()
    show_checks(checks, as_json)
    if any(check.status == "failed" for check in checks):
        raise typer.Exit(1)


@with_ask_options()
def ask(
    slide: Annotated[str, typer.Argument(metavar="SLIDE", help="A slide or its folder, or tokens (.pt).")],
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="What to find out.")],
    ask_options: AskOptions,
    confirm: Annotated[bool, typer.Option("--confirm", help="Be asked before each look.")] = False,
    hint: Annotated[list[str] | None, opt("TEXT", "Something to consider from now on; repeat it.")] = None,
    look: Annotated[tuple[int, int, int, int] | None, opt("X Y W H", "A place to look at next.")] = None,
    as_json: JsonOpt = False,
    quiet: QuietOpt = False,
) -> None:
    """Ask a question about a slide; answer it with evidence and a report."""
    from agent.cli import terminal

    answer = terminal.ask_and_show(
        slide, question, ask_options, confirm=confirm, hints=hint or (), look=look, quiet=quiet
    )
    if as_json:
        # `version` belongs to answer.json; the fields that scripts read are a contract of their own
        typer.echo(ascii_json(answer.model_dump_json(exclude={"version"})))
    else:
        terminal.show_answer(terminal.stdout(), answer)
