"""How much of the tissue has been shown, and how closely: the share of tissue area per resolution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.run.records import Step
    from core_model.slides.tissue import TissueMask

LEVELS = (0.5, 2.0, 8.0)
"""Resolutions reported, µm/px: cells, architecture, overview."""
SAME = 1.01
"""Two resolutions within this factor are one: scanners at 20x write .499 or .504 µm/px."""


def coverage(tissue: TissueMask, steps: Sequence[Step]) -> dict[str, float]:
    """Share of tissue area shown at each of `LEVELS` or finer; what only the model read was not shown."""
    seen = [
        (step.observation.box, step.observation.mpp)
        for step in steps
        if step.observation.image is not None and step.observation.box and step.observation.mpp
    ]
    return {
        str(level): round(tissue.covered(box for box, mpp in seen if mpp <= level * SAME), 4)
        for level in LEVELS
    }


def coverage_in_words(shares: Mapping[str, float]) -> str:
    """The coverage as a sentence with percentages."""
    told = [f"{share:.0%} at {mpp} µm/px".replace("%", " %") for mpp, share in shares.items()]
    return f"Of the tissue was shown, at least this finely: {', '.join(told)}."
