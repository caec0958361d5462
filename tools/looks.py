"""`overview`, `zoom` and `pan`: show the slide whole, at a box, and beside the box shown last."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from core_model.errors import RegionUnreadable
from core_model.slides.box import Box, magnification
from tools.records import Observation, OverviewArgs, PanArgs, ZoomArgs
from tools.render import shown_mpp

if TYPE_CHECKING:
    from tools.workbench import Workbench

DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}

MAX_PIECES = 8
"""Pieces of tissue named in the text; `data` has all."""


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


def zoom(bench: Workbench, args: ZoomArgs) -> Observation:
    """Show `args.box` at `args.mpp`, or as near as the slide and the frame's long side allow."""
    return show_region(bench, "zoom", args.box, args.mpp)


def show_region(bench: Workbench, tool: str, box: Box, wish: float) -> Observation:
    """Read a box, keep its image and describe it truly, for `zoom` and `pan`. Raises `BoxError`."""
    slide = bench.slide
    slide.check(box)
    mpp = shown_mpp(slide, box, wish, bench.frame.max_px)
    try:
        image = slide.read(box, mpp)
    except RegionUnreadable as error:
        text = f"Unreadable: {error.what}. Nothing of it is shown; choose another or a smaller one."
        return Observation(tool=tool, ok=False, text=text, box=box)
    share, place = bench.tissue.share(box), bench.place_data(box)
    part = f" in {place['part']}," if "part" in place else ""
    blurred = f" {place['out_of_focus']:.0%} of that is out of focus." if "out_of_focus" in place else ""
    width_um, height_um = slide.um(box)
    why = _why_not(wish, mpp, slide.effective_mpp(0.0), bench.frame.max_px)
    text = (
        f"Box {tuple(box)} in level-0 px,{part} {width_um:.4g} x {height_um:.4g} µm"
        f" from ({box.x * slide.mpp_x:.0f}, {box.y * slide.mpp_y:.0f}) µm,"
        f" shown at {mpp:.3g} µm/px ({magnification(mpp):.3g}x) as {image.width} x {image.height} px."
        f" {why}Tissue covers {share:.0%} of it.{blurred}"
    )
    bench.last_shown = (box, wish)
    return bench.shown(tool, text, image, box, mpp, {"tissue_share": round(share, 4), **place})


def _why_not(wish: float, actual: float, finest: float, max_px: int) -> str:
    """Why the resolution differs from the one asked for; empty where it does not."""
    if actual <= wish * 1.001:
        return ""
    if actual > finest * 1.001:
        return f"{wish:.3g} µm/px was asked for, but a region's long side is at most {max_px} px. "
    return f"{wish:.3g} µm/px was asked for, but the slide has no finer than {finest:.3g}. "


def overview(bench: Workbench, args: OverviewArgs) -> Observation:
    """Show the scanned part of the slide, its long side as the frame allows, and say where tissue lies."""
    slide, tissue = bench.slide, bench.tissue
    shown = slide.bounds
    survey = slide.survey(shown, slide.overview_mpp(bench.frame.max_px))
    part, what = ("", "the slide") if shown == slide.box else (f"scanned is {tuple(shown)}, ", "that")
    pieces, unreadable = tissue.boxes(), survey.unreadable
    width_mm, height_mm = (um / 1000 for um in slide.um(slide.box))
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
    text += "".join(f" {sentence}" for sentence in _parts_and_focus(bench))
    bench.last_shown = (shown, survey.mpp)
    data: dict[str, Any] = {
        "tissue_share": round(float(tissue.mask.mean()), 4),
        "tissue_mm2": round(tissue.area_mm2, 4),
        "pieces": [list(box) for box in pieces],
        "unreadable": [list(box) for box in unreadable],
    }
    if bench.layout.parts:
        kind = bench.layout.kind
        data["parts"] = [{kind: part.name, "box": list(part.box)} for part in bench.layout.parts]
    if bench.quality.blurred_share:
        data["out_of_focus"] = [list(box) for box in bench.quality.blurred.boxes()]
    return bench.shown("overview", text, survey.shown(), shown, survey.mpp, data)


def _parts_and_focus(bench: Workbench) -> list[str]:
    """The slide's sections or cores and what is out of focus, a sentence each where there is any."""
    sentences = [bench.layout.described(MAX_PIECES)]
    blurred = bench.quality.blurred
    if share := bench.quality.blurred_share:
        listing = "; ".join(str(tuple(box)) for box in blurred.boxes()[:MAX_PIECES])
        sentences.append(f"{share:.0%} of the tissue is out of focus: {listing}.")
    return [sentence for sentence in sentences if sentence]
