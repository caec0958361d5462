"""`retrieve`: the tiles most like a box, or most like a phrase.

Where the workbench has the index of a cohort, tiles of other slides that look alike are named too, apart from
those of this slide: they say what is similar, and nothing about this slide.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from core_model.slides.box import Box
from tools.records import Observation, RetrieveArgs

if TYPE_CHECKING:
    import numpy as np

    from tools.cohort.index import CohortHit
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
    seen = _observation(bench, f"Tiles that answer most to “{args.text}”", "text", hits, None)
    return _with_others(bench, seen, bench.features.features[hits[0].row], args.k) if hits else seen


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
    seen = _observation(bench, f"Tiles most like box {tuple(box)}, outside it", "tile", hits, box)
    return _with_others(bench, seen, vector, k)


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


def _with_others(bench: Workbench, seen: Observation, vector: np.ndarray, k: int) -> Observation:
    """What was seen, and the tiles of other slides most like `vector` (D,), where they are indexed."""
    if bench.cohort is None:
        return seen
    hits = bench.cohort.search(vector, k, without=bench.slide.id)
    like = "the box" if seen.box is not None else "the first of these"
    title = f"Tiles of other slides that look like {like} (similar, but no evidence about this slide)"
    listing = "; ".join(f"{number}. {_words(hit)}" for number, hit in enumerate(hits, 1))
    text = f"{seen.text} {title}: {listing}." if hits else f"{seen.text} {title}: there are none."
    return seen.model_copy(
        update={"text": text, "data": {**seen.data, "elsewhere": [_data(hit) for hit in hits]}}
    )


def _words(hit: CohortHit) -> str:
    """A tile of another slide, which goes by its identity: its name may be a patient's."""
    scale = f" at {hit.slide.mpp:.4g} µm/px" if hit.slide.mpp is not None else ""
    return f"slide {hit.slide.id[:12]}{scale} {tuple(hit.box)} {hit.score:.2f}"


def _data(hit: CohortHit) -> dict[str, Any]:
    return {"slide_id": hit.slide.id, "box": list(hit.box), "mpp": hit.slide.mpp, "score": hit.score}
