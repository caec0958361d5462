"""`retrieve`: the tiles most like a box, or most like a phrase."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core_model.slides.box import Box
from tools.records import Observation, RetrieveArgs

if TYPE_CHECKING:
    from tools.index import Hit
    from tools.workbench import Workbench


def retrieve(bench: Workbench, args: RetrieveArgs) -> Observation:
    """Search by box in the tile encoder's space, by text in the space shared with the text tower."""
    if args.box is not None:
        bench.slide.check(args.box)
        return _by_box(bench, args.box, args.k)
    assert args.text is not None  # RetrieveArgs holds one of the two
    vector = bench.model.embed_text([args.text])[0]  # (E,)
    hits = bench.index("text").search(vector, args.k)
    return _observation(bench, f"Tiles that answer most to “{args.text}”", "text", hits, None)


def _by_box(bench: Workbench, box: Box, k: int) -> Observation:
    tiles = bench.features
    inside = tiles.inside_mask(box)
    if not inside.any():
        inside = tiles.inside_mask(box, min_overlap=0.0)  # a box smaller than half a tile
    if not inside.any():
        text = f"No encoded tissue lies in box {tuple(box)}; choose a box on tissue."
        return Observation(tool="retrieve", ok=False, text=text, box=box)
    vector = tiles.features[inside].mean(axis=0)  # (D,)
    hits = bench.index("tile").search(vector, k, exclude=tiles.inside_mask(box, min_overlap=0.0))
    return _observation(bench, f"Tiles most like box {tuple(box)}, outside it", "tile", hits, box)


def _observation(bench: Workbench, title: str, space: str, hits: list[Hit], box: Box | None) -> Observation:
    parts = [bench.layout.words(hit.box) for hit in hits]
    listing = "; ".join(
        f"{i}. {tuple(hit.box)} {hit.score:.2f}{f' in {part}' if part else ''}"
        for i, (hit, part) in enumerate(zip(hits, parts, strict=True), 1)
    )
    found = [
        {"box": list(hit.box), "score": hit.score} | ({"part": part} if part else {})
        for hit, part in zip(hits, parts, strict=True)
    ]
    return Observation(
        tool="retrieve",
        ok=bool(hits),
        text=f"{title}: {listing}." if hits else f"{title}: there are none.",
        box=box,
        data={"space": space, "hits": found},
    )
