"""`giant train …`, `giant phantom` and `giant wsi-bench`.

Only typer is imported here; torch waits until a command runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from training.engine.fit import StageProgress

RecipeOpt = Annotated[str, typer.Option(metavar="NAME", help="mini, tiny, wsi-llava-7b or wsi-llava-qwen7b.")]
DataOpt = Annotated[Path, typer.Option(metavar="DIR", help="Cohort folder, as `giant phantom` writes it.")]
OutOpt = Annotated[Path, typer.Option(metavar="DIR", help="Where every step keeps its folder.")]
ResumeOpt = Annotated[bool, typer.Option(help="Skip finished steps and continue an interrupted one.")]
SetOpt = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change the recipe; repeat it.")
]
HELP = {
    "all": "Every step of the recipe; the model ends up in OUT/model/checkpoint.",
    "tiles": "Pretrain the tile encoder.",
    "language": "Pretrain tokenizer and language model on the cohort's text.",
    "stage1": "Align slides with texts: slide encoder and text tower.",
    "stage2": "Train the projector on descriptions.",
    "stage3": "Train projector and LoRA on questions, then calibrate and save the model.",
}


def register(app: typer.Typer) -> None:
    """Add `train`, `phantom` and `wsi-bench` to `giant`."""
    from training.wsi_bench.cli import wsi_bench

    group = typer.Typer(help="Train a model step by step.", no_args_is_help=True)
    for name, text in HELP.items():
        group.command(name, help=text)(_command(name))
    group.command("bench")(bench)
    app.add_typer(group, name="train")
    app.command()(phantom)
    app.command("wsi-bench")(wsi_bench)


def _command(name: str):  # type: ignore[no-untyped-def]  # typer reads the inner function's signature
    def command(
        data: DataOpt, out: OutOpt, recipe: RecipeOpt = "mini", resume: ResumeOpt = False, set_: SetOpt = None
    ) -> None:
        run_steps(name, recipe, data, out, resume, set_ or [])

    return command


def run_steps(command: str, recipe: str, data: Path, out: Path, resume: bool, overrides: list[str]) -> None:
    """Run the steps of one training command and print what was measured."""
    _require_extra()
    from transformers.utils.logging import disable_progress_bar, set_verbosity_error

    from training.engine import ranks
    from training.engine.fit import quiet
    from training.pipeline import COMMANDS, recipe_steps, train_recipe
    from training.recipes import make_recipe

    disable_progress_bar()
    set_verbosity_error()
    settings = make_recipe(recipe, overrides)
    ranks.join()
    with _bars() if ranks.is_main() else nullcontext(quiet) as progress:
        run = train_recipe(settings, data, out, command=command, resume=resume, progress=progress)
    if ranks.is_main():
        steps = recipe_steps(run)
        for name in (name for name in COMMANDS[command] if name in steps):
            typer.echo(_summary_line(name, run.folder(name)))


def bench(
    recipe: RecipeOpt = "wsi-llava-7b",
    stage: Annotated[list[int] | None, typer.Option(help="2 or 3; repeat it. Default: both.")] = None,
    batch: Annotated[int, typer.Option(help="Samples per step.")] = 4,
    length: Annotated[int, typer.Option(help="Tokens of a sample, slide tokens included.")] = 2048,
    steps: Annotated[int, typer.Option(help="Steps that are timed.")] = 10,
    small: Annotated[
        bool, typer.Option("--small", help="A network of toy size, to try the command.")
    ] = False,
    set_: SetOpt = None,
    json_: Annotated[bool, typer.Option("--json", help="One JSON object per stage.")] = False,
) -> None:
    """Tokens per second, memory and MFU of stages 2 and 3, with random weights of the recipe's size."""
    _require_extra()
    import json

    from core_model.devices import default_device
    from training.bench import SMALL_LENGTH, SMALL_SIZE, bench_stage
    from training.recipes import make_recipe

    settings = make_recipe(recipe, [*(SMALL_SIZE if small else ()), *(set_ or [])])
    length = min(length, SMALL_LENGTH) if small else length
    for number in stage or (2, 3):
        speed = bench_stage(
            settings, number, batch=batch, length=length, steps=steps, device=default_device()
        )
        typer.echo(json.dumps(speed.record()) if json_ else speed.sentence())


def _summary_line(name: str, folder: Path) -> str:
    """One line about a finished step: its folder and its figures."""
    import json

    path = folder / "metrics.json"
    if not path.is_file():
        return f"{name}: {folder}"
    figures = json.loads(path.read_text("utf-8"))["figures"]
    return f"{name}: {folder}  " + "  ".join(f"{key} {value:.3f}" for key, value in figures.items())


def _require_extra() -> None:
    """Raise GiantError where a library that only training needs is missing."""
    from importlib.util import find_spec

    from core_model.errors import GiantError

    if missing := [name for name in ("accelerate", "peft") if find_spec(name) is None]:
        raise GiantError(
            f"training needs {' and '.join(missing)}", fix="pip install 'giant-pathology[train]'"
        )


@contextmanager
def _bars() -> Iterator[StageProgress]:
    """A progress bar per step, on stderr."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description:>10}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks = {}

        def report(name: str, count: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=total)
            bars.update(tasks[name], completed=count, total=total)

        yield report


def phantom(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the cohort goes.")],
    slides: Annotated[int, typer.Option(help="How many slides.")] = 48,
    seed: Annotated[int, typer.Option(help="The same seed draws the same slides.")] = 0,
    workers: Annotated[int, typer.Option(help="Slides drawn at the same time.")] = 1,
    demo: Annotated[bool, typer.Option("--demo", help="One slide only: DIR/slide.tiff.")] = False,
) -> None:
    """Write procedural H&E-like slides with known truth, reports and questions."""
    from training.phantom.cohort import write_cohort, write_demo_slide

    if demo:
        out.mkdir(parents=True, exist_ok=True)
        write_demo_slide(out / "slide.tiff", seed)
        typer.echo(out / "slide.tiff")
        return
    with _bars() as progress:
        write_cohort(out, slides, seed, workers, partial(progress, "phantom"))
    typer.echo(out)
