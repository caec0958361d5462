"""How often places are taken for out of focus: real pictures as they are, and blurred by Gaussians.

Where nothing is blurred, every share is a false alarm. A folder with `tiles.csv` (columns file, and mpp in
µm/px) holds pictures, of which one place each is judged; of slides it is the places that `find_quality` would
judge first. Blurred pictures are stored as JPEG again, as a scanner would.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from core_model.errors import SlideError, UsageError
from core_model.specimen.quality import BLURRED_UM, MPP, SAMPLE_UM, edge_width, first_samples
from eval.tables import figures_table

BLURS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
"""Standard deviations of the Gaussians, µm."""

UNKNOWN_MPP = 1.0
"""µm/px of pictures that do not state theirs."""

QUALITY = 85


@dataclass(frozen=True)
class Picture:
    """A place at full resolution, with a margin that blurring reaches into where there is one."""

    rgb: np.ndarray
    """uint8 (h, w, 3)."""
    mpp: float


@dataclass(frozen=True)
class Row:
    """One source."""

    source: str
    n: int
    assumed_mpp: bool
    """Whether pictures did not state their µm/px."""
    judged: float
    """Share of the sharp places that have edges to judge by."""
    blurred: dict[float, float]
    """Share taken for out of focus, by the blur in µm."""


def main(data: Path, most: int, seed: int, as_json: bool) -> None:
    """Print a row for each folder of pictures and each slide. Raises `UsageError` where there is none."""
    rows = []
    for source in _sources(data):
        try:
            rows.append(measured(source, most, seed))
        except SlideError as error:
            print(f"left out: {error}", file=sys.stderr)
    if not rows:
        raise UsageError(
            "nothing to judge lies there", where=data, fix="Give slides, or folders with tiles.csv"
        )
    if as_json:
        print(json.dumps({"limit_um": BLURRED_UM, "rows": [asdict(row) for row in rows]}))
    else:
        _print(rows)


def measured(source: Path, most: int, seed: int) -> Row:
    """A folder of pictures or a slide, of which at most `most` places are judged."""
    pictures = list(_pictures(source, most, seed))
    widths = {blur: [edge_width(*_seen(picture, blur)) for picture in pictures] for blur in BLURS}
    count = max(1, len(pictures))
    return Row(
        source=source.name if source.name != "images" else source.parent.name,
        n=len(pictures),
        assumed_mpp=source.is_dir() and not _states_mpp(source),
        judged=sum(width is not None for width in widths[0.0]) / count,
        blurred={
            blur: sum(width is not None and width >= BLURRED_UM for width in found) / count
            for blur, found in widths.items()
        },
    )


def _sources(path: Path) -> Iterator[Path]:
    """The folders of pictures and the slides under a path."""
    from core_model.slides.discover import slides_under

    folders = sorted(table.parent for table in path.rglob("tiles.csv")) if path.is_dir() else []
    yield from folders or slides_under([path]).paths


def _pictures(source: Path, most: int, seed: int) -> Iterator[Picture]:
    if not source.is_dir():
        yield from _of_slide(source, most)
        return
    rows = _table(source)
    for i in np.random.default_rng(seed).permutation(len(rows))[:most]:
        mpp = float(rows[i].get("mpp") or UNKNOWN_MPP)
        with Image.open(source / rows[i]["file"]) as image:
            rgb = np.asarray(image.convert("RGB"))
        side = min(round(2 * SAMPLE_UM / mpp), *rgb.shape[:2])
        top, left = ((length - side) // 2 for length in rgb.shape[:2])
        yield Picture(rgb[top : top + side, left : left + side], mpp)


def _of_slide(path: Path, most: int) -> Iterator[Picture]:
    from core_model.slides.slide import open_slide
    from core_model.slides.tissue import find_tissue

    with open_slide(path) as slide:
        for box in first_samples(slide, find_tissue(slide))[:most]:
            yield Picture(np.asarray(slide.read(box, slide.mpp)), slide.mpp)


def _table(folder: Path) -> list[dict[str, str]]:
    with (folder / "tiles.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _states_mpp(folder: Path) -> bool:
    return all(row.get("mpp") for row in _table(folder))


def _seen(picture: Picture, blur_um: float) -> tuple[np.ndarray, float]:
    """The picture blurred, stored, and read at the resolution at which focus is judged."""
    rgb, mpp = picture.rgb, picture.mpp
    if blur_um:
        soft = ndimage.gaussian_filter(rgb.astype(np.float32), (blur_um / mpp, blur_um / mpp, 0))
        file = io.BytesIO()
        Image.fromarray((soft + 0.5).clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=QUALITY)
        rgb = np.asarray(Image.open(file))
    image, factor = Image.fromarray(rgb), max(1.0, MPP / mpp)
    size = (max(1, round(image.width / factor)), max(1, round(image.height / factor)))
    middle = np.asarray(image.resize(size, Image.Resampling.HAMMING) if factor > 1 else image)
    side = min(round(SAMPLE_UM / (mpp * factor)), *middle.shape[:2])
    top, left = ((length - side) // 2 for length in middle.shape[:2])
    return middle[top : top + side, left : left + side], mpp * factor


def _print(rows: Sequence[Row]) -> None:
    from agent.cli.terminal import stdout

    table = figures_table(["% out of focus at a blur of"], ["n", *(f"{blur:g} µm" for blur in BLURS)])
    for row in rows:
        name = f"{row.source} (scale assumed)" if row.assumed_mpp else row.source
        table.add_row(name, str(row.n), *(f"{100 * share:.1f}" for share in row.blurred.values()))
    total = sum(row.n for row in rows)
    sums = [sum(row.n * row.blurred[blur] for row in rows) / max(1, total) for blur in BLURS]
    table.add_row("all", str(total), *(f"{100 * share:.1f}" for share in sums))
    stdout().print(table)
    stdout().print(f"Out of focus are edges at least {BLURRED_UM:g} µm wide.")
