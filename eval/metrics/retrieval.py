"""Retrieval: texts found by slides and slides by texts, and slides found by slides.

Letters: N items, D channels, Q queries, C classes, P phrasings, R random draws. Rows are scaled to length 1
here; similarity is the cosine. `…_hits` give one value a query, so that a mean and its spread are taken over
the same numbers.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from tools.index import unit

RANKS = (1, 3, 5, 10)
NEAREST = (1, 3, 5)
VOTERS = 5
_CLOSE = 1e-6
"""Cosines of float32 vectors that differ by less are equal: their order would be that of rounding."""
_DRAWS = 4000


def recall_hits(queries: np.ndarray, items: np.ndarray, ks: Sequence[int] = RANKS) -> dict[str, np.ndarray]:
    """`recall_K`: (N,) whether the own item of each query, that of the same row, is of the K nearest.

    `queries` and `items` are (N, D). Items as near as the own one share their places: two in places 1 and 2
    are worth a half each at K = 1, so that vectors which tell nothing apart score what chance scores,
    whatever the order of the rows. Raises `ValueError` where the rows do not belong together or a number is
    not finite.
    """
    if queries.shape != items.shape or not len(queries):
        raise ValueError(f"{queries.shape} queries and {items.shape} items do not belong together")
    away = _cosines(queries, items)  # (N, N)
    away -= np.diag(away).copy()[:, None]
    nearer = (away > _CLOSE).sum(axis=1)  # (N,)
    level = (np.abs(away) <= _CLOSE).sum(axis=1)  # (N,), the own one among them
    return {f"recall_{k}": np.clip((k - nearer) / level, 0.0, 1.0) for k in ks}


def recall_at(queries: np.ndarray, items: np.ndarray, ks: Sequence[int] = RANKS) -> dict[str, float]:
    """The means of `recall_hits`."""
    return {name: float(values.mean()) for name, values in recall_hits(queries, items, ks).items()}


def retrieval_hits(
    vectors: np.ndarray, classes: Sequence[str], patients: Sequence[str], ks: Sequence[int] = NEAREST
) -> dict[str, np.ndarray]:
    """Search each slide (N, D) among those of all other patients (leave one patient out); (N,) each.

    `acc_K`: whether one of the K nearest is of its class. `mmv_5`: whether its class is the most frequent of
    the 5 nearest, of equals the one that comes first (majority vote; Kalra et al. 2020, Med. Image Anal.
    65:101757). `findable`: whether another patient has its class at all; where not, the slide counts as
    missed. Slides that are equally near come in the order of their rows. Raises `ValueError`.
    """
    if not len(vectors) == len(classes) == len(patients) or not len(vectors):
        raise ValueError("vectors, classes and patients are not of one length")
    labels, owners = np.array(classes), np.array(patients)
    similar = _cosines(vectors, vectors)  # (N, N)
    hits: dict[str, list[bool]] = {name: [] for name in (*(f"acc_{k}" for k in ks), "mmv_5", "findable")}
    for i in range(len(vectors)):
        rest = np.flatnonzero(owners != owners[i])
        nearest = rest[np.argsort(-np.round(similar[i, rest] / _CLOSE), kind="stable")]
        matches = labels[nearest] == labels[i]
        for k in ks:
            hits[f"acc_{k}"].append(bool(matches[:k].any()))
        hits["mmv_5"].append(_most_frequent(labels[nearest[:VOTERS]]) == labels[i])
        hits["findable"].append(bool(matches.any()))
    return {name: np.array(values, dtype=np.float64) for name, values in hits.items()}


def slide_retrieval(
    vectors: np.ndarray, classes: Sequence[str], patients: Sequence[str], ks: Sequence[int] = NEAREST
) -> dict[str, float]:
    """The means of `retrieval_hits`."""
    return {name: float(v.mean()) for name, v in retrieval_hits(vectors, classes, patients, ks).items()}


def random_retrieval(
    classes: Sequence[str], patients: Sequence[str], ks: Sequence[int] = NEAREST, seed: int = 0
) -> dict[str, float]:
    """Expected values of `slide_retrieval` where slides come in random order.

    `acc_K` exactly; `mmv_5` from draws of 5, equals shared.
    """
    names = sorted(set(classes))
    everyone = Counter(classes)
    by_patient: dict[str, Counter[str]] = {}
    for label, owner in zip(classes, patients, strict=True):
        by_patient.setdefault(owner, Counter())[label] += 1
    cache: dict[tuple[str, tuple[int, ...]], dict[str, float]] = {}
    chances: list[dict[str, float]] = []
    for label, owner in zip(classes, patients, strict=True):
        remaining = tuple(everyone[name] - by_patient[owner][name] for name in names)
        if (label, remaining) not in cache:
            cache[label, remaining] = _by_chance(names.index(label), remaining, ks, seed)
        chances.append(cache[label, remaining])
    return {name: sum(chance[name] for chance in chances) / len(chances) for name in chances[0]}


def zero_shot(vectors: np.ndarray, prompts: Sequence[np.ndarray]) -> np.ndarray:
    """(N,) int: the class nearest to each of `vectors` (N, D), of equals the first.

    `prompts` holds for each of C classes the vectors (P, D) of its phrasings; a class stands for the mean of
    their directions (Radford et al. 2021, prompt ensembles). Raises `ValueError` for numbers not finite.
    """
    means = np.stack([unit(phrases).mean(axis=0) for phrases in prompts])  # (C, D)
    return np.asarray(np.round(_cosines(vectors, means) / _CLOSE).argmax(axis=1))


def _cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(Q, N) float64. Raises `ValueError` where a number is not finite: it would compare as anything."""
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("a vector holds a number that is not finite")
    return unit(a).astype(np.float64) @ unit(b).astype(np.float64).T


def _by_chance(
    label_index: int, remaining: tuple[int, ...], ks: Sequence[int], seed: int
) -> dict[str, float]:
    """Expected values for one slide; `remaining` says how many slides of each class others have."""
    n, matches = sum(remaining), remaining[label_index]
    figures = {f"acc_{k}": 1 - math.comb(n - matches, min(k, n)) / math.comb(n, min(k, n)) for k in ks}
    if n == 0:
        return dict.fromkeys((*figures, "mmv_5", "findable"), 0.0)
    rng = np.random.default_rng(seed)
    samples = rng.multivariate_hypergeometric(
        remaining, min(VOTERS, n), size=_DRAWS, method="marginals"
    )  # (R, C)
    most = samples == samples.max(axis=1, keepdims=True)
    figures["mmv_5"] = float((most[:, label_index] / most.sum(axis=1)).mean())
    return {**figures, "findable": float(matches > 0)}


def _most_frequent(labels: np.ndarray) -> str | None:
    """The most frequent label, of equals the one that comes first; None for none."""
    if not len(labels):
        return None
    names, first, counts = np.unique(labels, return_index=True, return_counts=True)
    best = counts == counts.max()
    return str(names[best][first[best].argmin()])
