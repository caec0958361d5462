"""Finding: texts by slides and slides by texts, and slides by slides.

N items, D channels. Rows are scaled to length 1 here; similarity is the cosine. Ties go to the item that
comes first, so that figures do not depend on a library's sort.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tools.index import unit


def recall_at(queries: np.ndarray, items: np.ndarray, ks: Sequence[int] = (1, 3, 5, 10)) -> dict[str, float]:
    """`recall_K`: share of queries (N, D) whose own item, that of the same row (N, D), is of the K nearest.

    Raises `ValueError` where the rows do not belong together.
    """
    if queries.shape != items.shape or not len(queries):
        raise ValueError(f"{queries.shape} queries and {items.shape} items do not belong together")
    similar = unit(queries) @ unit(items).T  # (N, N)
    own = np.diag(similar)[:, None]  # (N, 1)
    earlier = np.tri(len(similar), k=-1, dtype=bool)  # (N, N): items before one's own
    rank = (similar > own).sum(axis=1) + ((similar == own) & earlier).sum(axis=1)  # (N,)
    return {f"recall_{k}": float((rank < k).mean()) for k in ks}


def slide_retrieval(
    vectors: np.ndarray, classes: Sequence[str], patients: Sequence[str], ks: Sequence[int] = (1, 3, 5)
) -> dict[str, float]:
    """Search each slide among those of all other patients (leave one patient out).

    `acc_K`: share of slides with one of their class among the K nearest; `mmv_5`: share whose class has the
    majority of the 5 nearest (Kalra et al. 2020, Med. Image Anal. 65:101757). Slides whose class no other
    patient has cannot be found and count as missed; `findable` says what share is left. Raises `ValueError`.
    """
    if not len(vectors) == len(classes) == len(patients) or not len(vectors):
        raise ValueError("vectors, classes and patients are not of one length")
    labels, owners = np.array(classes), np.array(patients)
    similar = unit(vectors) @ unit(vectors).T  # (N, N)
    hits: dict[str, list[bool]] = {name: [] for name in (*(f"acc_{k}" for k in ks), "mmv_5", "findable")}
    for i in range(len(vectors)):
        others = np.flatnonzero(owners != owners[i])
        nearest = others[np.argsort(-similar[i, others], kind="stable")]
        same = labels[nearest] == labels[i]
        for k in ks:
            hits[f"acc_{k}"].append(bool(same[:k].any()))
        hits["mmv_5"].append(_majority(labels[nearest[:5]]) == labels[i])
        hits["findable"].append(bool(same.any()))
    return {name: float(np.mean(values)) for name, values in hits.items()}


def zero_shot(vectors: np.ndarray, prompts: Sequence[np.ndarray]) -> np.ndarray:
    """(N,) int: the class nearest to each of `vectors` (N, D).

    `prompts` holds for each of C classes the vectors (P, D) of its phrasings; a class stands for the mean of
    their directions (Radford et al. 2021, prompt ensembles).
    """
    means = np.stack([unit(unit(phrases).mean(axis=0)[None])[0] for phrases in prompts])  # (C, D)
    return np.asarray((unit(vectors) @ means.T).argmax(axis=1))


def _majority(labels: np.ndarray) -> str | None:
    """The most frequent label, of equals the one that comes first; None for none."""
    if not len(labels):
        return None
    names, first, counts = np.unique(labels, return_index=True, return_counts=True)
    best = counts == counts.max()
    return str(names[best][first[best].argmin()])
