"""Whole-slide images: open, micrometres per pixel, read a box at a resolution.

Coordinates are level-0 pixels everywhere; resolutions are µm per pixel (mpp) of the image returned.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from PIL import Image
from scipy import ndimage

from core_model.errors import BoxError, RegionUnreadable, SlideError
from core_model.slides.box import Box
from core_model.slides.scale import objective

if TYPE_CHECKING:
    from PIL import Image

    from core_model.slides.coarse import CoarseSource
    from core_model.slides.identity import Opened
    from core_model.slides.renamed import Alias
    from core_model.slides.resample import Window
    from core_model.slides.scale import MppSource
    from core_model.slides.sources import PixelSource

T = TypeVar("T")


@dataclass(frozen=True)
class Survey:
    """A picture of a box in which parts that do not decode are marked, as `Slide.survey` gives it."""

    image: Image.Image
    """RGB; its colour is meaningless where `unknown`."""
    unknown: np.ndarray
    """Bool (H, W): pixels whose area did not decode, whole or in part."""
    box: Box
    """The part of the slide that the picture shows."""
    mpp: float

    @property
    def unreadable(self) -> tuple[Box, ...]:
        """Bounding boxes of the connected unknown parts, in level-0 px."""
        sx, sy = self.box.w / self.image.width, self.box.h / self.image.height
        places = ndimage.find_objects(ndimage.label(self.unknown, structure=np.ones((3, 3)))[0])
        boxes = []
        for rows, columns in places:
            x, y = self.box.x + int(columns.start * sx), self.box.y + int(rows.start * sy)
            right, bottom = self.box.x + math.ceil(columns.stop * sx), self.box.y + math.ceil(rows.stop * sy)
            boxes.append(Box(x, y, min(right, self.box.right) - x, min(bottom, self.box.bottom) - y))
        return tuple(boxes)

    def shown(self) -> Image.Image:
        """The image with unknown parts hatched in grey, so that nobody takes them for glass."""
        if not self.unknown.any():
            return self.image
        pixels = np.array(self.image)
        rows, columns = np.indices(self.unknown.shape)
        stripe = (rows + columns) // 4 % 2 == 0
        pixels[self.unknown & stripe] = 96
        pixels[self.unknown & ~stripe] = 160
        return Image.fromarray(pixels)


log = logging.getLogger(__name__)

LARGE = 1 << 26
"""Pixels of the coarsest level above which reading it takes many seconds: 67 Mpx."""

MAX_PIXELS = 1 << 26
"""Largest image `read` returns: 67 Mpx, 200 MB as RGB."""


def open_slide(
    path: str | Path,
    mpp: float | None = None,
    mpp_override: float | None = None,
    *,
    isolate: bool = False,
    name: str | None = None,
) -> Slide:
    """Open a whole-slide image, or a plain TIFF, PNG or JPEG.

    `path` may also be a folder that holds one slide, or any file of a DICOM series. `mpp` is µm/px at level 0
    where the file states none, `mpp_override` whatever it states. With `isolate` a child process reads the
    file, within limits of memory and time. With `name` the slide goes by that alone: its
    path is in no error, warning or file made of it. Raises `SlideError` where the file cannot be used or is
    no slide of its own, `MppError` where its scale is missing or absurd.
    """
    if name is None:
        return _opened(Path(path), mpp, mpp_override, isolate, None)
    from core_model.slides.renamed import Alias

    alias = Alias(Path(path), name)
    with alias.renaming():
        return _opened(Path(path), mpp, mpp_override, isolate, alias)


def _opened(
    path: Path, mpp: float | None, mpp_override: float | None, isolate: bool, alias: Alias | None
) -> Slide:
    from core_model.slides.scale import find_scale
    from core_model.slides.sources import WARNING

    path, name, source, identity = _pixels(path, isolate)
    try:
        scale = find_scale(source.properties, mpp, mpp_override, path)
        if alias is not None:
            name, source = alias.name, alias.source(source)
        slide = Slide(path, source, identity, scale.mpp, scale.source, name, (scale.mpp_x, scale.mpp_y))
    except BaseException:
        source.close()
        raise
    warning = source.properties.get(WARNING)
    slide.alias = alias.name if alias is not None else None
    slide.warnings = (*([warning] if warning else []), *scale.warnings)
    for warning in slide.warnings:
        log.warning("%s: %s", slide.name, warning)
    return slide


def _pixels(path: Path, isolate: bool) -> Opened:
    """Where the pixels of a slide come from: this process, a child of it, or a server."""
    from core_model.slides.parts import is_url
    from core_model.slides.sources import NeedsChild

    if is_url(path):
        from core_model.slides.formats.dicomweb import opened_on_server

        return opened_on_server(path)
    if not isolate:
        from core_model.slides.identity import opened

        try:
            return opened(path)
        except NeedsChild:
            pass
    from core_model.slides.isolation.source import open_isolated

    return open_isolated(path)


class Slide:
    """An open slide. Reading is thread-safe; use it as a context manager to free the file."""

    def __init__(
        self,
        path: Path,
        source: PixelSource,
        identity: str,
        mpp: float,
        origin: MppSource,
        name: str | None = None,
        sides: tuple[float, float] | None = None,
    ) -> None:
        self.path, self.id, self.name = path, identity, path.stem if name is None else name
        """Identity is taken from the content, never from the path. The name can be printed anywhere."""
        self.alias: str | None = None
        """The name in place of the file's own, where that must not be told."""
        self.mpp, self.mpp_source = mpp, origin
        self.mpp_x, self.mpp_y = sides or (mpp, mpp)
        """µm per level-0 px along x and y; `mpp` is the side of a square of the same area."""
        self.warnings: tuple[str, ...] = ()
        """What contradicts in what the file states: a sentence each."""
        self.vendor, self.reader = source.vendor, source.reader
        """The scanner's format, and the library that reads it."""
        self.properties = source.properties
        """What the file says of itself, patient data included: never to be shown or written down."""
        self.objective = objective(source.properties)
        """Magnification that the file states, where it does."""
        self.quickhash = source.properties.get("openslide.quickhash-1")
        """OpenSlide's own id, by which version 0.2.0 and earlier knew a slide; None of plain images."""
        self.level_dimensions = source.level_dimensions
        self.width, self.height = self.level_dimensions[0]
        self.level_downsamples = tuple(
            _downsample(self.level_dimensions[0], d) for d in self.level_dimensions
        )
        self.box = Box(0, 0, self.width, self.height)
        self.bounds = _bounds(source.properties, self.box)
        """The scanned part where the file says it (MRXS, SCN), else the whole."""
        self._downsamples: tuple[float, ...] = self.level_downsamples
        self._coarse: CoarseSource | None = None
        self._source = self._with_coarse_level(source)
        self._downsamples += tuple(self.level_downsamples[of] * k for of, k in source.made_levels)
        self._found: dict[Hashable, Any] = {}
        self._finding = threading.RLock()

    def __enter__(self) -> Slide:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Slide({str(self.where)!r}, {self.width}x{self.height} px, {self.mpp:.4g} µm/px)"

    @property
    def where(self) -> object:
        """What an error calls the slide: its path, or the name that stands for it."""
        return self.path if self.alias is None else self.alias

    def close(self) -> None:
        """Free the file; reading afterwards raises `SlideError`."""
        self._source.close()

    def _with_coarse_level(self, source: PixelSource) -> PixelSource:
        """The source, with a level made in memory where its coarsest is too large to be read again."""
        width, height = self.level_dimensions[-1]
        if width * height <= LARGE:
            return source
        from core_model.slides.coarse import CoarseSource, coarse_factor

        factor = coarse_factor((width, height), self.mpp * self.level_downsamples[-1])
        if factor == 1:
            return source
        self._downsamples = (*self.level_downsamples, self.level_downsamples[-1] * factor)
        self._coarse = CoarseSource(source, factor, self.name)
        return self._coarse

    def tell(self, progress: Callable[[int, int], None] | None) -> None:
        """Tell `progress` how many parts of how many are read where the slide has to be read whole."""
        if self._coarse is not None:
            self._coarse.told = progress

    def once(self, key: Hashable, find: Callable[[], T]) -> T:
        """What `find` gives, found once while the slide is open, whoever asks for it under this key."""
        with self._finding:
            if key not in self._found:
                self._found[key] = find()
            found: T = self._found[key]
            return found

    def effective_mpp(self, mpp: float) -> float:
        """The resolution that `read` gives when asked for `mpp`: never finer than the slide's own.

        Pixels of the images are square; where those of the slide are not, their longer side is the finest.
        """
        return max(mpp, self.mpp_x, self.mpp_y)

    @property
    def square(self) -> bool:
        """Whether its pixels are square."""
        return self.mpp_x == self.mpp_y

    def um(self, box: Box) -> tuple[float, float]:
        """Width and height of a box, µm."""
        return box.w * self.mpp_x, box.h * self.mpp_y

    def check(self, box: Box) -> None:
        """Raise `BoxError` with the valid range where `box` leaves the slide or has no area."""
        inside = box.x >= 0 and box.y >= 0 and box.right <= self.width and box.bottom <= self.height
        if inside and box.w > 0 and box.h > 0:
            return
        problem = "leaves the slide" if box.w > 0 and box.h > 0 else "has no area"
        raise BoxError(
            f"box ({box.x}, {box.y}, {box.w}, {box.h}) {problem}",
            where=self.name,
            fix=f"Boxes are x, y, width, height in level-0 pixels within 0 ≤ x < x+w ≤ {self.width}"
            f" and 0 ≤ y < y+h ≤ {self.height}",
        )

    def read(self, box: Box, mpp: float) -> Image.Image:
        """RGB image of `box` at `effective_mpp(mpp)`, each pixel the average over its area.

        Its size is round(box.w · mpp_x / m) by round(box.h · mpp_y / m), at least 1 px. Raises
        `BoxError` for a box off the slide and `RegionUnreadable` where any part does not decode.
        """
        from core_model.slides.resample import read_window
        from core_model.slides.sources import DecodeError

        try:
            return read_window(self._source, self._window(box, mpp))
        except DecodeError as error:
            raise RegionUnreadable(f"box {tuple(box)} does not decode ({error})", where=self.name) from error

    def survey(self, box: Box | None = None, mpp: float = 8.0) -> Survey:
        """A picture of `box` (None: the whole slide) in which parts that do not decode are marked unknown.

        `read` raises in their place: this is for finding one's way.

        Raises `SlideError` where nothing decodes.
        """
        box = box or self.box
        return self._surveyed(self._window(box, mpp), box, self.effective_mpp(mpp))

    def blocks(self, mpp: float, most: int) -> Survey:
        """A picture of the whole slide made of whole pixels of a level, or of blocks of them.

        Nothing is resampled, so it is quick and exact; its resolution is what levels and blocks give, about
        `mpp`, and coarser where more than `most` pixels would be needed. Its last column and row may reach
        beyond the slide. Raises `SlideError` where nothing decodes.
        """
        from core_model.slides.resample import block_window

        size = (self.width, self.height)
        window, span = block_window(self._downsamples, size, self._resolution(mpp) / self.mpp, most)
        return self._surveyed(window, self.box, self.mpp * span)

    def _surveyed(self, window: Window, box: Box, mpp: float) -> Survey:
        from core_model.slides.resample import survey_window

        image, unknown = survey_window(self._source, window)
        if unknown.all():
            raise SlideError(
                "no part of it decodes", where=self.where, fix="Copy the file again from its source"
            )
        return Survey(image, unknown, box, mpp)

    def overview(self, max_px: int = 1024) -> tuple[Image.Image, float]:
        """The scanned part with its long side at most `max_px`, and its mpp; unknown parts are hatched."""
        survey = self.survey(self.bounds, self.overview_mpp(max_px))
        return survey.shown(), survey.mpp

    def overview_mpp(self, max_px: int) -> float:
        """The finest resolution at which the scanned part's long side is at most `max_px`."""
        return self.effective_mpp(max(self.um(self.bounds)) / max_px)

    def _resolution(self, mpp: float) -> float:
        """What `read` gives when asked for `mpp`. Raises `BoxError` where that is no resolution."""
        if not (math.isfinite(mpp) and mpp > 0):
            raise BoxError(f"{mpp} µm/px is no resolution", where=self.name)
        return self.effective_mpp(mpp)

    def image_size(self, sides: tuple[int, int], mpp: float) -> tuple[int, int]:
        """Width and height, px, of the image of a box w x h level-0 px, as `read` gives it."""
        shown = self._resolution(mpp)
        fx, fy = shown / self.mpp_x, shown / self.mpp_y
        return max(1, round(sides[0] / fx)), max(1, round(sides[1] / fy))

    def level_for(self, mpp: float) -> tuple[int, float]:
        """The level of the file that an image at `mpp` is made from, and how many level-0 px its px span.

        A level that the decoder makes counts as the stored one that it is made from.
        """
        shown = self._resolution(mpp)
        level, d = self._level(shown / max(self.mpp_x, self.mpp_y))
        if level >= len(self.level_downsamples):
            level = max(i for i, stored in enumerate(self.level_downsamples) if stored <= d)
        return level, d

    def _level(self, step: float) -> tuple[int, float]:
        """The coarsest level whose px span no more than `step` level-0 px, and how many they span."""
        near = [i for i, d in enumerate(self._downsamples) if i == 0 or d <= step * 1.005]
        level = max(near, key=self._downsamples.__getitem__)
        return level, self._downsamples[level]

    def _window(self, box: Box, mpp: float) -> Window:
        from core_model.slides.resample import Window

        self.check(box)
        out_w, out_h = self.image_size(box[2:], mpp)
        if out_w * out_h > MAX_PIXELS:
            raise BoxError(
                f"box {tuple(box)} would be {out_w} x {out_h} px at {self.effective_mpp(mpp):.4g} µm/px",
                where=self.name,
                fix="Ask for a smaller box or a coarser mpp",
            )
        step = min(box.w / out_w, box.h / out_h)  # less where the box is smaller than a pixel
        level, d = self._level(step)
        return Window(level, box.x / d, box.y / d, box.right / d, box.bottom / d, out_w, out_h)


def _downsample(base: tuple[int, int], level: tuple[int, int]) -> float:
    """How many level-0 px one pixel of a level spans.

    Levels are made by whole factors and cropped; the plain ratio of sizes would let places drift by up
    to a level pixel across the slide, so a whole factor that explains the size is taken. Where a side is so
    short that its ratio says little, the long one decides.
    """
    ratios = [b / size for b, size in zip(base, level, strict=True)]
    mean, longer = sum(ratios) / 2, ratios[level[1] > level[0]]
    doubled = 2.0 ** round(math.log2(longer))
    for factor in (float(round(mean)), doubled, float(round(longer)), mean):
        if all(abs(b / factor - size) < 1 for b, size in zip(base, level, strict=True)):
            return factor
    return longer


def _bounds(properties: Mapping[str, str], whole: Box) -> Box:
    values = [properties.get(f"openslide.bounds-{k}") for k in ("x", "y", "width", "height")]
    try:
        bounds = Box(*(int(v) for v in values if v is not None))
    except (TypeError, ValueError):
        return whole
    return bounds.intersect(whole) or whole
