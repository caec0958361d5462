"""From what the model says of a slide and of its regions to one probability per hypothesis.

Pooling is log-linear: log p(h) ∝ a · log p_slide(h) + b · mean over regions of log p_region(h), with a and b
from the model's calibration. Log-linear rather than an average of probabilities, because one region that
rules a hypothesis out should count for more than one that is indifferent (Genest & Zidek 1986, Statistical
Science 1:114, external Bayesianity). With no region yet the slide's own probabilities stand as they are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

FLOOR = 1e-4
"""Smallest probability a single look may assign: no look alone can rule a hypothesis out for good."""

Posterior = dict[str, float]


def pool(
    whole: Mapping[str, float] | None,
    regions: Sequence[Mapping[str, float]],
    slide_weight: float,
    region_weight: float,
) -> Posterior | None:
    """Pooled probability of each hypothesis, summing to 1; None where nothing has been scored."""
    if whole is None and not regions:
        return None
    if not regions:
        slide_weight = 1.0
    elif whole is None:
        region_weight = 1.0
    names = list(whole if whole is not None else regions[0])
    logs = []
    for name in names:
        log = slide_weight * _log(whole[name]) if whole is not None else 0.0
        if regions:
            log += region_weight * sum(_log(region[name]) for region in regions) / len(regions)
        logs.append(log)
    top = max(logs)
    weights = [math.exp(log - top) for log in logs]
    total = sum(weights)
    return {name: weight / total for name, weight in zip(names, weights, strict=True)}


def _log(p: float) -> float:
    return math.log(max(p, FLOOR))


class Ranked(NamedTuple):
    """A hypothesis and its probability."""

    name: str
    p: float


def ranked(posterior: Mapping[str, float]) -> list[Ranked]:
    """Most probable first; equal ones in their own order."""
    return sorted((Ranked(*item) for item in posterior.items()), key=lambda item: -item.p)


def margin(posterior: Mapping[str, float]) -> float:
    """Distance between the two leading hypotheses; 1 where there is only one."""
    order = ranked(posterior)
    return order[0].p - order[1].p if len(order) > 1 else 1.0


def shift(before: Mapping[str, float], after: Mapping[str, float]) -> float:
    """Largest change of any hypothesis's probability; a hypothesis that is new comes from 0."""
    return max(abs(p - before.get(name, 0.0)) for name, p in after.items())
