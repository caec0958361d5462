"""What `giant doctor SLIDE` says of one slide: what the file holds, and what giant does with it.

Nothing of it names a patient: neither the file's name nor a text that the file holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from agent.text import human_length
from core_model.errors import NoTissue
from core_model.records import Record
from core_model.slides.box import Box
from core_model.slides.scale import SOURCES

if TYPE_CHECKING:
    from core_model.slides.slide import Slide
    from core_model.slides.tissue import TissueMask

ICC_TAG = 34675
"""InterColorProfile of TIFF."""

PLANES = ("openslide.focal-planes", "dicom.TotalPixelMatrixFocalPlanes", "dicom.NumberOfFocalPlanes",
          "hamamatsu.NoLayers")  # fmt: skip
"""Properties in which formats say how many focal planes there are."""

BESIDE = ("label", "macro", "overview", "thumbnail")
"""Names of images beside the scan that may be said."""


class Level(Record):
    """One level of the pyramid."""

    width: int
    height: int
    downsample: float
    """Level-0 px that one of its px spans."""
    mpp: float


class SlideDetails(Record):
    """One slide as the doctor sees it. Lengths are µm, boxes level-0 px."""

    version: int = 1
    format: str
    reader: str
    id: str
    files: int
    width: int
    height: int
    levels: list[Level]
    mpp: float
    mpp_x: float
    mpp_y: float
    mpp_source: str
    objective: float | None
    """Magnification that the file states."""
    bounds: Box
    """The scanned part."""
    tissue_mm2: float | None
    """None where none was found."""
    pieces: int
    icc_bytes: int
    """Size of the colour profile; 0 where there is none."""
    focal_planes: int
    images: list[str]
    """Images beside the scan: label, macro, thumbnail."""
    warnings: list[str]
    plan: str
    """What giant does with it, in a sentence."""


def details_of(slide: Slide, isolate: bool = False) -> SlideDetails:
    """Look at an open slide; with `isolate` a child reads what its pixels do not tell.

    Raises `SlideError` where nothing of it decodes.
    """
    from core_model.privacy.traces import images_beside
    from core_model.slides.isolation.inspect import in_child
    from core_model.slides.parts import parts_of

    if isolate:
        beside, icc = in_child(images_beside, slide.path, set[str]), in_child(icc_bytes, slide.path, int)
    else:
        beside, icc = images_beside(slide.path), icc_bytes(slide.path)

    tissue = _tissue(slide)
    properties = slide.properties
    return SlideDetails(
        format=slide.vendor,
        reader=slide.reader,
        id=slide.id,
        files=len(parts_of(slide.path)),
        width=slide.width,
        height=slide.height,
        levels=[
            Level(width=w, height=h, downsample=round(d, 4), mpp=round(slide.mpp * d, 4))
            for (w, h), d in zip(slide.level_dimensions, slide.level_downsamples, strict=True)
        ],
        mpp=slide.mpp,
        mpp_x=slide.mpp_x,
        mpp_y=slide.mpp_y,
        mpp_source=slide.mpp_source,
        objective=slide.objective,
        bounds=slide.bounds,
        tissue_mm2=round(tissue.area_mm2, 4) if tissue is not None else None,
        pieces=len(tissue.boxes()) if tissue is not None else 0,
        icc_bytes=int(stated) if (stated := properties.get("openslide.icc-size", "")).isdecimal() else icc,
        focal_planes=_focal_planes(properties),
        images=sorted(beside & {*BESIDE}),
        warnings=list(slide.warnings),
        plan=_plan(slide, tissue),
    )


def rows_of(details: SlideDetails) -> list[tuple[str, str]]:
    """The details as names and words, in the order of a table."""
    size = f"{human_length(details.width * details.mpp_x)} x {human_length(details.height * details.mpp_y)}"
    um = f"{details.mpp:.4g} µm/px"
    if details.mpp_x != details.mpp_y:
        um = f"{details.mpp_x:.4g} x {details.mpp_y:.4g} µm/px"
    power = f"{details.objective:g}x" if details.objective is not None else "not stated"
    whole = details.bounds == Box(0, 0, details.width, details.height)
    files, planes = details.files, details.focal_planes
    return [
        ("format", f"{details.format}, {files} file{'s' * (files != 1)}"),
        ("reader", details.reader),
        ("identity", details.id),
        ("size", f"{details.width} x {details.height} px, {size}"),
        ("levels", "; ".join(_level(number, level) for number, level in enumerate(details.levels))),
        ("resolution", f"{um}, from the {SOURCES.get(details.mpp_source, details.mpp_source)}"),
        ("objective", power),
        ("scanned", "the whole" if whole else str(tuple(details.bounds))),
        ("tissue", _tissue_words(details)),
        ("colour", _colour_words(details.icc_bytes)),
        ("focal planes", "1" if planes == 1 else f"{planes}, of which one is shown"),
        ("beside the scan", f"{', '.join(details.images) or 'nothing'}; never read, never sent"),
        ("plan", details.plan),
    ]


def _level(number: int, level: Level) -> str:
    return f"{number}: {level.width} x {level.height}, 1/{level.downsample:g}, {level.mpp:.4g} µm/px"


def _tissue_words(details: SlideDetails) -> str:
    if details.tissue_mm2 is None:
        return "none found"
    return f"{details.tissue_mm2:.4g} mm² in {details.pieces} piece{'s' * (details.pieces != 1)}"


def _colour_words(icc_bytes: int) -> str:
    if not icc_bytes:
        return "no ICC profile; colours are shown as they are stored"
    return f"ICC profile of {icc_bytes} bytes, which is not applied: colours are shown as they are stored"


def _tissue(slide: Slide) -> TissueMask | None:
    from core_model.slides.tissue import find_tissue

    try:
        return find_tissue(slide)
    except NoTissue:
        return None


def _focal_planes(properties: Mapping[str, str]) -> int:
    counts = [int(text) for name in PLANES if (text := properties.get(name, "")).isdecimal()]
    return max([1, *counts])


def icc_bytes(path: Path) -> int:
    """Size of the colour profile of a TIFF's first page, or of a PNG or JPEG; 0 where there is none."""
    import tifffile
    from PIL import Image

    from core_model.slides.tiff import is_tiff

    if not path.is_file():
        return 0
    if is_tiff(path):
        with tifffile.TiffFile(path) as tiff:
            tag = getattr(tiff.pages[0], "tags", {}).get(ICC_TAG)
            return int(tag.count) if tag is not None else 0
    try:
        with Image.open(path, formats=("PNG", "JPEG")) as image:
            return len(image.info.get("icc_profile") or b"")
    except (OSError, ValueError, SyntaxError):
        return 0  # a scanner's file


def _plan(slide: Slide, tissue: TissueMask | None) -> str:
    """What giant does with the slide: its tiles, and the level that they are read from."""
    from core_model.checkpoints.folder import read_config
    from core_model.features.grid import MIN_TISSUE, tile_grid
    from core_model.models.tile_encoders import MINI

    if tissue is None:
        return "No tissue is found, so no question about it is answered."
    encoder = read_config(MINI, verify=False).tile_encoder
    if encoder is None:
        raise AssertionError("the embedded model has a tile encoder")
    shown = slide.effective_mpp(encoder.mpp)
    level, downsample = slide.level_for(encoder.mpp)
    source = f"level {level}"
    if downsample != slide.level_downsamples[level]:
        source += f", decoded at 1/{downsample / slide.level_downsamples[level]:g}"
    try:
        count = len(tile_grid(slide, tissue, encoder.tile_px * encoder.mpp, MIN_TISSUE))
    except NoTissue as error:
        return f"{error.what[:1].upper()}{error.what[1:]}."
    made = "" if shown == encoder.mpp else f", enlarged from {shown:.4g}"
    return (
        f"{count} tiles of {encoder.tile_px} px at {encoder.mpp:g} µm/px{made}, from {source};"
        f" looks at {slide.effective_mpp(0.0):.4g} µm/px and coarser."
    )
