"""`ask_region`: what the model says of a box, from the features of the tiles in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tools.records import AskRegionArgs, Observation
from tools.render import shown_mpp

if TYPE_CHECKING:
    from core_model.features.tiles import TileFeatures
    from tools.workbench import Workbench


def ask_region(bench: Workbench, args: AskRegionArgs) -> Observation:
    """Put the question to the model about the tiles of which at least half lies in the box."""
    slide, box = bench.slide, args.box
    slide.check(box)
    tiles = bench.features if box == slide.box else bench.features.inside(box)
    if len(tiles) == 0:
        text = f"No encoded tissue lies in box {tuple(box)}.{_failures(tiles)}"
        return Observation(tool="ask_region", ok=False, text=text, box=box, data={"tiles": 0})
    text, data = _answer(bench.model, tiles, args)
    mpp = shown_mpp(slide, box, slide.mpp, bench.frame.max_px)
    figures = {
        "tiles": len(tiles),
        "unreadable_tiles": len(tiles.failed),
        "read_mpp": slide.effective_mpp(bench.model.tile_encoder.mpp),
        **data,
    }
    # For whoever checks the answer; parts that do not decode are hatched.
    picture = slide.survey(box, mpp).shown()
    return bench.shown("ask_region", f"{text}{_failures(tiles)}", picture, box, mpp, figures)


def _answer(model: Any, tiles: TileFeatures, args: AskRegionArgs) -> tuple[str, dict[str, Any]]:
    if args.options is None:
        answer, p = model.generate(tiles, args.question)
        return f"{answer} (p={p:.2f} per token).", {"answer": answer, "probability": float(p)}
    scores = model.score_options(tiles, args.question, list(args.options))  # (O,)
    options = {option: float(p) for option, p in zip(args.options, scores, strict=True)}
    best = max(options, key=options.__getitem__)
    return f"{best} (p={options[best]:.2f}).", {"answer": best, "options": options}


def _failures(tiles: TileFeatures) -> str:
    count = len(tiles.failed)
    return f" {count} tile{'s' * (count != 1)} in it could not be read and had no say." if count else ""
