"""`giant wsi-bench`. Only typer is imported here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ByPatientOpt = Annotated[
    bool, typer.Option("--by-patient/--by-slide", help="Splits share no patient, or only no slide.")
]
KeepOverlapOpt = Annotated[
    bool, typer.Option("--keep-overlap", help="Train on test slides too, as the published files have it.")
]
AllowMissingOpt = Annotated[
    bool, typer.Option("--allow-missing", help="Leave out slides without features or report.")
]
SkipMalformedOpt = Annotated[bool, typer.Option("--skip-malformed", help="Leave out malformed rows.")]


def wsi_bench(
    train: Annotated[list[Path], typer.Option(metavar="FILE", help="Training conversations; repeat it.")],
    reports: Annotated[
        list[Path],
        typer.Option(
            metavar="FILE", help="File whose rows ask for reports, or of slide and report; repeat it."
        ),
    ],
    features: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder of SLIDE.pt or SLIDE.h5, or of folders of them.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the cohort goes; must not exist yet.")],
    test: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE", help="Test questions, whose slides are kept out of training; repeat it."
        ),
    ] = None,
    val_share: Annotated[float, typer.Option(help="Share of the slides held back to measure on.")] = 0.05,
    seed: Annotated[int, typer.Option(help="The same seed holds the same slides back.")] = 0,
    by_patient: ByPatientOpt = True,
    keep_overlap: KeepOverlapOpt = False,
    allow_missing: AllowMissingOpt = False,
    skip_malformed: SkipMalformedOpt = False,
) -> None:
    """Make a cohort folder of WSI-Bench's published files and of features computed elsewhere."""
    from training.wsi_bench.cohort import WsiBenchRequest, make_cohort

    request = WsiBenchRequest(
        train=train,
        reports=reports,
        features=features,
        out=out,
        test=test or [],
        val_share=val_share,
        seed=seed,
        by_patient=by_patient,
        keep_overlap=keep_overlap,
        allow_missing=allow_missing,
        skip_malformed=skip_malformed,
    )
    for line in make_cohort(request).lines():
        typer.echo(line)
    typer.echo(out)
