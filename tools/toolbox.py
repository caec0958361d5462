"""The tools bound to one slide and one model."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ValidationError

from core_model.errors import BoxError, FeatureStoreError
from core_model.slides.slide import Box, Slide
from tools.ask_region import ask_region
from tools.overview import overview
from tools.pan import pan
from tools.records import AskRegionArgs, Observation, OverviewArgs, PanArgs, RetrieveArgs, ZoomArgs
from tools.render import Frame, framed, pixels_sha256, save_jpeg
from tools.retrieve import retrieve
from tools.zoom import zoom

if TYPE_CHECKING:
    from PIL import Image

    from core_model.features.extract import Progress
    from core_model.features.store import FeatureStore, TileFeatures
    from core_model.slides.tissue import TissueMask
    from tools.index import TileIndex

log = logging.getLogger(__name__)

Space = Literal["tile", "text"]


@dataclass(frozen=True)
class Tool:
    """One tool: its arguments, what runs it, and one line on it for whoever chooses."""

    args: type[BaseModel]
    run: Callable[[Toolbox, Any], Observation]
    about: str


TOOLS: Mapping[str, Tool] = {
    "overview": Tool(OverviewArgs, overview, "Show the whole slide and say where its tissue lies."),
    "zoom": Tool(ZoomArgs, zoom, "Show a box (x, y, w, h in level-0 px) at a resolution in µm/px."),
    "pan": Tool(PanArgs, pan, "Show the neighbour of the box shown last."),
    "retrieve": Tool(RetrieveArgs, retrieve, "Find the tiles most like a box, or most like a phrase."),
    "ask_region": Tool(AskRegionArgs, ask_region, "Ask the slide model a question about a box."),
}


class Toolbox:
    """`Toolbox(slide, model).zoom(box, mpp)` and its siblings, each returning an `Observation`.

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
        self._indexes: dict[Space, TileIndex] = {}

    def overview(self) -> Observation:
        """The whole slide, its tissue, and what cannot be read."""
        return self.call("overview", {})

    def zoom(self, box: Box, mpp: float) -> Observation:
        """`box` at `mpp` µm/px."""
        return self.call("zoom", {"box": box, "mpp": mpp})

    def pan(self, direction: str, fraction: float = 0.5) -> Observation:
        """The neighbour of the box shown last: left, right, up or down by `fraction` of its size."""
        return self.call("pan", {"direction": direction, "fraction": fraction})

    def retrieve(self, box: Box | None = None, text: str | None = None, k: int = 5) -> Observation:
        """The `k` tiles most like a box or a phrase."""
        return self.call("retrieve", {"box": box, "text": text, "k": k})

    def ask_region(self, box: Box, question: str, options: Iterable[str] | None = None) -> Observation:
        """The model's answer to `question` about `box`, chosen from `options` where there are any."""
        choices = tuple(options) if options is not None else None
        return self.call("ask_region", {"box": box, "question": question, "options": choices})

    def call(self, name: str, args: Mapping[str, Any]) -> Observation:
        """Run a tool by name. A mistake of the caller becomes an observation naming what is valid."""
        tool = TOOLS.get(name)
        if tool is None:
            text = f"There is no tool “{name}”. The tools are {', '.join(TOOLS)}."
            return Observation(tool=name, ok=False, text=text)
        try:
            return tool.run(self, _parse(tool.args, args))
        except _BadArgs as error:
            return Observation(tool=name, ok=False, text=f"Refused: {error}.")
        except BoxError as error:
            # Not str(error): that names the file, and file names may hold patient data.
            return Observation(tool=name, ok=False, text=f"Refused: {error.what}. {error.fix}.")

    @cached_property
    def features(self) -> TileFeatures:
        """Features of the slide's tiles, computed once."""
        from core_model.features.extract import extract

        if self._given is not None:
            return self._given
        encoder = self.model.tile_encoder
        return extract(self.slide, encoder, self._store, self._progress, tissue=self.tissue)

    @cached_property
    def tissue(self) -> TissueMask:
        """Where the slide's tissue is."""
        from core_model.slides.tissue import find_tissue

        return find_tissue(self.slide)

    def index(self, space: Space) -> TileIndex:
        """Index of the slide's tiles in the tile encoder's space ("tile") or the text tower's ("text")."""
        if space not in self._indexes:
            self._indexes[space] = self._make_index(space)
        return self._indexes[space]

    def shown(
        self, tool: str, text: str, image: Image.Image, box: Box, mpp: float, data: Mapping[str, Any]
    ) -> Observation:
        """The observation of a region. Its image is kept, where there is a folder; same look, same name."""
        name = pixels = written = None
        if self.folder is not None:
            name = f"regions/{tool}-{box.x}-{box.y}-{box.w}-{box.h}-{mpp:.4g}um.jpg"
            path = self.folder / name
            save_jpeg(framed(image, box, self.slide.mpp, mpp, self.frame), path)
            written = hashlib.sha256(path.read_bytes()).hexdigest()
            pixels = pixels_sha256(image)
        return Observation(
            tool=tool,
            text=text,
            box=box,
            mpp=mpp,
            image=name,
            pixels_sha256=pixels,
            image_sha256=written,
            data={**data, "width_px": image.width, "height_px": image.height},
        )

    def _make_index(self, space: Space) -> TileIndex:
        from tools.index import TileIndex

        if space == "tile":
            return TileIndex.build(self.features.features, self.features)
        about = self._text_index_identity()
        if self._store is None or about is None:
            return TileIndex.build(self.model.embed_tiles(self.features), self.features)
        path = self._store.path(self.slide, self.model.tile_encoder.name).with_suffix(".text.safetensors")
        if path.exists():
            try:
                return TileIndex.load(path, about)
            except FeatureStoreError as error:
                log.warning("%s", error)
        index = TileIndex.build(self.model.embed_tiles(self.features), self.features)
        index.save(path, about)
        return index

    def _text_index_identity(self) -> dict[str, str] | None:
        """What a stored text index must agree on; None where its model cannot be told from another."""
        manifest = Path(self.model.folder) / "manifest.json"
        if self._given is not None or not manifest.is_file():
            return None
        return {
            "slide": self.slide.id,
            "slide_mpp": repr(self.slide.mpp),
            "tiles": hashlib.sha256(self.features.features.tobytes()).hexdigest(),
            "model": hashlib.sha256(manifest.read_bytes()).hexdigest(),
        }


class _BadArgs(Exception):
    """Arguments that do not fit the tool, in one line."""


def _parse(model: type[BaseModel], args: Mapping[str, Any]) -> BaseModel:
    try:
        return model.model_validate(dict(args))
    except ValidationError as error:
        parts = (
            f"{'.'.join(str(p) for p in item['loc']) or 'arguments'}: {item['msg']}"
            for item in error.errors(include_url=False)
        )
        raise _BadArgs("; ".join(parts).replace("Value error, ", "")) from error
