"""A request for a cohort, with the files that it names."""

from __future__ import annotations

from pathlib import Path

import pytest
from wsi_bench_files import (
    ASK,
    ASK_REPORT,
    NAMES,
    OPTIONS,
    open_question,
    talk,
    write_rows,
    write_tokens,
)

from training.wsi_bench.cohort import WsiBenchRequest


@pytest.fixture
def cohort_request(tmp_path: Path) -> WsiBenchRequest:
    """16 slides to train on; 6 test slides, of which 2 are among them."""
    train = [talk(name, ASK, f"Grade {i}.", 4) for i, name in enumerate(NAMES[:16])]
    train += [talk(name, ASK + OPTIONS, "B", 5) for name in NAMES[:16]]
    reports = [talk(name, ASK_REPORT, f"Report of {name}.") for name in NAMES[:18]]
    chosen = [talk(name, ASK + OPTIONS, "C") for name in NAMES[14:]]
    write_tokens(tmp_path / "pt" / "TCGA-LUSC", NAMES)
    return WsiBenchRequest(
        train=[write_rows(tmp_path / "Grading_train.json", train)],
        reports=[write_rows(tmp_path / "Report_train.json", reports)],
        test=[
            write_rows(tmp_path / "Diagnosis_choice_test.json", chosen),
            write_rows(tmp_path / "WSI-Bench-test.jsonl", [open_question(name) for name in NAMES[14:]]),
        ],
        features=tmp_path / "pt",
        out=tmp_path / "cohort",
        val_share=0.2,
    )


@pytest.fixture
def published(shared: Path) -> Path:
    return shared / "data/qa/wsi-bench"
