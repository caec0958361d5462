"""Turn a cohort's slides into vectors of a model, measure them, and write `vectors.json`.

The other half of the file reads what a cohort says of its slides: split, reports, patients, phrasings,
survival.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from core_model.errors import CohortError, GiantError, UsageError
from core_model.slides.discover import slides_under
from eval.asking.leakage import leakage, patient_of
from eval.asking.slides import SlideFolder, stem_of
from eval.benchmarks.tables import csv_rows, json_rows
from eval.metrics.survival import survival_cindex
from eval.tables import figures_table
from eval.vectors.measure import Prompts, Vectors, measure_vectors
from tools.index import unit

if TYPE_CHECKING:
    from rich.table import Table

    from core_model.features.extract import Progress
    from core_model.features.tiles import TileFeatures

VECTORS = "vectors.json"
SPLITS = ("val", "train", "all")
YES, NO = ("1", "true", "yes"), ("0", "false", "no")
Tell = Callable[[int, int], None]
"""Told how many of how many slides are read."""


@dataclass(frozen=True)
class VectorPlan:
    """Which slides of which cohort are measured, and what is known of them."""

    data: Path
    """A cohort folder."""
    split: str | None = None
    """val, train or all; None: val where the cohort has it, else all."""
    limit: int | None = None
    """At most so many slides, the first by name."""
    patients: Path | None = None
    """CSV slide,patient; None: TCGA's barcodes tell, any other slide is a patient of its own."""
    prompts: Path | None = None
    """JSON {task: {class: [phrasing, …]}}."""
    survival: Path | None = None
    """CSV slide,time,event."""
    seed: int = 0


def evaluate_vectors(
    plan: VectorPlan, model: Any, out: Path, tell: Tell | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """Measure and write `vectors.json`; returns what it holds.

    Features come from the cohort's `features/*.h5`, else from the cache, else they are computed. A slide that
    cannot be read is listed under "missing" with the reason. Raises `GiantError`.
    """
    from agent.run.folder import giant_version
    from core_model import load_model
    from core_model.files import write_text
    from eval.asking.modes import model_identity
    from eval.bench.measure import hardware
    from eval.benchmarks.registry import read_benchmark

    names, reports = slides_of(plan), read_reports(plan.data)
    owners = read_patients(plan.patients) if plan.patients else {}
    if plan.patients and (unknown := [name for name in names if name not in owners]):
        raise CohortError(
            f"the table names no patient for slide {unknown[0]}",
            where=plan.patients,
            fix="Add the slide to it",
        )
    prompts = read_prompts(plan.prompts) if plan.prompts else None
    deaths = read_survival(plan.survival) if plan.survival else None
    questions = []
    if (plan.data / "questions.csv").is_file():
        questions = read_benchmark("cohort", plan.data).questions
    local_model = load_model(model)
    images, missing = embed_slides(local_model, plan.data, names, tell, progress)
    if not images:
        raise CohortError(f"none of the {len(names)} slides can be read ({missing[0][1]})", where=plan.data)
    slides = list(images)
    with_report = [row for row, name in enumerate(slides) if name in reports]
    vectors = Vectors(
        slides, [owners.get(name) or patient_of(name) for name in slides], np.stack(list(images.values())),
        np.array(with_report, dtype=int),
        local_model.embed_text([reports[slides[row]] for row in with_report]),
    )  # fmt: skip
    try:
        figures = measure_vectors(vectors, questions, local_model, prompts, plan.seed)
    except ValueError as error:
        raise GiantError(
            f"the vectors of this model cannot be measured ({error})", where=local_model.name
        ) from error
    record = {
        "version": 1,
        "about": {"data": str(plan.data), "split": plan.split or "val, else all", "limit": plan.limit,
                  "seed": plan.seed, "model": str(model), "weights": model_identity(model),
                  "giant": giant_version(), "hardware": hardware()},
        "leakage": leakage(model, None, slides),
        **figures,
        "survival": survival_of(vectors, deaths, plan.seed) if deaths is not None else None,
        "missing": [{"slide": name, "why": why} for name, why in missing],
    }  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / VECTORS, json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    return record


def embed_slides(
    model: Any, data: Path, names: Sequence[str], tell: Tell | None = None, progress: Progress | None = None
) -> tuple[dict[str, np.ndarray], list[tuple[str, str]]]:
    """A vector (E,) for each slide that can be read, and why for the others."""
    slides = SlideFolder(data / "slides") if (data / "slides").is_dir() else None
    vectors: dict[str, np.ndarray] = {}
    missing = []
    for count, name in enumerate(names, 1):
        try:
            vectors[name] = model.embed_slide(_features(model, data, slides, name, progress))
        except GiantError as error:
            missing.append((name, str(error)))
        if tell is not None:
            tell(count, len(names))
    return vectors, missing


def _features(
    model: Any, data: Path, slides: SlideFolder | None, name: str, progress: Progress | None
) -> TileFeatures:
    from core_model.features.extract import extract
    from core_model.features.foreign import read_slide_features
    from core_model.features.store import FeatureStore, cache_folder
    from core_model.slides.slide import open_slide

    path = data / "features" / f"{name}.h5"
    if path.is_file():
        return read_slide_features(path)
    if slides is None:
        raise CohortError(f"the cohort has neither a folder of slides nor features/{name}.h5", where=data)
    with open_slide(slides.find(name)) as slide:
        return extract(slide, model.tile_encoder, FeatureStore(cache_folder(), kept=False), progress)


def slides_of(plan: VectorPlan) -> list[str]:
    """The names of the slides to measure, in order. Raises `UsageError` and `CohortError`."""
    if plan.split not in (None, *SPLITS):
        raise UsageError(f"there is no split '{plan.split}'", fix=f"Choose one of {', '.join(SPLITS)}")
    if plan.limit is not None and plan.limit < 1:
        raise UsageError(f"a limit of {plan.limit} leaves no slide to measure", fix="Give at least 1")
    splits = _splits(plan.data)
    if plan.split in ("val", "train") and not splits.get(plan.split):
        raise CohortError(f"split.json has no slides under '{plan.split}'", where=plan.data)
    part = plan.split if plan.split is not None else "val" if splits.get("val") else "all"
    names = splits[part] if part != "all" else [name for split in splits.values() for name in split]
    if not names:
        names = [stem_of(path.name) for path in _files(plan.data)]
    names = sorted(set(names))[: plan.limit]
    if not names:
        raise CohortError(
            "the folder has no slides", where=plan.data, fix="Give the folder of a cohort with --data"
        )
    return names


def _splits(data: Path) -> dict[str, list[str]]:
    path = data / "split.json"
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): [stem_of(str(slide)) for slide in slides] for name, slides in content.items()}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise CohortError(f"the file holds no lists of slides ({error})", where=path) from error


def _files(data: Path) -> list[Path]:
    slides = slides_under([data / "slides"]).paths if (data / "slides").is_dir() else []
    features = (path for path in sorted((data / "features").glob("*.h5")) if not path.name.startswith("."))
    return [*slides, *features]


def read_reports(data: Path) -> dict[str, str]:
    """The report of each slide of a cohort that has one; none without the file. Raises `CohortError`."""
    path = data / "reports.jsonl"
    if not path.exists():
        return {}
    reports = {}
    for number, row in json_rows(path):
        slide, report = (row.get("slide"), row.get("report")) if isinstance(row, dict) else (None, None)
        if not isinstance(slide, str) or not isinstance(report, str) or not report.strip():
            raise CohortError(f"line {number} has no slide or no report", where=path)
        reports[stem_of(slide)] = report
    return reports


def read_patients(path: Path) -> dict[str, str]:
    """Slide → patient. Raises `CohortError`."""
    return {stem_of(row["slide"]): row["patient"].strip() for _, row in csv_rows(path, ("slide", "patient"))}


def read_prompts(path: Path) -> Prompts:
    """Task → class → phrasings. Raises `CohortError`."""
    fix = 'It is JSON: {"task": {"class": ["phrasing", …]}}'
    try:
        prompts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CohortError(f"the file cannot be read ({error})", where=path, fix=fix) from error
    tasks = list(prompts.values()) if isinstance(prompts, dict) else [None]
    if not tasks or not all(isinstance(classes, dict) and _phrased(classes) for classes in tasks):
        raise CohortError("the file has no lists of phrasings by task and class", where=path, fix=fix)
    return prompts


def read_survival(path: Path) -> dict[str, tuple[float, bool]]:
    """Slide → time and whether it is that of death. Raises `CohortError`."""
    deaths = {}
    for line, row in csv_rows(path, ("slide", "time", "event")):
        try:
            time, event = float(row["time"]), row["event"].strip().casefold()
            if not (math.isfinite(time) and time >= 0) or event not in (*YES, *NO):
                raise ValueError
        except ValueError as error:
            raise CohortError(f"line {line} has no time or no event (0 or 1)", where=path) from error
        deaths[stem_of(row["slide"])] = (time, event in YES)
    return deaths


def survival_of(vectors: Vectors, deaths: Mapping[str, tuple[float, bool]], seed: int = 0) -> dict[str, Any]:
    """`{patients, events, c_index}` from one row a patient: the mean of the patient's slides.

    `c_index` is None with fewer deaths than folds. Raises `CohortError` where slides of one patient differ.
    """
    rows: dict[str, list[int]] = {}
    for row, (slide, patient) in enumerate(zip(vectors.slides, vectors.patients, strict=True)):
        if slide in deaths:
            rows.setdefault(patient, []).append(row)
    for patient, members in rows.items():
        if len({deaths[vectors.slides[row]] for row in members}) > 1:
            raise CohortError(
                f"the slides of patient {patient} have different times or events", where="--survival"
            )
    if not rows:
        return {"patients": 0, "events": 0, "c_index": None}
    outcomes = [deaths[vectors.slides[members[0]]] for members in rows.values()]
    time, event = np.array([t for t, _ in outcomes]), np.array([e for _, e in outcomes])
    x = np.stack([unit(vectors.images[members]).mean(axis=0) for members in rows.values()]).astype(np.float64)
    c_index = survival_cindex(x, time, event, seed=seed)
    return {"patients": len(rows), "events": int(event.sum()), "c_index": c_index}


def vectors_table(record: Mapping[str, Any]) -> Table:
    """A table of the figures for a terminal, each in per cent beside chance."""
    table = figures_table(["what", "figure"], ["n", "% ± sd", "95 %", "chance"], wrap=False)
    for subject, name, n, f in _rows(record):
        if f is None:
            table.add_row(subject, name, str(n), "too few", "", "")
            continue
        cells = [
            f"{100 * f['value']:.1f} ± {100 * f['sd']:.1f}",
            f"{100 * f['low']:.0f}–{100 * f['high']:.0f}",
        ]
        table.add_row(subject, name, str(n), *cells, f"{100 * f['chance']:.1f}")
    return table


def _rows(record: Mapping[str, Any]) -> Iterable[tuple[str, str, int, Mapping[str, float] | None]]:
    for way, by_name in (record["retrieval"] or {}).items():
        for name, f in by_name.items():
            yield way.replace("_", " "), name.replace("_", "@"), record["reports"], f
    for task, results in record["tasks"].items():
        for name, f in results["retrieval"].items():
            yield task, name.replace("_", "@"), results["slides"], f
        yield task, "zero-shot (balanced)", results["slides"], results["zero_shot"]
        yield task, "linear probe (balanced)", results["slides"], results["linear_probe"]
    if record["survival"] is not None:
        yield "survival", "c-index", record["survival"]["patients"], record["survival"]["c_index"]


def _phrased(classes: dict[str, Any]) -> bool:
    return all(
        isinstance(words, list) and words and all(isinstance(word, str) for word in words)
        for words in classes.values()
    )
