"""`ask_region`: what the model says of a box, from the features of the tiles in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from core_model.specimen.quality import MOSTLY
from tools.records import AskRegionArgs, Observation
from tools.render import shown_mpp

if TYPE_CHECKING:
    from core_model.features.tiles import TileFeatures
    from core_model.slides.box import Box
    from tools.workbench import Workbench


def ask_region(bench: Workbench, args: AskRegionArgs) -> Observation:
    """Put the question to the model about the tiles of which at least half lies in the box."""
    slide, box = bench.slide, args.box
    slide.check(box)
    blurred = bench.quality.blurred_in(box)
    if blurred > MOSTLY:
        text = f"Not asked: {blurred:.0%} of the tissue in box {tuple(box)} is out of focus."
        data = {"tiles": 0, "out_of_focus": round(blurred, 4)}
        return Observation(tool="ask_region", ok=False, text=text, box=box, data=data)
    tiles = bench.tiles_in(box)
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
        **bench.place_data(box),
    }
    # For whoever checks the answer; parts that do not decode are hatched.
    picture = slide.survey(box, mpp).shown()
    words = f"{text}{_failures(tiles)}{_had_no_say(blurred)}{_where(bench, box)}"
    return bench.shown("ask_region", words, picture, box, mpp, figures)


def _answer(model: Any, tiles: TileFeatures, args: AskRegionArgs) -> tuple[str, dict[str, Any]]:
    if args.options is None:
        answer, p = model.generate(tiles, args.question)
        return f"{answer} (p={p:.2f} per token).", {"answer": answer, "probability": float(p)}
    scores = model.score_options(tiles, args.question, list(args.options))  # (O,)
    options = {option: float(p) for option, p in zip(args.options, scores, strict=True)}
    best = max(options, key=options.__getitem__)
    return f"{best} (p={options[best]:.2f}).", {"answer": best, "options": options}


def _had_no_say(blurred: float) -> str:
    return f" {blurred:.0%} of its tissue is out of focus and had no say." if blurred else ""


def _where(bench: Workbench, box: Box) -> str:
    part = bench.layout.words(box)
    return f" It lies in {part}." if part else ""


def _failures(tiles: TileFeatures) -> str:
    count = len(tiles.failed)
    return f" {count} tile{'s' * (count != 1)} in it could not be read and had no say." if count else ""
