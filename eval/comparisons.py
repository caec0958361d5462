"""Modes against each other on the questions that both answered, corrected for how many pairs there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from eval.asking.results import Result, label
from eval.metrics.classification import class_codes
from eval.metrics.paired import compare, holm


def comparisons(by_mode: Mapping[str, Sequence[Result]], metric: str) -> list[dict[str, Any]]:
    """Every pair of modes of one task: difference with its interval, exact McNemar and bootstrap, Holm's p.

    Only questions that both modes were asked count; a pair without any is left out. Open questions are
    compared by nothing here: they have no right and wrong.
    """
    found: list[dict[str, Any]] = []
    for first, second in combinations(by_mode, 2):
        a = {(r.benchmark, r.id): r for r in by_mode[first]}
        b = {(r.benchmark, r.id): r for r in by_mode[second]}
        shared = [key for key in a if key in b]
        if not shared:
            continue
        truth = [a[key].truth for key in shared]
        hits = [np.array([label(side[key]) == side[key].truth for key in shared]) for side in (a, b)]
        result = compare(metric, class_codes(truth), hits[0], hits[1])
        found.append({"first": first, "second": second, **vars(result)})
    for name in ("p_mcnemar", "p_bootstrap"):
        for entry, p in zip(found, holm([entry[name] for entry in found]), strict=True):
            entry[f"{name}_holm"] = p
    return found
