"""`pan`: show the neighbour of the box shown last."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core_model.slides.box import Box
from tools.records import Observation, PanArgs
from tools.zoom import show_region

if TYPE_CHECKING:
    from tools.workbench import Workbench

DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}


def pan(bench: Workbench, args: PanArgs) -> Observation:
    """Move by a share of the box's own size, at the same resolution. Raises `BoxError` off the slide."""
    if bench.last_shown is None:
        return Observation(tool="pan", ok=False, text="Nothing was shown yet; zoom to a box first.")
    box, mpp = bench.last_shown
    dx, dy = DIRECTIONS[args.direction]
    neighbour = Box(
        box.x + dx * max(1, round(box.w * args.fraction)),
        box.y + dy * max(1, round(box.h * args.fraction)),
        box.w,
        box.h,
    )
    return show_region(bench, "pan", neighbour, mpp)
