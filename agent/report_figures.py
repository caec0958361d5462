"""Where things stand on a report's pictures: boxes and their numbers on the overview, sizes in µm.

Places on the overview are in px of its image, whose top left part shows the slide and whose foot is the
caption with the scale bar. Slide boxes are level-0 px.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agent.records import Step
from core_model.slide import Box

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


@dataclass(frozen=True)
class OverviewMap:
    """The overview image and the boxes on it."""

    image: str
    """Path relative to the run folder."""
    width: int
    height: int
    tag_h: float
    boxes: tuple[MapBox, ...]

    @staticmethod
    def of(
        steps: Sequence[Step], overview: Step, size: tuple[int, int], slide_mpp: float, cited: frozenset[int]
    ) -> OverviewMap:
        """Place every box that was looked at on the image of the step `overview`, which is `size` px."""
        shown, mpp, image = overview.observation.box, overview.observation.mpp, overview.observation.image
        if shown is None or mpp is None or image is None:
            raise ValueError(f"step {overview.index} shows nothing to place boxes on")
        scale = slide_mpp / mpp  # overview px per level-0 px
        drawn = (shown.w * scale, shown.h * scale)  # the part of the image above its caption
        tag_h = max(12.0, max(drawn) * TAG)
        placed: list[MapBox] = []
        for box, indices in _looked_at(steps, shown).items():
            numbers = ", ".join(map(str, indices))
            on_map = ((box.x - shown.x) * scale, (box.y - shown.y) * scale, box.w * scale, box.h * scale)
            tag = (tag_h * (0.5 + 0.55 * len(numbers)), tag_h)
            corner = _free_corner(on_map, tag, drawn, placed)
            x, y, w, h, tag_x, tag_y, tag_w = (round(v, 1) for v in (*on_map, *corner, tag[0]))
            is_cited = not cited.isdisjoint(indices)
            placed.append(MapBox(numbers, x, y, w, h, tag_x, tag_y, tag_w, is_cited))
        return OverviewMap(image, *size, round(tag_h, 1), tuple(placed))


@dataclass(frozen=True)
class Figure:
    """One step as it stands in a report."""

    step: Step
    cited: bool
    size: tuple[int, int] | None
    """Px of the image; None where the step shows none."""
    field: tuple[float, float] | None
    """Width and height shown, µm."""
    leading: tuple[str, float] | None
    """The most probable hypothesis after this step."""

    @property
    def alt(self) -> str:
        """What the image shows, for those who cannot see it."""
        box, mpp = self.step.observation.box, self.step.observation.mpp
        where = f", box x {box.x}, y {box.y}, {box.w} by {box.h} px" if box else ""
        scale = f" at {mpp:.3g} µm per pixel" if mpp else ""
        return f"Step {self.step.index}, {self.step.action.tool}{where}{scale}. {self.step.finding}"


def step_figure(
    step: Step, cited: bool, slide_mpp: float, image_size: Callable[[str], tuple[int, int]]
) -> Figure:
    """The figure of one step; `image_size` gives (width, height) of an image of the run."""
    seen = step.observation
    return Figure(
        step=step,
        cited=cited,
        size=image_size(seen.image) if seen.image else None,
        field=(seen.box.w * slide_mpp, seen.box.h * slide_mpp) if seen.box else None,
        leading=max(step.posterior.items(), key=lambda item: item[1]) if step.posterior else None,
    )


def human_length(um: float) -> str:
    """Micrometres below a millimetre, else millimetres."""
    return f"{um:.3g} µm" if um < 1000 else f"{um / 1000:.3g} mm"


def _free_corner(
    box: tuple[float, float, float, float],
    tag: tuple[float, float],
    size: tuple[float, float],
    placed: Sequence[MapBox],
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
        if not any(abs(a - p.tag_x) < max(tw, p.tag_w) and abs(b - p.tag_y) < th for p in placed):
            return a, b
    return on_image[0]


def _looked_at(steps: Sequence[Step], whole: Box) -> dict[Box, list[int]]:
    """Boxes smaller than the whole, each with the indices of the steps that were about it."""
    found: dict[Box, list[int]] = {}
    for step in steps:
        box = step.observation.box
        if box is not None and box != whole and step.observation.ok:
            found.setdefault(box, []).append(step.index)
    return found
