"""Where a survey looks before any model is asked: patches of tissue that differ as much as the slide allows.

Places are windows of a grid at low power. The one with most tissue comes first; each further one is the
window whose tiles are farthest, in the space of the tile encoder, from those of the windows taken so far,
counted by its share of tissue (farthest-point sampling, Gonzalez 1985, doi:10.1016/0304-3975(85)90224-5).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from agent.navigators.search import COARSE_MPP, LEAST_TISSUE, grid
from agent.run.records import Action
from core_model.slides.box import Box

if TYPE_CHECKING:
    from agent.graph.state import AgentContext
    from core_model.features.tiles import TileFeatures

MOST = 8
"""Places of one survey."""
PARTS = 3
"""Windows that go along the slide's long side at least: larger ones would show little but each other."""
REASON = "Survey the slide at low power before anything is concluded."


def survey(context: AgentContext, most: int, px: int) -> list[Action]:
    """The looks of the survey, at most `most`, each at most `px` wide. They are found once and kept."""
    boxes = context.journal.once("survey", "places", lambda: [list(box) for box in places(context, most, px)])
    mpp = context.slide.mpp
    return [
        Action(tool="zoom", args={"box": box, "mpp": mpp * max(1.0, max(box[2:]) / px)}, reason=REASON)
        for box in boxes
    ]


def places(context: AgentContext, most: int, px: int) -> list[Box]:
    """Windows at about 2 µm/px, on small slides finer; none where the overview shows all that there is."""
    slide = context.slide
    whole = max(slide.width, slide.height)
    if whole <= px:
        return []
    side = min(int(px * slide.effective_mpp(COARSE_MPP) / slide.mpp), max(px, -(-whole // PARTS)))
    windows = grid(side, slide.box)
    corners, (w, h) = np.array([box[:2] for box in windows]), windows[0][2:]
    shares, quality = context.tissue.shares(corners, w, h), context.quality  # (W,)
    means, has_tiles = describe(windows, context.toolbox.features)
    in_focus = ~quality.are_blurred(corners, w, h) if quality is not None else True
    worth = np.where(has_tiles & (shares >= LEAST_TISSUE) & in_focus, shares, 0.0)
    return [windows[i] for i in farthest(means, worth, most)]


def describe(windows: list[Box], tiles: TileFeatures) -> tuple[np.ndarray, np.ndarray]:
    """(W, D) mean features of each window's tiles, and (W,) whether it has any.

    Where the slide has no features at all, a window is told by where it lies.
    """
    if len(tiles) == 0:
        return np.array([box[:2] for box in windows], dtype=np.float64), np.ones(len(windows), dtype=bool)
    means = np.zeros((len(windows), tiles.features.shape[1]))
    counts = np.zeros(len(windows), dtype=np.int64)
    centers = tiles.centers  # (N, 2)
    for i, box in enumerate(windows):
        near = (centers >= (box.x, box.y)) & (centers < (box.right, box.bottom))
        inside = near.all(axis=1)
        counts[i] = inside.sum()
        if counts[i]:
            means[i] = tiles.features[inside].mean(axis=0)
    return means, counts > 0


def farthest(points: np.ndarray, worth: np.ndarray, most: int) -> list[int]:
    """Up to `most` of the points (N, D) with `worth` (N,) above 0, spread out; equal ones in their order."""
    picks: list[int] = []
    distance = np.full(len(points), np.inf)
    eligible = worth > 0
    while eligible.any() and len(picks) < most:
        value = np.where(eligible, worth * distance if picks else worth, -1.0)
        best = int(np.argmax(value))
        picks.append(best)
        eligible[best] = False
        distance = np.minimum(distance, np.linalg.norm(points - points[best], axis=1))
    return picks
