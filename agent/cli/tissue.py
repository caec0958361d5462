"""`giant tissue`: how much tissue slides hold, and where, as polygons and masks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.options import IsolateOpt, JsonOpt, MppOpt, OverrideOpt, RegionsOpt, SlidesArg, opt
from core_model.errors import GiantError

if TYPE_CHECKING:
    from core_model.slides.slide import Slide
    from core_model.specimen.annotations import Annotations

OutOpt = Annotated[
    Path | None, opt("DIR", "Write NAME.geojson (polygons) and NAME.png (the mask) of each slide.")
]
FinenessOpt = Annotated[float, opt("UM", "µm per px of the mask, about; a large slide's is coarser.")]


def tissue(
    slides: SlidesArg,
    out: OutOpt = None,
    mpp: MppOpt = None,
    mpp_override: OverrideOpt = None,
    mask_mpp: FinenessOpt = 8.0,
    regions: RegionsOpt = None,
    isolate: IsolateOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """Say how much tissue is on slides, and write where it is, for QuPath and others."""
    from agent.batch.batch import find_slides, folder_names
    from agent.cli.streams import ascii_json
    from agent.session.models import quieten_libraries
    from core_model.slides.parts import slide_name
    from core_model.slides.slide import open_slide
    from tools.chosen import Chosen, check_one_slide, regions_of

    quieten_libraries(quiet=True)
    found = find_slides(slides)
    for line in found.summary():
        typer.echo(line, err=True)
    check_one_slide(Chosen(regions=regions), found.paths)
    rows: list[dict[str, Any]] = []
    failures = 0
    for path, name in folder_names(found.paths).items():
        try:
            with open_slide(path, mpp, mpp_override, isolate=bool(isolate)) as slide:
                inside = None if regions is None else regions_of(regions, slide, slide_name(path))
                rows.append(_measure(slide, name, mask_mpp, out, inside))
        except GiantError as error:
            failures += 1
            rows.append({"slide": name, "error": str(error)})
            typer.echo(f"giant: {error}", err=True)
        else:
            if not as_json:
                typer.echo(_words(rows[-1]))
    if as_json:
        typer.echo(ascii_json(json.dumps({"version": 1, "slides": rows})))
    if failures:
        raise GiantError(f"{failures} of {len(rows)} slides failed", fix="Each is named above")


def _measure(
    slide: Slide, name: str, mask_mpp: float, out: Path | None, inside: Annotations | None
) -> dict[str, Any]:
    """What is printed of a slide; its files are written to `out`, where that is given."""
    from core_model.slides.tissue import METHOD, find_tissue
    from core_model.specimen.export import write_geojson, write_png
    from core_model.specimen.folds import find_folds
    from core_model.specimen.quality import find_quality
    from core_model.specimen.sections import find_layout, share_of

    tissue = find_tissue(slide, mask_mpp)
    if inside is not None:
        tissue = inside.within(tissue)
    layout, folds = find_layout(tissue), find_folds(slide, tissue)
    flaws = {"out of focus": find_quality(slide, tissue).blurred, "folded": folds}
    files = [] if out is None else [out / f"{name}.geojson", out / f"{name}.png"]
    if files:
        write_geojson(files[0], tissue, slide.bounds, layout, flaws)
        write_png(files[1], tissue)
    return {
        "slide": name,
        "id": slide.id,
        **({} if inside is None else {"regions": [region.name for region in inside.regions]}),
        "area_mm2": round(tissue.area_mm2, 6),
        "share": round(tissue.share(slide.box), 6),
        "pieces": len(tissue.boxes()),
        f"{layout.kind}s": [{layout.kind: part.name, "box": list(part.box)} for part in layout.parts],
        "out_of_focus": round(share_of(flaws["out of focus"], tissue), 6),
        "folded": round(share_of(folds, tissue), 6),
        "unknown_share": round(float(tissue.unknown.mean()), 6),
        "mask_mpp": tissue.mpp,
        "method": METHOD,
        "files": [str(file) for file in files],
    }


def _words(row: dict[str, Any]) -> str:
    pieces = f"{row['pieces']} piece{'' if row['pieces'] == 1 else 's'}"
    line = (
        f"{row['slide']}: {row['area_mm2']:.2f} mm² of tissue in {pieces}, {row['share']:.1%} of the slide,"
        f" on a mask of {row['mask_mpp']:.3g} µm/px"
    )
    if "regions" in row:
        line += (
            f"; only inside {len(row['regions'])} annotated region{'' if len(row['regions']) == 1 else 's'}"
        )
    for kind in ("sections", "cores"):
        line += f"; {len(row[kind])} {kind}" if row.get(kind) else ""
    for flaw in ("out_of_focus", "folded"):
        line += f"; {row[flaw]:.1%} of it is {flaw.replace('_', ' ')}" if row[flaw] else ""
    if row["unknown_share"]:
        line += f"; {row['unknown_share']:.1%} cannot be read"
    return "\n  ".join([line, *row["files"]])
