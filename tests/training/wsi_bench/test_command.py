"""`giant wsi-bench` as a user calls it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import typer
from typer.testing import CliRunner

from core_model.errors import CohortError
from training.wsi_bench.cli import wsi_bench
from training.wsi_bench.cohort import WsiBenchRequest

ROOT = Path(__file__).resolve().parents[3]


def test_the_command_prints_the_summary_and_the_folder(cohort_request: WsiBenchRequest) -> None:
    app = typer.Typer()
    app.command()(wsi_bench)
    words = [
        "--train",
        *cohort_request.train,
        "--reports",
        *cohort_request.reports,
        "--features",
        cohort_request.features,
    ]
    words += [
        "--out",
        cohort_request.out,
        "--test",
        cohort_request.test[0],
        "--test",
        cohort_request.test[1],
        "--val-share",
        0.2,
    ]
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    assert "2 of 6 test slides also occur in the training files: TCGA-" in done.output
    assert done.output.replace("\n", "").endswith(str(cohort_request.out))
    assert isinstance(CliRunner().invoke(app, [str(word) for word in words]).exception, CohortError)


def test_the_command_loads_nothing_heavy_before_it_runs() -> None:
    code = (
        "import sys, training.wsi_bench.cli; "
        "heavy = {'torch', 'numpy', 'h5py', 'pydantic'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
