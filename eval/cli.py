"""`giant eval` and `giant bench`. Only typer is imported here; each command imports what it needs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from eval.results import Result

BENCHES = ("agent", "ask", "gigapath", "slide-encoder", "startup")


def register(app: typer.Typer) -> None:
    """Add the commands of this package to the `giant` command."""
    app.command(name="eval")(evaluate)
    app.command()(bench)


def evaluate(
    name: Annotated[str, typer.Argument(metavar="NAME", help="cohort or multipathqa.")],
    data: Annotated[Path, typer.Option(metavar="FILE|DIR", help="The cohort folder, or the CSV file.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where results go.")],
    slides: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The slides; a cohort has its own.")
    ] = None,
    mode: Annotated[str, typer.Option(help="agent, slide, or several with commas.")] = "agent",
    model: Annotated[str, typer.Option(metavar="NAME", help="mini, or a checkpoint folder.")] = "mini",
    limit: Annotated[int | None, typer.Option(metavar="N", help="Only the first N questions.")] = None,
    workers: Annotated[int, typer.Option(metavar="N", help="Processes.")] = 1,
    max_steps: Annotated[int, typer.Option(metavar="N", help="Most looks per question.")] = 16,
    seed: Annotated[int, typer.Option(metavar="N")] = 0,
    keep_runs: Annotated[bool, typer.Option("--keep-runs", help="Keep every run folder.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on; ask again what failed.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Measure how often the answers are right, beside what guessing would reach."""
    from agent.terminal import quieten_libraries, stdout
    from core_model.errors import UsageError
    from eval import load_benchmark
    from eval.modes import Budget, check_modes
    from eval.runner import Plan, run, weights
    from eval.summary import as_table, summarise, write_summary

    quieten_libraries(quiet)
    modes = check_modes(mode)
    questions = load_benchmark(name, data)
    if limit is not None:
        if limit < 1:
            raise UsageError(f"a limit of {limit} leaves nothing to ask", fix="Give at least 1")
        questions = questions[:limit]
    folder = slides or (data / "slides" if data.is_dir() else None)
    if folder is None:
        raise UsageError("the slides are not given", fix="Add --slides DIR")
    budget = Budget(max_steps=max_steps, seed=seed)
    plan = Plan(questions, folder, modes, out, model, budget, workers, keep_runs)
    about = {"benchmark": name, "data": str(data), "max_steps": max_steps, "seed": seed}
    about |= {"model": model, "weights": weights(model)}
    results = run(plan, resume, None if quiet else _teller(len(questions) * len(modes)))
    summary = summarise(results, about | provenance())
    write_summary(out / "summary.json", summary)
    stdout().print(as_table(summary))
    typer.echo(f"Abstentions and failures count as wrong. {out / 'summary.json'}")


def bench(
    name: Annotated[str, typer.Argument(metavar="NAME", help=f"One of: {', '.join(BENCHES)}.")],
    slide: Annotated[
        Path | None, typer.Option(metavar="SLIDE", help="ask: the slide to repeat into a large one.")
    ] = None,
    side: Annotated[int, typer.Option(metavar="PX", help="ask: side of the large slide.")] = 40960,
    model: Annotated[str, typer.Option(metavar="NAME", help="mini, or a checkpoint folder.")] = "mini",
    work: Annotated[Path, typer.Option(metavar="DIR", help="ask: where the large slide is kept.")] = Path(
        "giant-bench"
    ),
    small: Annotated[bool, typer.Option("--small", help="An encoder at a small size, to try it.")] = False,
    compiled: Annotated[bool, typer.Option("--compile", help="gigapath: through torch.compile.")] = False,
    batch: Annotated[
        list[int] | None, typer.Option(metavar="N", help="gigapath: tiles at once; repeat it.")
    ] = None,
    tiles: Annotated[
        str | None, typer.Option(metavar="N,N", help="slide-encoder: tiles per slide, with commas.")
    ] = None,
    bf16: Annotated[bool, typer.Option("--bf16", help="slide-encoder: in mixed precision.")] = False,
    device: Annotated[str | None, typer.Option(metavar="NAME", help="slide-encoder: cpu or cuda.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="agent, slide-encoder: print JSON.")] = False,
) -> None:
    """Measure time and memory on this machine."""
    from core_model.errors import UsageError

    if name == "agent":
        from eval.bench.agent_steps import main as run_agent

        run_agent(as_json)
    elif name == "startup":
        from eval.bench.startup import main as run_startup

        run_startup()
    elif name == "gigapath":
        from eval.bench.gigapath import main as run_gigapath

        run_gigapath(small, compiled, batch)
    elif name == "slide-encoder":
        from eval.bench.slide_encoder import main as run_slide_encoder
        from eval.bench.slide_encoder import sizes_of

        run_slide_encoder(sizes_of(tiles), small, bf16, device, as_json)
    elif name == "ask":
        if slide is None:
            raise UsageError("there is no slide to repeat", fix="Add --slide SLIDE")
        from eval.bench.ask import main as run_ask

        run_ask(slide, side, model, work)
    else:
        raise UsageError(f"there is no bench '{name}'", fix=f"There are {', '.join(BENCHES)}")


def provenance() -> dict[str, Any]:
    """What a figure must be read with: hardware and versions."""
    import platform
    from importlib.metadata import version

    from agent.run_record import giant_version
    from eval.bench.measure import hardware

    return {
        "giant": giant_version(),
        "hardware": hardware(),
        "python": platform.python_version(),
        "torch": version("torch"),
    }


def _teller(total: int) -> Any:
    """Tells each result on stderr, with how many are done and right so far."""
    from agent.terminal import stderr

    console, counts = stderr(), {"done": 0, "right": 0}

    def tell(result: Result) -> None:
        counts["done"] += 1
        counts["right"] += result.said == result.truth
        said = result.error or ("abstained" if result.abstained else str(result.said))
        mark = "+" if result.said == result.truth else "-"
        place = f"{counts['done']}/{total} ({counts['right'] / counts['done']:.0%})"
        console.print(f"{place} {mark} {result.id} {result.mode}: {said} [{result.truth}]", soft_wrap=True)

    return tell
