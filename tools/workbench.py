"""What the tools share: a slide, a model, its features, tissue and indexes, and where images go."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from core_model.errors import FeatureStoreError
from core_model.slides.box import Box
from core_model.slides.slide import Slide
from tools.records import Observation
from tools.render import Frame, framed, pixels_sha256, save_jpeg

if TYPE_CHECKING:
    from PIL import Image

    from core_model.features.extract import Progress
    from core_model.features.store import FeatureStore
    from core_model.features.tiles import TileFeatures
    from core_model.slides.tissue import TissueMask
    from core_model.specimen.annotations import Annotations
    from core_model.specimen.quality import Quality
    from core_model.specimen.sections import Layout
    from tools.cohort.index import CohortIndex
    from tools.index import TileIndex

log = logging.getLogger(__name__)

Space = Literal["tile", "text"]


class Workbench:
    """One slide and one model, with what is computed of them once.

    `model` is a `core_model.WsiLlava` or anything with its methods. `features` may be given ready, or
    come from `store`, or are computed when first needed. Images are kept under `folder/regions`; without
    a folder observations carry none.
    """

    def __init__(
        self,
        slide: Slide,
        model: Any,
        *,
        features: TileFeatures | None = None,
        store: FeatureStore | None = None,
        folder: str | Path | None = None,
        progress: Progress | None = None,
        frame: Frame = Frame(),  # noqa: B008 - frozen
    ) -> None:
        self.slide, self.model = slide, model
        self.frame = frame
        """How regions are put into images."""
        self.folder = Path(folder) if folder is not None else None
        self.last_shown: tuple[Box, float] | None = None
        """Box and resolution that `pan` starts from. Whoever resumes a run sets it again."""
        self._given, self._store, self._progress = features, store, progress
        self._regions: Annotations | None = None
        self.cohort: CohortIndex | None = None
        """Tiles of other slides that `retrieve` names beside its own, where somebody gave an index."""
        if progress is not None:
            slide.tell(progress)
        self._indexes: dict[Space, TileIndex] = {}

    def restrict(self, regions: Annotations) -> None:
        """From now on only tissue in these regions is there; call before anything is looked at."""
        self._regions = regions

    @cached_property
    def features(self) -> TileFeatures:
        """Features of the slide's tiles, computed once."""
        from core_model.features.extract import extract

        if self._given is not None:
            return self._given
        encoder = self.model.tile_encoder
        if self._regions is not None and self._store is not None:
            from core_model.features.grid import MIN_TISSUE, tile_grid
            from tools.chosen import chosen_features

            grid = tile_grid(self.slide, self.tissue, encoder.tile_um, MIN_TISSUE)
            return chosen_features(self.slide, encoder, grid, self._store, self._progress)
        return extract(self.slide, encoder, self._store, self._progress, tissue=self.tissue)

    @cached_property
    def tissue(self) -> TissueMask:
        """Where the slide's tissue is."""
        from core_model.slides.tissue import find_tissue

        tissue = find_tissue(self.slide)
        return tissue if self._regions is None else self._regions.within(tissue)

    @cached_property
    def layout(self) -> Layout:
        """The sections or cores that the tissue forms."""
        from core_model.specimen.sections import find_layout

        return find_layout(self.tissue)

    @cached_property
    def quality(self) -> Quality:
        """Which tissue is out of focus."""
        from core_model.specimen.quality import find_quality

        return find_quality(self.slide, self.tissue)

    def tiles_in(self, box: Box) -> TileFeatures:
        """The tiles that the model is asked about for a box: those in it that are not out of focus."""
        return self._sharp if box == self.slide.box else self._sharp.inside(box)

    @cached_property
    def _sharp(self) -> TileFeatures:
        tiles = self.features
        blurred = self.quality.are_blurred(tiles.coords, *tiles.sides)
        if not blurred.any():
            return tiles
        return replace(tiles, features=tiles.features[~blurred], coords=tiles.coords[~blurred])

    def place_data(self, box: Box) -> dict[str, Any]:
        """What is to be told of a place: its section or core, and how much of its tissue is out of focus."""
        part, blurred = self.layout.words(box), round(self.quality.blurred_in(box), 4)
        return ({"part": part} if part else {}) | ({"out_of_focus": blurred} if blurred else {})

    def index(self, space: Space) -> TileIndex:
        """Index of the slide's tiles in the tile encoder's space ("tile") or the text tower's ("text")."""
        if space not in self._indexes:
            self._indexes[space] = self._make_index(space)
        return self._indexes[space]

    def shown(
        self, tool: str, text: str, image: Image.Image, box: Box, mpp: float, data: Mapping[str, Any]
    ) -> Observation:
        """The observation of a region. Its image is kept, where there is a folder; same look, same name."""
        name = pixels = image_sha = None
        if self.folder is not None:
            name = f"regions/{tool}-{box.x}-{box.y}-{box.w}-{box.h}-{mpp:.4g}um.jpg"
            path = self.folder / name
            save_jpeg(framed(image, box, self.slide.mpp_x, mpp, self.frame), path)
            image_sha = hashlib.sha256(path.read_bytes()).hexdigest()
            pixels = pixels_sha256(image)
        return Observation(
            tool=tool,
            text=text,
            box=box,
            mpp=mpp,
            image=name,
            pixels_sha256=pixels,
            image_sha256=image_sha,
            data={**data, "width_px": image.width, "height_px": image.height},
        )

    def _make_index(self, space: Space) -> TileIndex:
        from tools.index import TileIndex

        if space == "tile":
            return TileIndex.build(self.features.features, self.features)
        identity = self._text_index_identity()
        if self._store is None or identity is None:
            return TileIndex.build(self.model.embed_tiles(self.features), self.features)
        path = self._store.path(self.slide, self.model.tile_encoder.name).with_suffix(".text.safetensors")
        if path.exists():
            try:
                return TileIndex.load(path, identity)
            except FeatureStoreError as error:
                log.warning("%s", error)
        index = TileIndex.build(self.model.embed_tiles(self.features), self.features)
        try:
            index.save(path, identity)
        except FeatureStoreError as error:
            if not self._store.spares(error):
                raise
        return index

    def _text_index_identity(self) -> dict[str, str] | None:
        """The facts by which a stored text index is known; None where the model has no manifest."""
        manifest = Path(self.model.folder) / "manifest.json"
        if self._given is not None or not manifest.is_file():
            return None
        return {
            "slide": self.slide.id,
            "slide_mpp": repr(self.slide.mpp),
            "tiles": hashlib.sha256(self.features.features.tobytes()).hexdigest(),
            "model": hashlib.sha256(manifest.read_bytes()).hexdigest(),
        }
