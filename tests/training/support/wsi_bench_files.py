"""Files as WSI-Bench publishes them, and what a cohort made of them says."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch

from training.wsi_bench.cohort import WsiBenchRequest, make_cohort

NAMES = [f"TCGA-AA-{i // 2:04d}-01Z-00-DX{i % 2 + 1}.8288ca92-b611" for i in range(20)]
"""Two slides of each of ten patients."""
ASK = "What is the grade?"
ASK_REPORT = "What does the whole slide histopathology image depict, and what is the diagnosis?"
OPTIONS = " A) Well differentiated (Grade I) B) Moderate C) Poor D) None of these"


def talk(name: str, question: str, answer: str, number: int = 1) -> dict[str, Any]:
    """A conversation as published."""
    return {
        "id": f"{name}-{number}",
        "image": f"TCGA-LUSC/{name}.pt",
        "conversations": [
            {"from": "human", "value": f"<image>\n{question}"},
            {"from": "gpt", "value": answer},
        ],
    }


def open_question(name: str, question: str = ASK, task: str = "Grade") -> dict[str, str]:
    """An open test question as published."""
    return {
        "question_id": f"{task}_{name}-1_1",
        "image": f"TCGA-LUSC/{name}.pt",
        "question": question,
        "T-answer": "Grade 2.",
        "metadata": task,
    }


def write_rows(path: Path, rows: list[Any]) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    if path.suffix == ".jsonl":
        path.write_text("\n".join(lines), "utf-8")
    else:
        path.write_text("[" + ",\n".join(lines) + "]", "utf-8")
    return path


def write_tokens(folder: Path, names: list[str]) -> None:
    """Released slide tokens; all slides share one file's content."""
    folder.mkdir(parents=True)
    torch.save(torch.zeros(576, 1024, dtype=torch.float16), folder / f"{names[0]}.pt")
    for name in names[1:]:
        os.link(folder / f"{names[0]}.pt", folder / f"{name}.pt")


def summary_words(cohort_request: WsiBenchRequest) -> str:
    return "\n".join(make_cohort(cohort_request).lines())


def assert_nothing_written(cohort_request: WsiBenchRequest, folder: Path) -> None:
    """Nothing was written beside the sources."""
    assert not cohort_request.out.exists()
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]
