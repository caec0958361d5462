"""Writes cohort folders: procedural slides, their truth, and the words about them.

    slides/<name>.tiff      truth/<name>.geojson      truth/<name>.npz (written last for each slide)
    reports.jsonl           instructions.json         questions.csv
    split.json (written last of all)

Everything follows from (seed, index) alone: the number of workers, the number of slides and interruptions
make no difference to a slide. A slide whose files are there is not drawn again.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from core_model.errors import CohortError, UsageError
from core_model.files import write_bytes
from training.phantom.geojson import write_geojson
from training.phantom.render import render_slide
from training.phantom.slide_writer import write_slide
from training.phantom.spec import OUTCOMES, SlideSpec, sample_spec
from training.phantom.truth import PhantomTruth

HELD_OUT = 4
"""Of each deck of 24 slides, how many are held out for validation."""

COLUMNS = (
    "benchmark_name", "benchmark_id", "image_path", "answer", "options", "image_exists", "patch_exists",
    "is_valid", "metric_type", "file_id", "prompt",
)  # fmt: skip
"""MultiPathQA's columns."""


class SlideProgress(Protocol):
    """Told how far the work is."""

    def __call__(self, count: int, total: int) -> None:
        """`done` of `total` slides are written."""


def write_cohort(
    out: Path, slides: int, seed: int, workers: int = 1, progress: SlideProgress | None = None
) -> Path:
    """Write a cohort of `slides` slides and return its folder.

    Raises UsageError where a number makes no sense and CohortError where a file cannot be written.
    """
    if slides < 1 or workers < 1 or seed < 0:
        raise UsageError(
            "a cohort needs at least one slide and one worker, and a seed of 0 or more",
            fix="check --slides, --workers and --seed",
        )
    out = Path(out)
    specs = [sample_spec(seed, index) for index in range(slides)]
    try:
        (out / "slides").mkdir(parents=True, exist_ok=True)
        _draw_missing(out, specs, workers, progress)
        truths = [PhantomTruth.load(out, spec.name) for spec in specs]
        _write_words(out, truths)
        _write_text(out / "split.json", json.dumps(split_slides(seed, [t.name for t in truths]), indent=1))
    except OSError as error:
        raise CohortError(
            f"the cohort cannot be written ({error.strerror or error})",
            where=error.filename or out,
            fix="make room or choose another --out; what is complete is kept",
        ) from error
    return out


def write_demo_slide(path: Path, seed: int) -> PhantomTruth:
    """Write one slide with tumour to `path` and return its truth; the first such slide of the seed."""
    spec = next(s for s in (sample_spec(seed, i) for i in range(len(OUTCOMES))) if s.grade is not None)
    pixels, truth = render_slide(spec)
    try:
        write_slide(Path(path), pixels, spec.mpp, spec.stain.jpeg_quality)
    except OSError as error:
        raise CohortError(f"the slide cannot be written ({error.strerror or error})", where=path) from error
    return truth


def split_slides(seed: int, names: list[str]) -> dict[str, list[str]]:
    """Which slides train and which validate: 4 of every 24, so that both see every sort of slide."""
    deck = len(OUTCOMES)
    val_names: set[str] = set()
    for start in range(0, len(names), deck):
        places = np.random.default_rng([seed, 2000, start // deck]).permutation(deck)[:HELD_OUT]
        val_names |= {names[start + place] for place in places if start + place < len(names)}
    if not val_names and len(names) > 1:
        val_names = {names[-1]}
    if len(val_names) == len(names):
        val_names -= {names[0]}
    return {
        "train": [name for name in names if name not in val_names],
        "val": [name for name in names if name in val_names],
    }


def _complete(out: Path, spec: SlideSpec) -> bool:
    files = (f"slides/{spec.name}.tiff", f"truth/{spec.name}.geojson", f"truth/{spec.name}.npz")
    return all((out / file).is_file() for file in files)


def _draw(out: Path, spec: SlideSpec) -> None:
    """Draw one slide; its truth is written last, so that its presence means that the slide is complete."""
    pixels, truth = render_slide(spec)
    write_slide(out / "slides" / f"{spec.name}.tiff", pixels, spec.mpp, spec.stain.jpeg_quality)
    write_geojson(truth, out / "truth" / f"{spec.name}.geojson")
    truth.save(out)


def _draw_missing(out: Path, specs: list[SlideSpec], workers: int, progress: SlideProgress | None) -> None:
    missing = [spec for spec in specs if not _complete(out, spec)]
    complete = len(specs) - len(missing)
    if progress:
        progress(complete, len(specs))
    for count, _ in enumerate(_draw_all(out, missing, workers), start=complete + 1):
        if progress:
            progress(count, len(specs))


def _draw_all(out: Path, specs: list[SlideSpec], workers: int) -> Iterator[None]:
    """Yields once for each slide that is finished."""
    if workers == 1 or len(specs) < 2:
        for spec in specs:
            _draw(out, spec)
            yield
        return
    # Fresh processes: a fork of one that runs threads (torch, rich) may hang.
    with ProcessPoolExecutor(min(workers, len(specs)), mp_context=get_context("spawn")) as pool:
        waiting = [pool.submit(_draw, out, spec) for spec in specs]
        try:
            for future in as_completed(waiting):
                yield future.result()
        except BrokenProcessPool as error:
            raise CohortError(
                "a worker was killed, probably for lack of memory",
                where=out,
                fix="repeat the command with fewer --workers; finished slides are kept",
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _write_words(out: Path, truths: list[PhantomTruth]) -> None:
    """reports.jsonl, instructions.json and questions.csv."""
    from training.phantom.language import pathology_report

    reports: list[str] = []
    instructions: list[dict[str, Any]] = []
    table = io.StringIO(newline="")
    rows = csv.DictWriter(table, COLUMNS, lineterminator="\n")
    rows.writeheader()
    for truth in truths:
        rng = np.random.default_rng([truth.seed, truth.index, 20])
        reports.append(json.dumps({"slide": truth.name, "report": pathology_report(truth.describe(), rng)}))
        instructions += _instructions(truth, rng)
        rows.writerows(_benchmark_rows(truth, rng))
    _write_text(out / "reports.jsonl", "\n".join(reports) + "\n")
    _write_text(out / "instructions.json", json.dumps(instructions, indent=1))
    _write_text(out / "questions.csv", table.getvalue())


def _instructions(truth: PhantomTruth, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Conversations about one slide in WSI-Bench's format, one question each."""
    from core_model.language.conversation import user_words
    from training.phantom.language import questions

    return [
        {
            "id": f"{truth.name}-{number}",
            "image": f"{truth.name}.tiff",
            "conversations": [
                {"from": "human", "value": f"<image>\n{user_words(qa.question, qa.options)}"},
                {"from": "gpt", "value": qa.answer},
            ],
        }
        for number, qa in enumerate(questions(truth.describe(), rng), start=1)
    ]


def _benchmark_rows(truth: PhantomTruth, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Closed questions about one slide; the answer is the 1-based index of an option."""
    from training.phantom.language import benchmark_questions

    return [
        {
            "benchmark_name": f"phantom_{qa.family}",
            "benchmark_id": f"{truth.name}_{qa.family}",
            "image_path": f"{truth.name}.tiff",
            "answer": list(qa.options).index(qa.answer) + 1,
            "options": str(list(qa.options)),
            "image_exists": True,
            "patch_exists": False,
            "is_valid": True,
            "metric_type": "accuracy",
            "file_id": truth.name,
            "prompt": qa.question,
        }
        for qa in benchmark_questions(truth.describe(), rng)
        if qa.options is not None
    ]


def _write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode())
