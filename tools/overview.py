"""`overview`: the whole slide at a glance, with its tissue and what cannot be read of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core_model.slides.box import magnification
from tools.records import Observation, OverviewArgs

if TYPE_CHECKING:
    from tools.workbench import Workbench

MAX_PIECES = 8
"""Pieces of tissue named in the text; `data` has all."""


def overview(bench: Workbench, args: OverviewArgs) -> Observation:
    """Show the scanned part of the slide, its long side as the frame allows, and say where tissue lies."""
    slide, tissue = bench.slide, bench.tissue
    shown = slide.bounds
    survey = slide.survey(shown, slide.overview_mpp(bench.frame.max_px))
    part, what = ("", "the slide") if shown == slide.box else (f"scanned is {tuple(shown)}, ", "that")
    pieces, unreadable = tissue.boxes(), survey.unreadable
    width_mm, height_mm = slide.width * slide.mpp / 1000, slide.height * slide.mpp / 1000
    listing = "; ".join(str(tuple(box)) for box in pieces[:MAX_PIECES])
    rest = f"; and {len(pieces) - MAX_PIECES} smaller" if len(pieces) > MAX_PIECES else ""
    text = (
        f"Whole slide, {slide.width} x {slide.height} px at {slide.mpp:.3g} µm/px"
        f" ({magnification(slide.mpp):.3g}x), {width_mm:.2f} x {height_mm:.2f} mm,"
        f" {part}shown at {survey.mpp:.3g} µm/px ({magnification(survey.mpp):.2g}x)."
        f" Tissue covers {tissue.mask.mean():.0%} ({tissue.area_mm2:.2f} mm²)"
        f" in {len(pieces)} piece{'s' * (len(pieces) != 1)}: {listing}{rest}."
    )
    if unreadable:
        text += (
            f" {survey.unknown.mean():.1%} of {what} cannot be read and is hatched in grey:"
            f" {'; '.join(str(tuple(box)) for box in unreadable[:MAX_PIECES])}."
        )
    bench.last_shown = (shown, survey.mpp)
    data = {
        "tissue_share": round(float(tissue.mask.mean()), 4),
        "tissue_mm2": round(tissue.area_mm2, 4),
        "pieces": [list(box) for box in pieces],
        "unreadable": [list(box) for box in unreadable],
    }
    return bench.shown("overview", text, survey.shown(), shown, survey.mpp, data)
