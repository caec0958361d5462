"""`zoom`: show a box at a resolution."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core_model.errors import RegionUnreadable
from core_model.slides.box import Box, magnification
from tools.records import Observation, ZoomArgs
from tools.render import shown_mpp

if TYPE_CHECKING:
    from tools.workbench import Workbench


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
    share = bench.tissue.share(box)
    um = slide.mpp
    text = (
        f"Box {tuple(box)} in level-0 px, {box.w * um:.4g} x {box.h * um:.4g} µm"
        f" from ({box.x * um:.0f}, {box.y * um:.0f}) µm,"
        f" shown at {mpp:.3g} µm/px ({magnification(mpp):.3g}x) as {image.width} x {image.height} px."
        f" {_why_not(wish, mpp, um, bench.frame.max_px)}Tissue covers {share:.0%} of it."
    )
    bench.last_shown = (box, wish)
    return bench.shown(tool, text, image, box, mpp, {"tissue_share": round(share, 4)})


def _why_not(wish: float, actual: float, finest: float, max_px: int) -> str:
    """Why the resolution differs from the one asked for; empty where it does not."""
    if actual <= wish * 1.001:
        return ""
    if actual > finest * 1.001:
        return f"{wish:.3g} µm/px was asked for, but a region's long side is at most {max_px} px. "
    return f"{wish:.3g} µm/px was asked for, but the slide has no finer than {finest:.3g}. "
