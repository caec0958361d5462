"""Boxes with their numbers on the pictures of a report, with sizes in µm, and as GeoJSON that QuPath opens.

Places on the overview are in px of its image, whose top left part shows the slide and whose foot is the
caption with the scale bar. Slide boxes are level-0 px.

QuPath wants, for every GeoJSON feature, `objectType` "annotation", a classification with a colour,
measurements that are numbers and metadata that are texts. It crops a slide to its scanned bounds, so
coordinates are counted from there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from agent.run.records import Answer, RunRecord, SlideRecord, Step
from core_model.slides.box import Box
from tools.render import scale_bar_um

COLORS = {
    "evidence": [190, 60, 120],
    "looked at": [110, 110, 130],
    "unreadable": [200, 120, 0],
    "out of focus": [60, 110, 200],
}


TAG = 1 / 38
"""Height of a number tag as a share of the overview's long side."""


@dataclass(frozen=True)
class MapBox:
    """One box on the overview with the numbers of its steps: x, y, w, h and the tag, all in overview px."""

    numbers: str
    x: float
    y: float
    w: float
    h: float
    tag_x: float
    tag_y: float
    tag_w: float
    cited: bool
    finding: str
    """What the last of its steps found."""
    field: tuple[float, float]
    """Width and height of the box in µm."""


@dataclass(frozen=True)
class Drawn:
    """The part of an image that shows the slide: what is left without the caption at its foot."""

    size: tuple[int, int]
    """Px of the whole image."""
    width: int
    height: int
    bar_um: float
    """A round length of at most a quarter of the width, for a scale bar."""
    bar_share: float
    """That length as a share of the width."""


def drawn_part(size: tuple[int, int], box: Box, mpp: float, sides: tuple[float, float]) -> Drawn:
    """How much of an image of `size` px is `box` at `mpp`; the rest is caption and margin.

    `sides` are those of a level-0 px, µm.
    """
    width = max(1, min(size[0], round(box.w * sides[0] / mpp)))
    height = max(1, min(size[1], round(box.h * sides[1] / mpp)))
    um = scale_bar_um(box.w * sides[0])
    return Drawn(size, width, height, um, round(um / (box.w * sides[0]), 4))


@dataclass(frozen=True)
class OverviewMap:
    """The overview image and the boxes on it."""

    image: str
    """Path relative to the run folder."""
    boxes: tuple[MapBox, ...]
    drawn: Drawn
    tag_h: float

    @staticmethod
    def of(
        steps: Sequence[Step],
        overview: Step,
        size: tuple[int, int],
        sides: tuple[float, float],
        cited_steps: frozenset[int],
    ) -> OverviewMap:
        """Place every box that was looked at on the image of the step `overview`, which is `size` px."""
        whole, mpp, image = overview.observation.box, overview.observation.mpp, overview.observation.image
        if whole is None or mpp is None or image is None:
            raise ValueError(f"step {overview.index} shows nothing to place boxes on")
        part, (sx, sy) = drawn_part(size, whole, mpp, sides), (sides[0] / mpp, sides[1] / mpp)
        tag_h = max(12.0, max(part.width, part.height) * TAG)
        boxes: list[MapBox] = []
        for box, steps_here in _looked_at(steps, whole).items():
            numbers = ", ".join(str(step.index) for step in steps_here)
            seen = box.intersect(whole) or box
            on_map = ((seen.x - whole.x) * sx, (seen.y - whole.y) * sy, seen.w * sx, seen.h * sy)
            tag = (tag_h * (0.5 + 0.55 * len(numbers)), tag_h)
            corner = _free_corner(on_map, tag, (part.width, part.height), boxes)
            x, y, w, h, tag_x, tag_y, tag_w = (round(v, 1) for v in (*on_map, *corner, tag[0]))
            is_cited = any(step.index in cited_steps for step in steps_here)
            field = (box.w * sides[0], box.h * sides[1])
            finding = steps_here[-1].finding
            boxes.append(MapBox(numbers, x, y, w, h, tag_x, tag_y, tag_w, is_cited, finding, field))
        return OverviewMap(image, tuple(boxes), part, round(tag_h, 1))


@dataclass(frozen=True)
class Figure:
    """One step as it stands in a report."""

    step: Step
    cited: bool
    drawn: Drawn | None
    """The image; None where the step shows none."""
    field: tuple[float, float] | None
    """Width and height shown, µm."""
    leading: tuple[str, float] | None
    """The most probable hypothesis after this step."""

    @property
    def part(self) -> str | None:
        """The section or core that the step was about, where the slide has several."""
        part = self.step.observation.data.get("part")
        return part if isinstance(part, str) else None

    @property
    def alt(self) -> str:
        """What the image shows, for those who cannot see it."""
        box, mpp = self.step.observation.box, self.step.observation.mpp
        where = f", box x {box.x}, y {box.y}, {box.w} by {box.h} px" if box else ""
        where += f" in {self.part}" if self.part else ""
        scale = f" at {mpp:.3g} µm per pixel" if mpp else ""
        return f"Step {self.step.index}, {self.step.action.tool}{where}{scale}. {self.step.finding}"


def step_figure(
    step: Step, is_cited: bool, sides: tuple[float, float], image_size: Callable[[str], tuple[int, int]]
) -> Figure:
    """The figure of one step; `image_size` gives (width, height) of an image of the run."""
    observation, part = step.observation, None
    if observation.image and observation.box and observation.mpp:
        part = drawn_part(image_size(observation.image), observation.box, observation.mpp, sides)
    return Figure(
        step=step,
        cited=is_cited,
        drawn=part,
        field=(observation.box.w * sides[0], observation.box.h * sides[1]) if observation.box else None,
        leading=max(step.posterior.items(), key=lambda item: item[1]) if step.posterior else None,
    )


def _free_corner(
    box: tuple[float, float, float, float],
    tag: tuple[float, float],
    size: tuple[int, int],
    boxes: Sequence[MapBox],
) -> tuple[float, float]:
    """Top left corner of a number tag: outside the box at a corner, on the image, off other tags.

    Where no corner is free, the first is taken: numbers may then overlap, as their boxes do.
    """
    x, y, w, h = box
    tw, th = tag
    corners = [
        (x, y - th),
        (x + w - tw, y - th),
        (x, y + h),
        (x + w - tw, y + h),
        (x, y),
        (x + w - tw, y + h - th),
    ]
    on_image = [(min(max(a, 0), size[0] - tw), min(max(b, 0), size[1] - th)) for a, b in corners]
    for a, b in on_image:
        if not any(abs(a - p.tag_x) < max(tw, p.tag_w) and abs(b - p.tag_y) < th for p in boxes):
            return a, b
    return on_image[0]


def _looked_at(steps: Sequence[Step], whole: Box) -> dict[Box, list[Step]]:
    """Boxes that show a part of the whole and no more, each with the steps that were about it."""
    steps_by_box: dict[Box, list[Step]] = {}
    for step in steps:
        box = step.observation.box
        is_part = box is not None and box.intersect(whole) not in (None, whole)
        if box is not None and is_part and step.observation.ok:
            steps_by_box.setdefault(box, []).append(step)
    return steps_by_box


def evidence_geojson(run: RunRecord, answer: Answer, steps: Sequence[Step]) -> dict[str, Any]:
    """A FeatureCollection: boxes that the answer cites, others looked at, what is unreadable or blurred.

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
            **({"part": str(step.observation.data["part"])} if "part" in step.observation.data else {}),
            **claims.get(step.index, {}),
        }
        features.append(_feature(f"step {step.index}", kind, box, origin, numbers, texts))
    for bad in run.unreadable:
        features.append(_feature("unreadable tile", "unreadable", bad.box, origin, {}, {"why": bad.why}))
    features += [_feature("out of focus", "out of focus", box, origin, {}, {}) for box in run.blurred]
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
