"""What a model's vectors are worth without its language: retrieval, zero-shot classification, linear probes.

Letters: S slides with one vector each (S, E), in the space of the texts; T of them have a report (T, E); P
phrasings of a class; N slides of a task, R replicates. A cohort's
questions give the classes of slides: their options are the class names, the right answers the labels.

Beside every figure stands what chance reaches, and its bootstrap over patients: slides of one patient are
alike, so drawing slides would promise too much.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from core_model.errors import GiantError
from eval.asking.slides import stem_of
from eval.benchmarks.questions import Question
from eval.metrics.classification import class_codes, right
from eval.metrics.resampling import draws, scores
from eval.metrics.retrieval import random_retrieval, recall_hits, retrieval_hits, zero_shot

TEMPLATES = ("{}", "{}.", "Diagnosis: {}.", "Histology: {}.", "Findings: {}.", "Microscopy: {}.")
"""Phrasings of a class by its name alone, which stands apart: "no tumour" and "grade 2" fit as well."""
SHORT, MOST = 80, 16
"""Characters of a question that still leaves room for an answer in a text tower, and how many are taken."""
BARE = frozenset({"yes", "no", "true", "false", "present", "absent", "not present"})
"""Names that mean a class only together with one question."""
FOLDS, INNER = 5, 3
STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0)
"""Inverse regularisation that a linear probe may have; chosen within its training slides."""
Prompts = Mapping[str, Mapping[str, Sequence[str]]]
"""Task, class name → phrasings."""


@dataclass(frozen=True)
class Vectors:
    """Slides as vectors, with what is known of them."""

    slides: list[str]
    """Names without suffix."""
    patients: list[str]
    images: np.ndarray
    """(S, E) float32."""
    told: np.ndarray
    """(T,) int: the slides that have a report."""
    reports: np.ndarray
    """(T, E) float32."""


class NoTask(Exception):
    """Questions that do not sort slides into classes; the message says why."""


def measure_vectors(
    vectors: Vectors, questions: Sequence[Question], model: Any, prompts: Prompts | None = None, seed: int = 0
) -> dict[str, Any]:
    """`{"slides", "patients", "reports", "retrieval", "tasks", "skipped"}`.

    "retrieval" has `slide_to_report` and `report_to_slide`, or is None with fewer than two reports. "tasks"
    has for each task of the questions `slides, classes, largest_class, retrieval, zero_shot, linear_probe`;
    "skipped" says of the others why. A figure is `{value, sd, low, high, chance}`.
    """
    record: dict[str, Any] = {
        "slides": len(vectors.slides),
        "patients": len(set(vectors.patients)),
        "reports": len(vectors.told),
        "retrieval": _cross_modal(vectors, seed) if len(vectors.told) > 1 else None,
        "tasks": {},
        "skipped": {},
    }
    place = {name: row for row, name in enumerate(vectors.slides)}
    tasks: dict[str, list[Question]] = {}
    for question in questions:
        if stem_of(question.slide) in place:
            tasks.setdefault(question.benchmark, []).append(question)
    for task, members in tasks.items():
        rows = [place[stem_of(question.slide)] for question in members]
        task_prompts = (prompts or {}).get(task)
        try:
            classes = classes_of(members, rows, task_prompts)
            record["tasks"][task] = _task(vectors, rows, members, classes, task_prompts, model, seed)
        except NoTask as why:
            record["skipped"][task] = str(why)
    return record


def classes_of(
    questions: Sequence[Question], rows: Sequence[int], prompts: Mapping[str, Sequence[str]] | None = None
) -> tuple[str, ...]:
    """The classes into which questions sort their slides. Raises `NoTask` where they do not."""
    classes = questions[0].options or questions[0].labels
    if classes is None:
        raise NoTask("its questions are open")
    if any(set(q.options or q.labels or ()) != set(classes) for q in questions):
        raise NoTask("its questions have different options")
    if len(set(rows)) < len(rows):
        raise NoTask("it asks several questions of one slide")
    if len({q.answer for q in questions}) < 2:
        raise NoTask("all its slides are of one class")
    several = len({q.question for q in questions}) > 1
    if several and prompts is None and all(name.strip().casefold() in BARE for name in classes):
        raise NoTask(f"'{classes[0]}' may mean something else under each of its questions: give --prompts")
    return tuple(sorted(classes))


def phrasings(
    name: str, questions: Sequence[Question], prompts: Mapping[str, Sequence[str]] | None = None
) -> list[str]:
    """The texts that stand for a class: those given, else its name in templates and as an answer.

    All slides are held against the same phrasings, whatever was asked of each. Raises `GiantError` where
    phrasings are given and this class has none.
    """
    from agent.navigators.search import phrase

    if prompts is not None:
        if not prompts.get(name):
            raise GiantError(
                f"the file of --prompts has no phrasing of '{name}' in task {questions[0].benchmark}"
            )
        return list(prompts[name])
    short = sorted({q.question for q in questions if len(q.question) <= SHORT})[:MOST]
    return [template.format(name) for template in TEMPLATES] + [phrase(question, name) for question in short]


def probe(
    vectors: np.ndarray, truth: Sequence[str], patients: Sequence[str], seed: int = 0
) -> list[str] | None:
    """Classes predicted by a logistic regression, each for patients that it was not fitted on, in five folds.

    Channels are standardised and the regularisation is chosen within the patients it is fitted on. None where
    a class has fewer patients than there are folds.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    labels, owners = np.array(truth), np.array(patients)
    if min(len(set(owners[labels == label])) for label in set(truth)) < FOLDS:
        return None
    predictions = np.empty(len(labels), dtype=labels.dtype)
    for train, test in StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed).split(
        vectors, labels, owners
    ):
        search = GridSearchCV(
            make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000, class_weight="balanced")),
            {"logisticregression__C": STRENGTHS},
            scoring="balanced_accuracy",
            cv=StratifiedGroupKFold(INNER, shuffle=True, random_state=seed),
        )
        predictions[test] = search.fit(vectors[train], labels[train], groups=owners[train]).predict(
            vectors[test]
        )
    return [str(label) for label in predictions]


def figure(
    metric: str, codes: np.ndarray, hits: np.ndarray, patients: Sequence[str], chance: float, seed: int = 0
) -> dict[str, float]:
    """`{value, sd, low, high, chance}` of "accuracy" or "balanced_accuracy"; replicates draw patients.

    What is searched in retrieval stays as it is: only queries are drawn, or a slide would find its double.
    """
    owners = class_codes(patients)  # (N,)
    counts = draws(int(owners.max()) + 1, seed)[:, owners]  # (R, N)
    value = float(scores(metric, codes, hits, np.ones((1, len(hits))))[0])
    over = scores(metric, codes, hits, counts)
    low, high = np.percentile(over, [2.5, 97.5])
    return {"value": value, "sd": float(over.std(ddof=1)), "low": float(low), "high": float(high),
            "chance": chance}  # fmt: skip


def _cross_modal(vectors: Vectors, seed: int) -> dict[str, dict[str, dict[str, float]]]:
    images, n = vectors.images[vectors.told], len(vectors.told)
    owners = [vectors.patients[row] for row in vectors.told]
    ways = {"slide_to_report": (images, vectors.reports), "report_to_slide": (vectors.reports, images)}
    return {
        way: {
            name: figure("accuracy", np.zeros(n, dtype=int), hits, owners, min(1.0, k / n), seed)
            for name, hits in recall_hits(*pair).items()
            for k in [int(name.removeprefix("recall_"))]
        }
        for way, pair in ways.items()
    }


def _task(
    vectors: Vectors, rows: Sequence[int], questions: Sequence[Question], classes: Sequence[str],
    prompts: Mapping[str, Sequence[str]] | None, model: Any, seed: int,
) -> dict[str, Any]:  # fmt: skip
    images, truth = vectors.images[list(rows)], [question.answer for question in questions]
    owners = [vectors.patients[row] for row in rows]
    codes, occur = class_codes(truth), len(set(truth))
    hits = retrieval_hits(images, truth, owners)
    chance = random_retrieval(truth, owners, seed=seed)
    nearest = [classes[i] for i in zero_shot(images, _embedded(model, classes, questions, prompts))]
    predictions = probe(images, truth, owners, seed)
    largest, metric = float(np.bincount(codes).max() / len(codes)), "balanced_accuracy"
    return {
        "slides": len(rows),
        "classes": occur,
        "largest_class": largest,
        "findable": float(hits.pop("findable").mean()),
        "retrieval": {
            name: figure("accuracy", codes, values, owners, chance[name], seed)
            for name, values in hits.items()
        },
        "zero_shot": figure(
            "balanced_accuracy", codes, right(truth, nearest), owners, 1 / len(classes), seed
        ),
        "linear_probe": None
        if predictions is None
        else figure(metric, codes, right(truth, predictions), owners, 1 / occur, seed),
    }


def _embedded(
    model: Any,
    classes: Sequence[str],
    questions: Sequence[Question],
    prompts: Mapping[str, Sequence[str]] | None,
) -> list[np.ndarray]:
    """Vectors (P, E) of each class's phrasings."""
    return [model.embed_text(phrasings(name, questions, prompts)) for name in classes]
