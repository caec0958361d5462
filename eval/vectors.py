"""What a model's vectors are worth without its language: retrieval, zero-shot classification, linear probes.

S slides with one vector each (S, E), in the space of the texts, and their reports as vectors (S, E). A
cohort's questions with options give the classes: the options are the class names, the right answers the
labels.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from core_model.errors import CohortError, GiantError
from eval.metrics.classification import balanced_accuracy
from eval.metrics.retrieval import recall_at, slide_retrieval, zero_shot
from eval.questions import Question

if TYPE_CHECKING:
    from core_model.extract import Progress

TEMPLATES = (
    "{}.",
    "There is {}.",
    "A whole-slide image of {}.",
    "Histopathology shows {}.",
    "The diagnosis is {}.",
)
"""Phrasings of one class; it stands for the mean of their directions."""
FOLDS = 5


@dataclass(frozen=True)
class Vectors:
    """Slides as vectors, with what is known of them."""

    slides: list[str]
    patients: list[str]
    images: np.ndarray
    """(S, E) float32."""
    reports: np.ndarray | None
    """(S, E) float32; None where a slide has no report."""


def slide_vectors(
    model: Any, paths: dict[str, Path], reports: dict[str, str], progress: Progress | None = None
) -> Vectors:
    """A vector for each slide, by its name; features come from the cache where they are."""
    from agent.session import cache_folder
    from core_model.extract import extract
    from core_model.features import FeatureStore
    from core_model.slide import open_slide

    store, rows = FeatureStore(cache_folder()), []
    for path in paths.values():
        with open_slide(path) as slide:
            rows.append(model.embed_slide(extract(slide, model.tile_encoder, store, progress)))
    names = list(paths)
    texts = [reports[name] for name in names if name in reports]
    told = model.embed_text(texts) if len(texts) == len(names) else None
    return Vectors(names, [patient_of(name) for name in names], np.stack(rows), told)


def read_reports(cohort: Path) -> dict[str, str]:
    """The report of each slide of a cohort. Raises `CohortError`."""
    path = cohort / "reports.jsonl"
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
        return {str(row["slide"]): str(row["report"]) for row in rows}
    except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError) as error:
        raise CohortError(f"holds no readable reports ({error})", where=path) from error


def patient_of(slide: str) -> str:
    """The patient of a slide: of TCGA's names the first three parts, else the slide itself."""
    parts = slide.split("-")
    return "-".join(parts[:3]) if slide.upper().startswith("TCGA-") and len(parts) > 3 else slide


def measure(vectors: Vectors, questions: Sequence[Question], model: Any, seed: int = 0) -> dict[str, Any]:
    """`{"retrieval": …, "tasks": {question: {slides, retrieval, zero_shot, linear_probe, chance}}}`."""
    found: dict[str, Any] = {"slides": len(vectors.slides), "retrieval": None, "tasks": {}}
    if vectors.reports is not None:
        found["retrieval"] = {
            "slide_to_report": recall_at(vectors.images, vectors.reports),
            "report_to_slide": recall_at(vectors.reports, vectors.images),
        }
    place = {name: row for row, name in enumerate(vectors.slides)}
    tasks: dict[str, list[Question]] = {}
    for question in questions:
        if question.options and Path(question.slide).stem in place:
            tasks.setdefault(question.benchmark, []).append(question)
    for task, asked in tasks.items():
        options = asked[0].options
        rows = [place[Path(q.slide).stem] for q in asked]
        if (
            options is None
            or any(set(q.options or ()) != set(options) for q in asked)
            or len(set(rows)) < len(rows)
        ):
            continue  # not one classification of slides
        found["tasks"][task] = _task(vectors, rows, [q.answer for q in asked], options, model, seed)
    return found


def _task(
    vectors: Vectors, rows: list[int], truth: list[str], options: Sequence[str], model: Any, seed: int
) -> dict[str, Any]:
    images = vectors.images[rows]
    patients = [vectors.patients[row] for row in rows]
    prompts = [model.embed_text([t.format(option) for t in TEMPLATES]) for option in options]
    said = [options[i] for i in zero_shot(images, prompts)]
    probed = probe(images, truth, patients, seed)
    return {
        "slides": len(rows),
        "classes": len(set(truth)),
        "retrieval": slide_retrieval(images, truth, patients),
        "zero_shot": balanced_accuracy(truth, said),
        "linear_probe": None if probed is None else balanced_accuracy(truth, probed),
        "chance": 1 / len(set(truth)),
    }


def probe(
    vectors: np.ndarray, truth: Sequence[str], patients: Sequence[str], seed: int = 0
) -> list[str] | None:
    """What a logistic regression says of slides whose patients it was not fitted on, in five folds.

    None where a class has fewer patients than there are folds. Raises `GiantError` without scikit-learn.
    """
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import StratifiedGroupKFold
    except ImportError as error:
        raise GiantError(
            "linear probes need scikit-learn", fix="pip install 'giant-pathology[eval]'"
        ) from error
    labels, owners = np.array(truth), np.array(patients)
    fewest = min(len(set(owners[labels == label])) for label in set(truth))
    if fewest < FOLDS or len(set(truth)) < 2:
        return None
    said = np.empty(len(labels), dtype=labels.dtype)
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    for train, test in folds.split(vectors, labels, owners):
        fitted = LogisticRegression(max_iter=2000, class_weight="balanced").fit(vectors[train], labels[train])
        said[test] = fitted.predict(vectors[test])
    return [str(label) for label in said]
