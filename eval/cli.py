"""`giant eval` and `giant bench`. Only typer is imported here; each command imports what it needs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from agent.cli.options import (
    AnyModelOpt,
    BaseUrlOpt,
    PatchesOpt,
    PatchMppOpt,
    PatchPxOpt,
    PricesOpt,
    ProfileOpt,
    QuietOpt,
    SeedOpt,
    SlideModelOpt,
    TimeoutOpt,
    opt,
)

if TYPE_CHECKING:
    from eval.asking.results import Result

NAME = "NAME"
"""Name of the hidden command that evaluates: on the command line the benchmark's name stands in its place."""


class Evaluation(TyperGroup):
    """`giant eval NAME …` evaluates; a few names are commands of their own."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take a first word that names no command for a benchmark."""
        return super().parse_args(ctx, self._named(ctx, args))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command; its usage line does not name the benchmark twice."""
        name, command, rest = super().resolve_command(ctx, self._named(ctx, args))
        return "" if name == NAME else name, command, rest

    def _named(self, ctx: Any, args: list[str]) -> list[str]:
        is_named = not args or args[0] in self.commands or args[0] in ctx.help_option_names
        return args if is_named else [NAME, *args]


def register(app: typer.Typer) -> None:
    """Add the commands of this package to the `giant` command."""
    from eval.benches import bench
    from eval.vectors.cli import vectors

    group = typer.Typer(
        cls=Evaluation, no_args_is_help=True, rich_markup_mode=None, help="Measure how good the answers are."
    )
    group.command(NAME)(evaluate)
    group.command()(score)
    group.command()(compare)
    group.command()(vectors)
    app.add_typer(group, name="eval")
    app.command()(bench)


def evaluate(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="multipathqa, wsi-bench, slidebench, wsi-vqa, generic, cohort."),
    ],
    data: Annotated[Path, opt("FILE|DIR", "The benchmark's file, or the cohort folder.")],
    out: Annotated[Path, opt("DIR", "Where results go.")],
    slides: Annotated[Path | None, opt("DIR", "The slides; a cohort has its own.")] = None,
    mode: Annotated[
        str,
        typer.Option(
            help="agent, thumbnail, patches, joint, slide, blind, constant; several with commas. A local"
            " model has agent, patches and slide, a chat model all but slide."
        ),
    ] = "agent",
    model: AnyModelOpt = "mini",
    base_url: BaseUrlOpt = None,
    slide_model: SlideModelOpt = "mini",
    profile: ProfileOpt = None,
    votes: Annotated[int, opt("N", "Runs of mode agent; the majority answers.")] = 1,
    patches: PatchesOpt = None,
    patch_px: PatchPxOpt = None,
    patch_mpp: PatchMppOpt = None,
    max_steps: Annotated[
        int | None, opt("N", "Most looks of modes agent and slide: 16, or 20 by chat.")
    ] = None,
    max_cost: Annotated[float | None, opt("USD", "Spending limit of the whole evaluation.")] = None,
    prices: PricesOpt = None,
    timeout: TimeoutOpt = None,
    limit: Annotated[int | None, opt("N", "Only the first N questions.")] = None,
    workers: Annotated[int, opt("N", "Processes.")] = 1,
    seed: SeedOpt = 0,
    keep_runs: Annotated[
        bool, typer.Option("--keep-runs", help="Keep every run folder, linked from the page.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on; ask again what failed.")] = False,
    quiet: QuietOpt = False,
) -> None:
    """Measure how often the answers are right, beside what guessing would reach."""
    from agent.session.models import quieten_libraries
    from agent.session.options import AskOptions
    from eval.asking.modes import parse_modes
    from eval.asking.runner import EvaluationPlan
    from eval.benchmarks.registry import read_benchmark
    from eval.evaluation import run_evaluation

    quieten_libraries(quiet)
    modes, benchmark = parse_modes(mode), read_benchmark(name, data)
    _check_limit(limit)
    base_options = AskOptions(
        max_steps=max_steps, votes=votes, seed=seed, profile=profile,
        patches=patches, patch_px=patch_px, patch_mpp=patch_mpp, base_url=base_url,
        timeout=timeout,
    )  # fmt: skip
    plan = EvaluationPlan(
        questions=benchmark.questions[:limit],
        slides=slides or (data / "slides" if data.is_dir() and (data / "slides").is_dir() else None),
        modes=modes,
        out=out,
        model=model,
        slide_model=slide_model,
        base_options=base_options,
        prices=prices,
        max_cost=max_cost,
        workers=workers,
        keep_runs=keep_runs,
    )
    tell = None if quiet else _teller(len(plan.questions) * len([m for m in modes if m != "constant"]))
    source = {"benchmark": name, "data": str(data)}
    open_count, summary = run_evaluation(plan, benchmark, source, resume, tell, _say)
    _show(summary, out)
    if open_count:
        raise _limit_reached(open_count, max_cost, out)


def score(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="What giant eval wrote.")],
    judge: Annotated[
        str | None,
        opt("NAME", "Judge of open answers: entity-overlap, or provider:name."),
    ] = None,
    base_url: Annotated[str | None, opt("URL", "Server of the judge.")] = None,
    prices: PricesOpt = None,
    max_cost: Annotated[float | None, opt("USD", "Spending limit of all judgements in DIR.")] = None,
    workers: Annotated[int, opt("N", "Judgements at once.")] = 1,
    quiet: QuietOpt = False,
) -> None:
    """Compute summary, page and plots anew from results.jsonl, without model or slides."""
    from agent.session.models import quieten_libraries
    from core_model.errors import UsageError
    from eval.scores.scoring import score_folder as scored
    from eval.scores.texts import open_judge

    quieten_libraries(quiet)
    if judge is None and (base_url or prices or max_cost is not None):
        raise UsageError(
            "these options are for a judge, and no judge is named", fix="Add --judge provider:name"
        )
    by = open_judge(judge, folder, base_url=base_url, prices=prices, max_cost=max_cost) if judge else None
    _show(scored(folder, _say, by, workers, None if quiet else _judged), folder)


def compare(
    before: Annotated[Path, typer.Argument(metavar="A", help="A folder that giant eval wrote.")],
    after: Annotated[Path, typer.Argument(metavar="B", help="Another, of the same questions.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else.")] = False,
) -> None:
    """Say what changed from A to B, and whether that is more than chance."""
    import json

    from agent.cli.terminal import stdout
    from eval.scores.compare import changes, changes_table

    comparison = changes(before, after)
    if as_json:
        typer.echo(json.dumps(comparison))
        return
    stdout().print(changes_table(comparison))
    for row in comparison["rows"]:
        losses, gains = len(row["lost"]), len(row["gained"])
        typer.echo(
            f"{row['task']}, {row['mode']}: {gains} gained, {losses} lost, {row['otherwise']} otherwise"
        )
    typer.echo("p by McNemar's exact test, corrected by Holm's method.")
    typer.echo(f"Results only in A: {comparison['only_before']}, only in B: {comparison['only_after']}.")


def _check_limit(limit: int | None) -> None:
    from core_model.errors import UsageError

    if limit is not None and limit < 1:
        raise UsageError(f"a limit of {limit} leaves no question to ask", fix="Give at least 1")


def _limit_reached(open_count: int, max_cost: float | None, out: Path) -> Exception:
    from core_model.errors import RunError

    message = f"the spending limit of ${max_cost:g} is reached, and {open_count:,} answers are left"
    return RunError(message, where=out, fix="Repeat with --resume and a larger --max-cost")


def _show(summary: dict[str, Any], folder: Path) -> None:
    from agent.cli.terminal import stdout
    from eval.scores.summary import remarks, summary_table

    stdout().print(summary_table(summary))
    for remark in remarks(summary):
        typer.echo(remark)
    typer.echo(f"Page: {folder / 'index.html'}")


def _say(line: str) -> None:
    typer.echo(line, err=True)


def _judged(count: int, of: int) -> None:
    if count == of or count % 50 == 0:
        typer.echo(f"{count}/{of} judged", err=True)


def _teller(total: int) -> Any:
    """Tells each result on stderr, with how many came and were right so far."""
    from agent.cli.terminal import stderr
    from eval.asking.results import label

    console, counts = stderr(), {"done": 0, "right": 0}

    def tell(result: Result) -> None:
        right = result.metric != "text" and label(result) == result.truth
        counts["done"] += 1
        counts["right"] += right
        answer = result.error or ("abstained" if result.abstained else str(result.said or "no answer read"))
        place = f"{counts['done']}/{total} ({counts['right'] / counts['done']:.0%})"
        words = f"{place} {'+' if right else '-'} {result.id} {result.mode}: {answer} [{result.truth}]"
        console.print(" ".join(words.split()), soft_wrap=True)

    return tell
