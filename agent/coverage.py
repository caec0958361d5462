"""How much of the tissue has been shown, and how closely: the share of tissue area per resolution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from agent.navigators.looks import SHOWING
from core_model.slide import Box

if TYPE_CHECKING:
    from agent.records import Step
    from agent.state import AgentContext
    from core_model.tissue import TissueMask

LEVELS = (0.5, 2.0, 8.0)
"""Resolutions reported, µm/px: cells, architecture, overview."""


def coverage(context: AgentContext, steps: Sequence[Step]) -> dict[str, float]:
    """Share of tissue area shown at each of `LEVELS` or finer; what only the model read was not shown."""
    tissue: TissueMask = context.toolbox.tissue
    seen = [
        (step.observation.box, step.observation.mpp)
        for step in steps
        if step.action.tool in SHOWING and step.observation.ok
    ]
    return {
        str(level): share_seen(tissue, [b for b, mpp in seen if b and mpp and mpp <= level * 1.01])
        for level in LEVELS
    }


def share_seen(tissue: TissueMask, boxes: Sequence[Box]) -> float:
    """Share of the tissue's area inside the union of `boxes`, in [0, 1], to the raster of the mask."""
    mask = tissue.mask
    if not mask.any():
        return 0.0
    seen = np.zeros_like(mask)
    height, width = mask.shape
    sx, sy = tissue.slide_box.w / width, tissue.slide_box.h / height
    for box in boxes:
        rows = slice(round(box.y / sy), max(round(box.bottom / sy), round(box.y / sy) + 1))
        seen[rows, round(box.x / sx) : max(round(box.right / sx), round(box.x / sx) + 1)] = True
    return round(float((seen & mask).sum() / mask.sum()), 4)


def coverage_in_words(shares: Mapping[str, float]) -> str:
    """ "Shown: 12 % of the tissue at 0.5 µm/px or finer, 61 % at 2.0.\""""
    told = [f"{share:.0%} at {mpp} µm/px".replace("%", " %") for mpp, share in shares.items()]
    return f"Of the tissue was shown, at least this finely: {', '.join(told)}."
