"""`giant eval vectors`. Only typer is imported here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agent.cli.options import ModelOpt, QuietOpt, SeedOpt, opt


def vectors(
    data: Annotated[Path, opt("DIR", "The cohort folder.")],
    out: Annotated[Path, opt("DIR", "Where vectors.json goes.")],
    model: ModelOpt = "mini",
    split: Annotated[str | None, opt("val|train|all", "Default: val where there is one, else all.")] = None,
    limit: Annotated[int | None, opt("N", "Only the first N slides.")] = None,
    patients: Annotated[Path | None, opt("CSV", "slide,patient; TCGA's names tell theirs.")] = None,
    prompts: Annotated[Path | None, opt("FILE", "What classes are called (JSON), in place of ours.")] = None,
    survival: Annotated[Path | None, opt("CSV", "slide,time,event; adds the c-index.")] = None,
    seed: SeedOpt = 0,
    quiet: QuietOpt = False,
) -> None:
    """Measure a model's slide vectors: retrieval, zero-shot classification, linear probes."""
    from agent.cli.terminal import stdout
    from agent.session.models import quieten_libraries
    from eval.vectors.cohort import VECTORS, VectorPlan, evaluate_vectors, vectors_table

    quieten_libraries(quiet)
    plan = VectorPlan(data, split, limit, patients, prompts, survival, seed)
    record = evaluate_vectors(plan, model, out, None if quiet else _read)
    stdout().print(vectors_table(record))
    for task, why in record["skipped"].items():
        typer.echo(f"{task} is left out: {why}.", err=True)
    for slide in record["missing"]:
        typer.echo(f"{slide['slide']} is left out: {slide['why']}", err=True)
    typer.echo(f"{record['leakage']['text']} {out / VECTORS}")


def _read(count: int, total: int) -> None:
    if count == total or count % 10 == 0:
        typer.echo(f"{count}/{total} slides read", err=True)
