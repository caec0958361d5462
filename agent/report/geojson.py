"""The boxes of a run as GeoJSON that QuPath opens.

QuPath wants, for every feature, `objectType` "annotation", a classification with a colour, measurements
that are numbers and metadata that are texts. It crops a slide to its scanned bounds, so coordinates are
counted from there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from agent.run.records import Answer, RunRecord, SlideRecord, Step
from core_model.slides.box import Box

COLORS = {"evidence": [190, 60, 120], "looked at": [110, 110, 130], "unreadable": [200, 120, 0]}


def evidence_geojson(run: RunRecord, answer: Answer, steps: Sequence[Step]) -> dict[str, Any]:
    """A FeatureCollection: boxes that the answer cites, others that were looked at, unreadable tiles.

    Of stored slide tokens there is none: they have no places.
    """
    if not isinstance(run.slide, SlideRecord):
        return {"type": "FeatureCollection", "features": []}
    findings = {e.step: e.finding for e in answer.evidence}
    claims = _claimed(answer)
    origin = run.slide.bounds
    features = []
    for step in steps:
        box = step.observation.box
        if box is None or not step.observation.ok or step.action.tool == "overview":
            continue
        kind = "evidence" if step.index in {*findings, *claims} else "looked at"
        numbers: dict[str, float] = {"step": step.index}
        if step.observation.mpp is not None:
            numbers["mpp"] = step.observation.mpp
        if step.posterior:
            numbers |= {f"P({name})": p for name, p in step.posterior.items()}
        texts = {
            "tool": step.action.tool,
            "finding": findings.get(step.index, step.finding),
            "model": answer.model,
            "chosen by": step.action.by,
            **claims.get(step.index, {}),
        }
        features.append(_feature(f"step {step.index}", kind, box, origin, numbers, texts))
    for bad in run.unreadable:
        features.append(_feature("unreadable tile", "unreadable", bad.box, origin, {}, {"why": bad.why}))
    return {"type": "FeatureCollection", "features": features}


def _claimed(answer: Answer) -> dict[int, dict[str, str]]:
    """For each step, the claims that it is cited for: one text each for, against, and unsupported."""
    texts: dict[int, dict[str, list[str]]] = {}
    for claim in answer.claims:
        name = "unsupported" if claim.unsupported else "against" if claim.against else "for"
        for step in claim.steps:
            texts.setdefault(step, {}).setdefault(name, []).append(claim.text)
    return {step: {name: " ".join(parts) for name, parts in kinds.items()} for step, kinds in texts.items()}


def _feature(
    name: str, kind: str, box: Box, origin: Box, numbers: dict[str, float], texts: dict[str, str]
) -> dict[str, Any]:
    x0, top = box.x - origin.x, box.y - origin.y
    right, bottom = x0 + box.w, top + box.h
    ring = [[x0, top], [right, top], [right, bottom], [x0, bottom], [x0, top]]
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {
            "objectType": "annotation",
            "name": name,
            "classification": {"name": kind, "color": COLORS[kind]},
            "measurements": {key: value for key, value in numbers.items() if math.isfinite(value)},
            "metadata": texts,
        },
    }
